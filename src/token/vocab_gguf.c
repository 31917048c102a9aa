/* vocab_gguf.c - a vocabulary from GGUF metadata, with the defaults and corrections that files in
 * circulation need. */
#include "token/token_int.h"

#include "base/log.h"

static const gguf_kv *string_array(const gguf_dir *dir, const char *key)
{
    const gguf_kv *kv = gguf_find(dir, key);

    return kv && kv->type == GGUF_ARRAY && kv->elem_type == GGUF_STRING ? kv : NULL;
}

static const gguf_kv *number_array(const gguf_dir *dir, const char *key, uint64_t count)
{
    const gguf_kv *kv = gguf_find(dir, key);

    return kv && kv->type == GGUF_ARRAY && kv->elem_type != GGUF_STRING && kv->count >= count
               ? kv
               : NULL;
}

static sl_status load_tokens(const gguf_dir *dir, token_vocab *v, sl_err *err)
{
    const gguf_kv *tokens = string_array(dir, "tokenizer.ggml.tokens"), *scores, *types;
    size_t cursor = 0;

    if (!tokens || !tokens->count)
        return sl_fail(err, SL_EFORMAT, "tokenizer.ggml.tokens is missing");
    if (tokens->count > SL_MODEL_VOCAB_MAX)
        return sl_fail(err, SL_ELIMIT, "a vocabulary of %llu tokens",
                       (unsigned long long)tokens->count);
    scores = number_array(dir, "tokenizer.ggml.scores", tokens->count);
    types = number_array(dir, "tokenizer.ggml.token_type", tokens->count);
    if ((v->kind == VOCAB_SPM || v->kind == VOCAB_UNIGRAM) && !scores)
        return sl_fail(err, SL_EFORMAT, "tokenizer.ggml.scores is missing or short");
    for (uint64_t i = 0; i < tokens->count; i++) {
        sl_span s = gguf_array_next_str(tokens, &cursor);
        int64_t type = types ? gguf_array_int(types, i) : TT_NORMAL;
        double score = scores ? gguf_array_float(scores, i) : 0;

        if (type < TT_NORMAL || type > TT_BYTE)
            type = TT_NORMAL;
        if (!vocab_add(v, (const char *)s.ptr, s.len, (token_type)type, (float)score))
            return sl_fail(err, SL_ENOMEM, "vocabulary of %llu tokens",
                           (unsigned long long)tokens->count);
        v->token_bytes_max = SL_MAX(v->token_bytes_max, s.len);
    }
    return SL_OK;
}

static sl_status load_merges(const gguf_dir *dir, token_vocab *v, sl_err *err)
{
    const gguf_kv *merges = string_array(dir, "tokenizer.ggml.merges");
    size_t cursor = 0;

    if (!merges && strcmp(v->pre, "kimi-k2") != 0)
        return sl_fail(err, SL_EFORMAT, "tokenizer.ggml.merges is missing");
    SL_TRY(bpe_merges_init(v, merges ? (size_t)merges->count : 0, err));
    for (uint64_t i = 0; merges && i < merges->count; i++) {
        sl_span s = gguf_array_next_str(merges, &cursor);
        const char *text = (const char *)s.ptr,
                   *cut = s.len > 1 ? memchr(text + 1, ' ', s.len - 1) : NULL;

        if (cut)
            SL_TRY(bpe_merge_add(v, text, (size_t)(cut - text), cut + 1,
                                 s.len - (size_t)(cut - text) - 1, (int32_t)i, err));
    }
    return bpe_finish(v, err);
}

static int32_t special_id(const gguf_dir *dir, const token_vocab *v, const char *key,
                          int32_t fallback)
{
    int64_t id = gguf_get_int(dir, key, fallback);

    if (id < 0 || (uint64_t)id >= v->spelling.count)
        id = fallback;
    return id >= 0 && (uint64_t)id < v->spelling.count ? (int32_t)id : -1;
}

static sl_status choose_kind(const gguf_dir *dir, token_vocab *v, sl_err *err)
{
    sl_span model = gguf_get_str(dir, "tokenizer.ggml.model");

    v->byte_fallback = true;
    if (sl_span_eq(model, sl_span_str("llama"))) {
        v->kind = VOCAB_SPM;
        v->escape_spaces = v->add_space_prefix = v->prefix_each = v->add_bos = true;
    } else if (sl_span_eq(model, sl_span_str("bert"))) {
        v->kind = VOCAB_WPM;
        v->add_bos = true;
    } else if (sl_span_eq(model, sl_span_str("gpt2")) || sl_span_eq(model, sl_span_str("gemma4"))) {
        v->kind = VOCAB_BPE;
        v->byte_level = true;
    } else if (sl_span_eq(model, sl_span_str("t5"))) {
        v->kind = VOCAB_UNIGRAM;
        v->byte_fallback = false;
        v->add_space_prefix = v->prefix_each = true;
    } else if (!model.len) {
        return sl_fail(err, SL_EFORMAT, "tokenizer.ggml.model is missing");
    } else {
        return sl_fail(err, SL_ENOTSUP,
                       "tokenizer model \"%.*s\" (supported: gpt2, llama, bert, t5)",
                       (int)SL_MIN(model.len, 40), (const char *)model.ptr);
    }
    return SL_OK;
}

