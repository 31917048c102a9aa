/* vocab_json.c - a vocabulary from a Hugging Face tokenizer.json.
 *
 * The sections become the same parts that a GGUF file gives: tokens, merges, normaliser steps,
 * splitting stages and the ids around a text. "truncation" and "padding" are the caller's
 * business and ignored. */
#include "token/json_int.h"

/* Strings by id, collected before they can be added in order. */
typedef struct id_map {
    const char **text;
    size_t *len;
    size_t count;
    const json_t *scored; /* unigram: [["token", score], ...], or NULL */
} id_map;

static sl_status highest_id(const json_t *vocab, const json_t *added, size_t *ret, sl_err *err)
{
    json_int_t high = -1, n;
    const json_t *v;
    const char *key;
    size_t i;

    if (json_is_array(vocab)) /* ids are places */
        high = SL_MIN((json_int_t)json_array_size(vocab), SL_MODEL_VOCAB_MAX) - 1;
    json_object_foreach((json_t *)vocab, key, v)
    {
        n = json_is_integer(v) ? json_integer_value(v) : -1;
        if (n < 0 || n >= SL_MODEL_VOCAB_MAX)
            return sl_fail(err, SL_EFORMAT, "tokenizer.json: token \"%.40s\" has no valid id", key);
        high = SL_MAX(high, n);
    }
    json_array_foreach(added, i, v)
    {
        const json_t *id = json_object_get(v, "id");

        n = json_is_integer(id) ? json_integer_value(id) : -1;
        if (n < 0 || n >= SL_MODEL_VOCAB_MAX || !json_is_string(json_object_get(v, "content")))
            return sl_fail(err, SL_EFORMAT, "tokenizer.json: added token %zu is malformed", i);
        high = SL_MAX(high, n);
    }
    if (high < 0)
        return sl_fail(err, SL_EFORMAT, "tokenizer.json: no tokens");
    *ret = (size_t)high + 1;
    return SL_OK;
}

static sl_status fill_tokens(token_vocab *v, const json_t *vocab, const json_t *added, id_map *m,
                             sl_err *err)
{
    const json_t *item;
    const char *key;
    size_t i;

    for (i = 0; i < json_array_size(m->scored); i++) {
        const json_t *text = json_array_get(json_array_get(m->scored, i), 0);

        if (i >= m->count || !json_is_string(text) ||
            !json_is_number(json_array_get(json_array_get(m->scored, i), 1)))
            return sl_fail(err, SL_EFORMAT, "tokenizer.json: token %zu is malformed", i);
        m->text[i] = json_string_value(text);
        m->len[i] = json_string_length(text);
    }
    json_object_foreach((json_t *)vocab, key, item)
    {
        i = (size_t)json_integer_value(item);
        m->text[i] = key;
        m->len[i] = strlen(key);
    }
    json_array_foreach(added, i, item)
    {
        const json_t *content = json_object_get(item, "content");
        size_t id = (size_t)json_integer_value(json_object_get(item, "id"));

        m->text[id] = json_string_value(content);
        m->len[id] = json_string_length(content);
    }
    for (i = 0; i < m->count; i++) {
        const json_t *score = json_array_get(json_array_get(m->scored, i), 1);

        if (!vocab_add(v, m->text[i] ? m->text[i] : "", m->len[i], TT_NORMAL,
                       (float)json_number_value(score)))
            return sl_fail(err, SL_ENOMEM, "vocabulary of %zu tokens", m->count);
        v->token_bytes_max = SL_MAX(v->token_bytes_max, m->len[i] + 1);
    }
    return SL_OK;
}

static void flag_added(token_vocab *v, const json_t *added)
{
    const json_t *item;
    size_t i;

    json_array_foreach(added, i, item)
    {
        size_t id = (size_t)json_integer_value(json_object_get(item, "id"));
        bool special = json_flag(item, "special", false);

        v->type[id] = special ? TT_CONTROL : TT_USER;
        v->flags[id] = (uint8_t)((json_flag(item, "lstrip", false) ? TF_LSTRIP : 0) |
                                 (json_flag(item, "rstrip", false) ? TF_RSTRIP : 0) |
                                 (json_flag(item, "single_word", false) ? TF_SINGLE_WORD : 0) |
                                 (json_flag(item, "normalized", !special) ? TF_NORMALIZED : 0));
    }
}

