/* vocab_gguf.c - a vocabulary from the metadata of a GGUF file. */
#include "base/log.h"
#include "token/token_int.h"

#define KEY(name) "tokenizer.ggml." name

static bool span_is(sl_span s, const char *text)
{
    return sl_span_eq(s, sl_span_str(text));
}

static sl_status read_kind(token_vocab *v, const gguf_dir *dir, sl_err *err)
{
    sl_span model = gguf_get_str(dir, KEY("model"));

    v->escape_ws = true;
    if (span_is(model, "llama")) {
        v->kind = KIND_SPM;
        v->add_bos = v->add_space_prefix = true;
        v->bos = 1, v->eos = 2, v->unk = 0;
    } else if (span_is(model, "bert")) {
        v->kind = KIND_WPM;
        v->add_bos = v->add_sep = v->lowercase = v->strip_accents = true;
        v->bos = 101, v->sep = 102, v->unk = 100;
    } else if (span_is(model, "gpt2") || span_is(model, "gemma4") || span_is(model, "hybriddna") ||
               span_is(model, "whitespace")) {
        v->kind = KIND_BPE;
        v->byte_level = true;
        v->bos = v->eos = 11;
    } else {
        return sl_fail(err, SL_ENOTSUP, "tokenizer.ggml.model '%.*s' is not supported",
                       (int)SL_MIN(model.len, 64), model.ptr ? (const char *)model.ptr : "");
    }
    return SL_OK;
}

static sl_status read_pre(token_vocab *v, const gguf_dir *dir, sl_err *err)
{
    sl_span pre = gguf_get_str(dir, KEY("pre"));
    const pretok_rule *rule;

    if (!pre.len && span_is(gguf_get_str(dir, KEY("model")), "gemma4"))
        pre = sl_span_str("gemma4");
    memcpy(v->pre, pre.len ? (const char *)pre.ptr : "", SL_MIN(pre.len, sizeof v->pre - 1));
    if (v->kind != KIND_BPE)
        return SL_OK;
    rule = pretok_find(v->pre);
    if (!rule) {
        rule = pretok_default();
        if (strcmp(v->pre, "default") != 0)
            SL_LOG(SL_LOG_WARN, "token.unknown_pre_tokenizer", SL_F_STR("pre", v->pre),
                   SL_F_STR("effect", "default rule; output may be silently bad"));
    }
    v->byte_level = !rule->raw;
    v->escape_ws = rule->raw && strcmp(v->pre, "whitespace") != 0;
    v->ignore_merges = rule->ignore_merges;
    v->add_bos = rule->add_bos;
    v->add_sep = rule->add_sep;
    return pretok_init(&v->split, rule, err);
}

static int32_t get_id(const gguf_dir *dir, const char *key, int32_t fallback)
{
    int64_t id = gguf_get_int(dir, key, fallback);

    return id < 0 || id > INT32_MAX ? -1 : (int32_t)id;
}

static void read_flags(token_vocab *v, const gguf_dir *dir)
{
    v->bos = get_id(dir, KEY("bos_token_id"), v->bos);
    v->eos = get_id(dir, KEY("eos_token_id"), v->eos);
    v->eot = get_id(dir, KEY("eot_token_id"), -1);
    v->eom = get_id(dir, KEY("eom_token_id"), -1);
    v->unk = get_id(dir, KEY("unknown_token_id"), v->unk);
    v->sep = get_id(dir, KEY("seperator_token_id"), v->sep);
    if (v->kind == KIND_WPM)
        v->bos = get_id(dir, KEY("cls_token_id"), v->bos);
    v->add_bos = gguf_get_bool(dir, KEY("add_bos_token"), v->add_bos);
    v->add_eos = gguf_get_bool(dir, KEY("add_eos_token"), v->add_eos);
    v->add_sep = gguf_get_bool(dir, KEY("add_sep_token"), v->add_sep);
    v->add_space_prefix = gguf_get_bool(dir, KEY("add_space_prefix"), v->add_space_prefix);
    v->lowercase = gguf_get_bool(dir, KEY("normalizer.lowercase"), v->lowercase);
    v->strip_accents = gguf_get_bool(dir, KEY("normalizer.strip_accents"), v->lowercase);
}