static void warn_pre(const token_vocab *v)
{
    SL_LOG(SL_LOG_WARN, "token.pretokenizer_unknown", SL_F_STR("pre", v->pre),
           SL_F_STR("effect", "using the default rule: the model may answer worse than it can"));
}

static sl_status choose_pre(const gguf_dir *dir, token_vocab *v, sl_err *err)
{
    sl_span pre = gguf_get_str(dir, "tokenizer.ggml.pre");
    const pre_rule *rule;
    bool known;

    if (sl_span_eq(gguf_get_str(dir, "tokenizer.ggml.model"), sl_span_str("gemma4")))
        pre = sl_span_str("gemma4");
    memcpy(v->pre, pre.len ? (const char *)pre.ptr : "", SL_MIN(pre.len, sizeof v->pre - 1));
    rule = pre_rule_find(v->pre, strlen(v->pre), &known);
    if (!known)
        warn_pre(v);
    v->ignore_merges = rule->flags & PRE_IGNORE_MERGES;
    v->add_bos = rule->flags & (PRE_ADD_BOS | PRE_FORCE_BOS);
    v->byte_level = !(rule->flags & PRE_RAW);
    v->escape_spaces = rule->flags & PRE_ESCAPE;
    v->newline_runs = rule->flags & PRE_NEWLINES;
    v->word_spaces = rule->flags & PRE_WORDS;
    return pre_rule_build(rule, true, &v->pretok, err);
}

/* Which ids the metadata name, and what stands in front of and behind a text. */
static void choose_ids(const gguf_dir *dir, token_vocab *v)
{
    bool spm = v->kind == VOCAB_SPM || v->kind == VOCAB_UNIGRAM, wpm = v->kind == VOCAB_WPM, known;
    const pre_rule *rule = pre_rule_find(v->pre, strlen(v->pre), &known);
    bool no_bos = v->kind == VOCAB_BPE && (rule->flags & (PRE_NO_BOS | PRE_RAW));

    v->bos = special_id(dir, v, "tokenizer.ggml.bos_token_id",
                        wpm      ? 101
                        : spm    ? 1
                        : no_bos ? -1
                                 : 11);
    if (wpm) /* real files name [CLS] in either key */
        v->bos = special_id(dir, v, "tokenizer.ggml.cls_token_id", v->bos);
    v->eos = special_id(dir, v, "tokenizer.ggml.eos_token_id", spm ? 2 : wpm || no_bos ? -1 : 11);
    v->unk = special_id(dir, v, "tokenizer.ggml.unknown_token_id", wpm ? 100 : spm ? 0 : -1);
    v->sep = special_id(dir, v, "tokenizer.ggml.seperator_token_id", wpm ? 102 : -1);
    v->add_space_prefix =
        gguf_get_bool(dir, "tokenizer.ggml.add_space_prefix", v->add_space_prefix) && spm;
    v->add_bos = gguf_get_bool(dir, "tokenizer.ggml.add_bos_token", v->add_bos);
    if (v->kind == VOCAB_BPE && (rule->flags & PRE_FORCE_BOS))
        v->add_bos = true;
    v->add_eos = gguf_get_bool(dir, "tokenizer.ggml.add_eos_token", v->add_eos);
    v->lowercase = gguf_get_bool(dir, "tokenizer.ggml.normalizer.lowercase", wpm);
    v->strip_accents = gguf_get_bool(dir, "tokenizer.ggml.normalizer.strip_accents", v->lowercase);
    if (v->add_bos || wpm)
        vocab_frame_put(v->prefix, &v->prefix_len, v->bos);
    if (wpm)
        vocab_frame_put(v->suffix, &v->suffix_len, v->sep);
    else if (v->add_eos)
        vocab_frame_put(v->suffix, &v->suffix_len, v->eos);
}

static void mark_control_eog(const gguf_dir *dir, token_vocab *v)
{
    static const char *const keys[] = { "tokenizer.ggml.eot_token_id",
                                        "tokenizer.ggml.eom_token_id" };

    for (size_t i = 0; i < SL_COUNT_OF(keys); i++) {
        int32_t id = special_id(dir, v, keys[i], -1);

        if (id >= 0)
            v->flags[id] |= TF_EOG;
    }
    vocab_mark_eog(v);
}