static sl_status load_tokens(token_vocab *v, const json_t *root, sl_err *err)
{
    const json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab"),
                 *added = json_object_get(root, "added_tokens");
    id_map m = { 0 };
    sl_status status;

    if (v->kind == VOCAB_UNIGRAM ? !json_is_array(vocab) : !json_is_object(vocab))
        return sl_fail(err, SL_EFORMAT, "tokenizer.json: model.vocab is missing");
    SL_TRY(highest_id(vocab, added, &m.count, err));
    m.scored = json_is_array(vocab) ? vocab : NULL;
    m.text = sl_calloc(m.count, sizeof *m.text);
    m.len = sl_calloc(m.count, sizeof *m.len);
    status = m.text && m.len ? fill_tokens(v, vocab, added, &m, err)
                             : sl_fail(err, SL_ENOMEM, "vocabulary of %zu tokens", m.count);
    sl_free(m.text);
    sl_free(m.len);
    if (status == SL_OK)
        flag_added(v, added);
    return status;
}

static sl_status add_merge(token_vocab *v, const json_t *m, int32_t rank, sl_err *err)
{
    const json_t *a = json_array_get(m, 0), *b = json_array_get(m, 1);
    const char *text = json_string_value(m), *cut = text ? strchr(text, ' ') : NULL;

    if (cut)
        return bpe_merge_add(v, text, (size_t)(cut - text), cut + 1,
                             json_string_length(m) - (size_t)(cut - text) - 1, rank, err);
    if (!json_is_string(a) || !json_is_string(b))
        return sl_fail(err, SL_EFORMAT, "tokenizer.json: merge %d is malformed", rank);
    return bpe_merge_add(v, json_string_value(a), json_string_length(a), json_string_value(b),
                         json_string_length(b), rank, err);
}

static sl_status load_merges(token_vocab *v, const json_t *model, sl_err *err)
{
    const json_t *merges = json_object_get(model, "merges"), *m;
    size_t i;

    SL_TRY(bpe_merges_init(v, json_array_size(merges), err));
    json_array_foreach(merges, i, m) SL_TRY(add_merge(v, m, (int32_t)i, err));
    return bpe_finish(v, err);
}

static sl_status choose_kind(token_vocab *v, const json_t *model, sl_err *err)
{
    const char *type = json_text(model, "type"), *prefix;
    const json_t *max = json_object_get(model, "max_input_chars_per_word");

    if (!*type) /* older files leave it out */
        type = json_object_get(model, "merges")                 ? "BPE"
               : json_is_array(json_object_get(model, "vocab")) ? "Unigram"
                                                                : "WordPiece";
    if (strcmp(type, "Unigram") == 0) {
        v->kind = VOCAB_UNIGRAM;
        v->byte_fallback = json_flag(model, "byte_fallback", false);
        return SL_OK;
    }
    if (strcmp(type, "BPE") == 0) {
        v->kind = VOCAB_BPE;
        v->byte_fallback = json_flag(model, "byte_fallback", false);
        v->fuse_unk = json_flag(model, "fuse_unk", false);
        v->ignore_merges = json_flag(model, "ignore_merges", false);
        if (*json_text(model, "continuing_subword_prefix") ||
            *json_text(model, "end_of_word_suffix"))
            return sl_fail(err, SL_ENOTSUP, "tokenizer.json: BPE with marked word parts");
        return SL_OK;
    }
    if (strcmp(type, "WordPiece") != 0)
        return sl_fail(
            err, SL_ENOTSUP,
            "tokenizer.json: model \"%.40s\" is not supported (BPE, WordPiece and Unigram "
            "are)",
            type);
    v->kind = VOCAB_WPM;
    v->word_chars_max =
        json_is_integer(max) && json_integer_value(max) > 0 ? (size_t)json_integer_value(max) : 100;
    prefix = json_text(model, "continuing_subword_prefix");
    return !*prefix || strcmp(prefix, "##") == 0
               ? SL_OK
               : sl_fail(err, SL_ENOTSUP, "tokenizer.json: WordPiece prefix \"%.20s\"", prefix);
}

/* True when o or a part of it is of this type. */
static bool has_type(const json_t *o, const char *list, const char *type)
{
    const json_t *item;
    size_t i;

    if (strcmp(json_text(o, "type"), type) == 0)
        return true;
    json_array_foreach(json_object_get(o, list), i,
                       item) if (strcmp(json_text(item, "type"), type) == 0) return true;
    return false;
}