static sl_status read_tokens(token_vocab *v, const gguf_dir *dir, sl_err *err)
{
    const gguf_kv *toks = gguf_find(dir, KEY("tokens"));
    const gguf_kv *types = gguf_find(dir, KEY("token_type")),
                  *scores = gguf_find(dir, KEY("scores"));
    size_t cursor = 0;

    if (!toks || toks->type != GGUF_ARRAY || toks->elem_type != GGUF_STRING || !toks->count)
        return sl_fail(err, SL_EFORMAT, "tokenizer.ggml.tokens is missing or no string array");
    if (toks->count > SL_MODEL_VOCAB_MAX)
        return sl_fail(err, SL_ELIMIT, "tokenizer.ggml.tokens: too many");
    if (types && (types->type != GGUF_ARRAY || types->elem_type == GGUF_STRING ||
                  types->count != toks->count))
        return sl_fail(err, SL_EFORMAT, "tokenizer.ggml.token_type does not fit the tokens");
    if (scores && (scores->type != GGUF_ARRAY || scores->elem_type == GGUF_STRING ||
                   scores->count != toks->count))
        return sl_fail(err, SL_EFORMAT, "tokenizer.ggml.scores does not fit the tokens");
    v->toks = sl_calloc(toks->count, sizeof *v->toks);
    if (!v->toks)
        return sl_fail(err, SL_ENOMEM, "vocabulary");
    v->count = toks->count;
    for (size_t i = 0; i < v->count; i++) {
        int64_t type = types ? gguf_array_int(types, i) : TOK_NORMAL;
        double score = scores ? gguf_array_float(scores, i) : 0;

        if (vocab_add(v, i, gguf_array_next_str(toks, &cursor),
                      type < 0 || type > TOK_BYTE ? TOK_NORMAL : (int)type, (float)score) != SL_OK)
            return sl_fail(err, SL_ENOMEM, "vocabulary");
    }
    return SL_OK;
}

static sl_status read_merges(token_vocab *v, const gguf_dir *dir, sl_err *err)
{
    const gguf_kv *kv = gguf_find(dir, KEY("merges"));
    size_t cursor = 0;

    if (v->kind != KIND_BPE)
        return SL_OK;
    if (kv && (kv->type != GGUF_ARRAY || kv->elem_type != GGUF_STRING))
        return sl_fail(err, SL_EFORMAT, "tokenizer.ggml.merges is no string array");
    if (vocab_merges_init(v, kv ? kv->count : 0) != SL_OK)
        return sl_fail(err, SL_ENOMEM, "merges");
    for (size_t i = 0; kv && i < kv->count; i++) {
        sl_span s = gguf_array_next_str(kv, &cursor);
        const uint8_t *sp = s.len > 1 ? memchr(s.ptr + 1, ' ', s.len - 1) : NULL;

        if (sp)
            vocab_merge_add(v, sl_span_of(s.ptr, (size_t)(sp - s.ptr)),
                            sl_span_of(sp + 1, (size_t)(s.ptr + s.len - sp - 1)), (uint32_t)i);
    }
    return SL_OK;
}

static void mark_strips(token_vocab *v, const gguf_dir *dir)
{
    sl_span name = gguf_get_str(dir, "general.name");
    char low[128] = { 0 };

    for (size_t i = 0; i < name.len && i < sizeof low - 1; i++)
        low[i] = (char)(name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? name.ptr[i] + 32 : name.ptr[i]);
    if (strstr(low, "phi-3") || strstr(low, "phi3")) {
        static const char *const plain[] = { "<unk>", "<s>", "<|endoftext|>" };

        for (size_t i = 0; i < v->count; i++)
            v->toks[i].rstrip = v->toks[i].type == TOK_CONTROL || v->toks[i].type == TOK_USER ||
                                v->toks[i].type == TOK_UNKNOWN;
        for (size_t i = 0; i < SL_COUNT_OF(plain); i++) {
            int32_t id = token_find(v, plain[i], strlen(plain[i]));
            if (id >= 0)
                v->toks[id].rstrip = false;
        }
    }
    int32_t mask = strstr(v->pre, "jina-v2-")       ? token_find(v, "<mask>", 6)
                   : !strcmp(v->pre, "modern-bert") ? token_find(v, "[MASK]", 6)
                                                    : -1;
    if (mask >= 0)
        v->toks[mask].lstrip = true;
}

sl_status token_vocab_from_gguf(const gguf_dir *dir, token_vocab **ret, sl_err *err)
{
    token_vocab *v = sl_calloc(1, sizeof *v);
    sl_status st;

    if (!v)
        return sl_fail(err, SL_ENOMEM, "vocabulary");
    sl_buf_init(&v->pool, UINT32_MAX);
    v->bos = v->eos = v->eot = v->eom = v->unk = v->sep = -1;
    if ((st = read_kind(v, dir, err)) != SL_OK || (st = read_pre(v, dir, err)) != SL_OK)
        goto fail;
    read_flags(v, dir);
    if ((st = read_tokens(v, dir, err)) != SL_OK || (st = read_merges(v, dir, err)) != SL_OK ||
        (st = vocab_finish(v, err)) != SL_OK)
        goto fail;
    mark_strips(v, dir);
    *ret = v;
    return SL_OK;
fail:
    token_vocab_destroy(v);
    return st;
}