/* Per-token stripping of space, which GGUF has no key for: known from the models themselves. */
static void choose_strips(const gguf_dir *dir, token_vocab *v)
{
    sl_span name = gguf_get_str(dir, "general.name");
    char low[64] = "";
    int32_t id = -1;

    for (size_t i = 0; i < name.len && i + 1 < sizeof low; i++)
        low[i] = (char)(name.ptr[i] | (name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? 0x20 : 0));
    if (strstr(v->pre, "jina-v2-"))
        id = token_find(v, "<mask>", 6);
    else if (strcmp(v->pre, "modern-bert") == 0)
        id = token_find(v, "[MASK]", 6);
    if (id >= 0)
        v->flags[id] |= TF_LSTRIP;
    if (!strstr(low, "phi-3") && !strstr(low, "phi3"))
        return;
    for (size_t i = 0; i < v->special_count; i++) {
        sl_span s = str_list_get(&v->spelling, (size_t)v->specials[i].id);

        if (!sl_span_eq(s, sl_span_str("<unk>")) && !sl_span_eq(s, sl_span_str("<s>")) &&
            !sl_span_eq(s, sl_span_str("<|endoftext|>")))
            v->flags[v->specials[i].id] |= TF_RSTRIP;
    }
}

/* SentencePiece's normaliser: its map, spaces in a row as one, a space in front, and the mark. */
static sl_status load_unigram_norm(const gguf_dir *dir, token_vocab *v, sl_err *err)
{
    const gguf_kv *map = gguf_find(dir, "tokenizer.ggml.precompiled_charsmap");
    const sl_span none = { 0 }, space = sl_span_str(" "), mark = sl_span_str("\xe2\x96\x81");

    v->norm = normalizer_new();
    if (!v->norm)
        return sl_fail(err, SL_ENOMEM, "vocabulary");
    if (map && map->type == GGUF_ARRAY && map->count > 0) {
        sl_buf blob;
        sl_status status;

        if (map->elem_type == GGUF_STRING || map->count > SL_JSON_BYTES_MAX)
            return sl_fail(err, SL_EFORMAT, "tokenizer.ggml.precompiled_charsmap is malformed");
        sl_buf_init(&blob, SL_JSON_BYTES_MAX);
        for (uint64_t i = 0; i < map->count; i++)
            sl_buf_putc(&blob, (char)gguf_array_int(map, i));
        status = sl_buf_ok(&blob, "character map", err);
        if (status == SL_OK)
            status = normalizer_add(v->norm, NORM_CHARSMAP, NORM_LONGEST,
                                    sl_span_of(blob.ptr, blob.len), none, err);
        sl_buf_deinit(&blob);
        SL_TRY(status);
    }
    if (gguf_get_bool(dir, "tokenizer.ggml.remove_extra_whitespaces", false)) {
        SL_TRY(normalizer_add(v->norm, NORM_REPLACE_REGEX, 0, sl_span_str(" +"), space, err));
        SL_TRY(normalizer_add(v->norm, NORM_STRIP, NORM_LEFT | NORM_RIGHT, none, none, err));
    }
    SL_TRY(normalizer_add(v->norm, NORM_REPLACE, 0, space, mark, err));
    return v->add_space_prefix ? normalizer_add(v->norm, NORM_PREPEND, 0, none, mark, err) : SL_OK;
}

static sl_status load(const gguf_dir *dir, token_vocab *v, sl_err *err)
{
    SL_TRY(choose_kind(dir, v, err));
    if (v->kind == VOCAB_BPE)
        SL_TRY(choose_pre(dir, v, err));
    SL_TRY(load_tokens(dir, v, err));
    SL_TRY(vocab_index(v, err));
    choose_ids(dir, v);
    if (v->kind == VOCAB_BPE)
        SL_TRY(load_merges(dir, v, err));
    if (v->kind == VOCAB_SPM)
        spm_finish(v);
    if (v->kind == VOCAB_UNIGRAM) {
        unigram_finish(v);
        SL_TRY(load_unigram_norm(dir, v, err));
    }
    mark_control_eog(dir, v);
    SL_TRY(vocab_index_specials(v, err));
    choose_strips(dir, v);
    return SL_OK;
}

sl_status token_vocab_from_gguf(const gguf_dir *dir, token_vocab **ret, sl_err *err)
{
    token_vocab *v = vocab_new();
    sl_status status = v ? load(dir, v, err) : sl_fail(err, SL_ENOMEM, "vocabulary");

    if (status == SL_OK)
        *ret = v;
    else
        token_vocab_destroy(v);
    return status;
}