static int32_t named_token(const token_vocab *v, const json_t *config, const char *key)
{
    const json_t *t = json_object_get(config, key);
    const char *s = json_is_object(t) ? json_text(t, "content") : json_text(config, key);

    return token_find(v, s, strlen(s));
}

/* Which of the usual spellings ends a text when no configuration says. */
static int32_t guess_token(const token_vocab *v, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int32_t id = token_find(v, names[i], strlen(names[i]));

        if (id >= 0 && token_is_control(v, id))
            return id;
    }
    return -1;
}

static void choose_ids(token_vocab *v, const json_t *root, const json_t *config)
{
    static const char *const bos[] = { "<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>" };
    static const char *const eos[] = { "</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>" };

    v->unk = named_token(v, json_object_get(root, "model"), "unk_token");
    if (v->kind == VOCAB_UNIGRAM) {
        const json_t *unk = json_object_get(json_object_get(root, "model"), "unk_id");
        json_int_t id = json_is_integer(unk) ? json_integer_value(unk) : -1;

        v->unk = id >= 0 && (size_t)id < v->spelling.count ? (int32_t)id : -1;
    }
    v->sep = named_token(v, config, "sep_token");
    v->bos = named_token(v, config, "bos_token");
    v->eos = named_token(v, config, "eos_token");
    if (!config && v->kind == VOCAB_BPE) {
        v->bos = guess_token(v, bos, SL_COUNT_OF(bos));
        v->eos = guess_token(v, eos, SL_COUNT_OF(eos));
    }
}

static sl_status load(token_vocab *v, const json_t *root, const json_t *config, sl_err *err)
{
    const json_t *model = json_object_get(root, "model");

    v->leftmost_specials = true;
    v->norm = normalizer_new();
    v->pretok = pretok_new();
    if (!v->norm || !v->pretok)
        return sl_fail(err, SL_ENOMEM, "vocabulary");
    SL_TRY(choose_kind(v, model, err));
    SL_TRY(json_add_normalizer(v, json_object_get(root, "normalizer"), 0, err));
    SL_TRY(json_add_pretok(v, json_object_get(root, "pre_tokenizer"), 0, err));
    if (has_type(json_object_get(root, "decoder"), "decoders", "ByteLevel"))
        v->byte_level = true;
    v->byte_level &= v->kind == VOCAB_BPE;
    SL_TRY(load_tokens(v, root, err));
    SL_TRY(vocab_index(v, err));
    choose_ids(v, root, config);
    if (v->kind == VOCAB_BPE)
        SL_TRY(load_merges(v, model, err));
    if (v->kind == VOCAB_UNIGRAM)
        unigram_finish(v);
    SL_TRY(json_add_post(v, json_object_get(root, "post_processor"), 0, err));
    vocab_mark_eog(v);
    SL_TRY(vocab_index_specials(v, err));
    if (normalizer_is_empty(v->norm)) {
        normalizer_destroy(v->norm);
        v->norm = NULL;
    }
    if (pretok_is_empty(v->pretok)) {
        pretok_destroy(v->pretok);
        v->pretok = NULL;
    }
    return SL_OK;
}

static sl_status parse(sl_span text, const char *what, json_t **ret, sl_err *err)
{
    json_error_t e;

    if (text.len > SL_JSON_BYTES_MAX)
        return sl_fail(err, SL_ELIMIT, "%s: %zu bytes", what, text.len);
    *ret = json_loadb((const char *)text.ptr, text.len, JSON_ALLOW_NUL, &e);
    if (*ret && json_is_object(*ret))
        return SL_OK;
    return *ret ? sl_fail(err, SL_EFORMAT, "%s: not an object", what)
                : sl_fail(err, SL_EFORMAT, "%s: line %d: %s", what, e.line, e.text);
}

sl_status token_vocab_from_json(sl_span tokenizer_json, sl_span tokenizer_config, token_vocab **ret,
                                sl_err *err)
{
    json_t *root = NULL, *config = NULL;
    token_vocab *v = vocab_new();
    sl_status status = v ? SL_OK : sl_fail(err, SL_ENOMEM, "vocabulary");

    if (status == SL_OK)
        status = parse(tokenizer_json, "tokenizer.json", &root, err);
    if (status == SL_OK && tokenizer_config.len)
        status = parse(tokenizer_config, "tokenizer_config.json", &config, err);
    if (status == SL_OK)
        status = load(v, root, config, err);
    json_decref(root);
    json_decref(config);
    if (status == SL_OK)
        *ret = v;
    else
        token_vocab_destroy(v);
    return status;
}
