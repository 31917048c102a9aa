/* json_parts.c - the normalizer, pre_tokenizer and post_processor sections of a tokenizer.json. */
#include "token/json_int.h"

#define NEST_MAX 8

#define PUNCT "[\\p{P}!-/:-@\\[-`{-~]"
/* \w as the regex crate of the tokenizers library understands it. */
#define WORD "\\p{L}\\p{M}\\p{Nl}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}"

const char *json_text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

bool json_flag(const json_t *o, const char *key, bool fallback)
{
    const json_t *v = json_object_get(o, key);

    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

static sl_span text_span(const json_t *v)
{
    return sl_span_of(json_string_value(v), json_string_length(v));
}

static sl_status unsupported(const char *what, const char *type, sl_err *err)
{
    return sl_fail(err, SL_ENOTSUP, "tokenizer.json: %s \"%.60s\" is not supported", what, type);
}

static sl_status add_bert_normalizer(token_vocab *v, const json_t *o, sl_err *err)
{
    bool lower = json_flag(o, "lowercase", true);
    bool strip = json_flag(o, "strip_accents", lower);
    unsigned flags = (json_flag(o, "clean_text", true) ? NORM_CLEAN : 0) |
                     (json_flag(o, "handle_chinese_chars", true) ? NORM_CJK : 0);
    sl_span none = { 0 };

    SL_TRY(normalizer_add(v->norm, NORM_CHARS, flags, none, none, err));
    if (strip) {
        SL_TRY(normalizer_add(v->norm, NORM_FORM, UC_NFD, none, none, err));
        SL_TRY(normalizer_add(v->norm, NORM_CHARS, NORM_STRIP_MARKS, none, none, err));
    }
    return lower ? normalizer_add(v->norm, NORM_CHARS, NORM_LOWER, none, none, err) : SL_OK;
}

static sl_status add_replace(token_vocab *v, const json_t *o, sl_err *err)
{
    const json_t *p = json_object_get(o, "pattern"), *s = json_object_get(p, "String"),
                 *r = json_object_get(p, "Regex"), *c = json_object_get(o, "content");

    if ((!json_is_string(s) && !json_is_string(r)) || !json_is_string(c))
        return sl_fail(err, SL_EFORMAT, "tokenizer.json: Replace without pattern or content");
    return json_is_string(s)
               ? normalizer_add(v->norm, NORM_REPLACE, 0, text_span(s), text_span(c), err)
               : normalizer_add(v->norm, NORM_REPLACE_REGEX, 0, text_span(r), text_span(c), err);
}

/* Its map is base64 in the file. */
static sl_status add_precompiled(token_vocab *v, const json_t *o, sl_err *err)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *text = json_text(o, "precompiled_charsmap"), *at;
    uint32_t bits = 0;
    int have = 0;
    sl_buf blob;
    sl_status status;

    if (!*text)
        return SL_OK; /* maps nothing */
    sl_buf_init(&blob, SL_JSON_BYTES_MAX);
    for (; *text && *text != '='; text++) {
        at = strchr(digits, *text);
        if (!at) {
            sl_buf_deinit(&blob);
            return sl_fail(err, SL_EFORMAT, "tokenizer.json: the character map is no base64");
        }
        bits = bits << 6 | (uint32_t)(at - digits);
        have += 6;
        if (have >= 8) {
            have -= 8;
            sl_buf_putc(&blob, (char)(bits >> have & 0xff));
        }
    }
    status = sl_buf_ok(&blob, "character map", err);
    if (status == SL_OK)
        status = normalizer_add(v->norm, NORM_CHARSMAP, 0, sl_span_of(blob.ptr, blob.len),
                                (sl_span){ 0 }, err);
    sl_buf_deinit(&blob);
    return status;
}

sl_status json_add_normalizer(token_vocab *v, const json_t *o, int depth, sl_err *err)
{
    static const struct {
        const char *type;
        norm_kind kind;
        unsigned flags;
    } plain[] = {
        { "NFC", NORM_FORM, UC_NFC },
        { "NFD", NORM_FORM, UC_NFD },
        { "NFKC", NORM_FORM, UC_NFKC },
        { "NFKD", NORM_FORM, UC_NFKD },
        { "Lowercase", NORM_CHARS, NORM_LOWER },
        { "StripAccents", NORM_CHARS, NORM_STRIP_MARKS | NORM_ALL_MARKS },
    };
    const char *type = json_text(o, "type");
    sl_span none = { 0 };
    const json_t *item;
    size_t i;

    if (!o || json_is_null(o))
        return SL_OK;
    if (depth > NEST_MAX)
        return sl_fail(err, SL_ELIMIT, "tokenizer.json: normalizers nest too deep");
    for (i = 0; i < SL_COUNT_OF(plain); i++)
        if (strcmp(type, plain[i].type) == 0)
            return normalizer_add(v->norm, plain[i].kind, plain[i].flags, none, none, err);
    if (strcmp(type, "Sequence") == 0) {
        json_array_foreach(json_object_get(o, "normalizers"), i, item)
            SL_TRY(json_add_normalizer(v, item, depth + 1, err));
        return SL_OK;
    }
    if (strcmp(type, "BertNormalizer") == 0)
        return add_bert_normalizer(v, o, err);
    if (strcmp(type, "Replace") == 0)
        return add_replace(v, o, err);
    if (strcmp(type, "Precompiled") == 0)
        return add_precompiled(v, o, err);
    if (strcmp(type, "Strip") == 0)
        return normalizer_add(v->norm, NORM_STRIP,
                              (json_flag(o, "strip_left", true) ? NORM_LEFT : 0) |
                                  (json_flag(o, "strip_right", true) ? NORM_RIGHT : 0),
                              none, none, err);
    if (strcmp(type, "Prepend") == 0) {
        v->add_space_prefix = true;
        return normalizer_add(v->norm, NORM_PREPEND, 0, none,
                              text_span(json_object_get(o, "prepend")), err);
    }
    return unsupported("normalizer", type, err);
}

static sl_status read_mode(const char *name, split_mode *ret, sl_err *err)
{
    static const char *const names[] = { "Isolated", "Removed", "MergedWithPrevious",
                                         "MergedWithNext", "Contiguous" };

    for (size_t i = 0; i < SL_COUNT_OF(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret = (split_mode)i;
            return SL_OK;
        }
    }
    return unsupported("split behavior", name, err);
}

static sl_status add_literal(pretok *p, sl_span s, split_mode mode, bool invert, sl_err *err)
{
    sl_buf b;
    sl_status status;

    sl_buf_init(&b, 2 * s.len + 16);
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];

        if (c < 128 && uc_ascii[c] != UC_LETTER && uc_ascii[c] != UC_NUMBER && c >= ' ')
            sl_buf_putc(&b, '\\');
        sl_buf_putc(&b, (char)c);
    }
    status = sl_buf_ok(&b, "pre-tokenizer", err);
    if (status == SL_OK)
        status = pretok_add_regex(p, sl_buf_str(&b), b.len, mode, invert, err);
    sl_buf_deinit(&b);
    return status;
}

/* The expressions that nearly all byte-level vocabularies use have hand-written splitters. */
static split_fn known_split(sl_span s)
{
    static const char head[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}",
                      tail[] = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    size_t h = sizeof head - 1, t = sizeof tail - 1;
    bool framed =
        s.len >= h + t && memcmp(s.ptr, head, h) == 0 && memcmp(s.ptr + s.len - t, tail, t) == 0;

    if (framed && s.len == h + t)
        return split_qwen2;
    if (framed && s.len == h + t + 5 && memcmp(s.ptr + h, "{1,3}", 5) == 0)
        return split_llama3;
    return NULL;
}

static sl_status add_split(pretok *p, const json_t *o, sl_err *err)
{
    const json_t *pattern = json_object_get(o, "pattern"), *s = json_object_get(pattern, "String"),
                 *r = json_object_get(pattern, "Regex");
    bool invert = json_flag(o, "invert", false);
    split_mode mode = SPLIT_ISOLATED;

    SL_TRY(read_mode(json_text(o, "behavior"), &mode, err));
    if (json_is_string(s) && json_string_length(s))
        return add_literal(p, text_span(s), mode, invert, err);
    if (!json_is_string(r))
        return sl_fail(err, SL_EFORMAT, "tokenizer.json: Split without a pattern");
    /* The splitters cover the whole text with matches, so removing what is no match is the same
     * as isolating. */
    if (known_split(text_span(r)) &&
        ((mode == SPLIT_ISOLATED && !invert) || (mode == SPLIT_REMOVED && invert)))
        return pretok_add_split(p, known_split(text_span(r)), err);
    return pretok_add_regex(p, json_string_value(r), json_string_length(r), mode, invert, err);
}

static sl_status add_metaspace(token_vocab *v, const json_t *o, sl_err *err)
{
    const json_t *rep = json_object_get(o, "replacement");
    sl_span mark = json_string_length(rep) ? text_span(rep) : sl_span_str("\xe2\x96\x81");
    const char *scheme = json_text(o, "prepend_scheme");
    sl_span none = { 0 };

    if (!*scheme)
        scheme = json_flag(o, "add_prefix_space", true) ? "always" : "never";
    SL_TRY(normalizer_add(v->norm, NORM_REPLACE, 0, sl_span_str(" "), mark, err));
    if (strcmp(scheme, "never") != 0) {
        v->add_space_prefix = true;
        SL_TRY(
            normalizer_add(v->norm, NORM_PREPEND,
                           NORM_UNLESS_THERE | (strcmp(scheme, "first") == 0 ? NORM_FIRST_ONLY : 0),
                           none, mark, err));
    }
    return json_flag(o, "split", true) ? add_literal(v->pretok, mark, SPLIT_MERGED_NEXT, false, err)
                                       : SL_OK;
}

/* WhitespaceSplit and then Metaspace, as in XLM-R's files: words lose the space around them before
 * each gets its mark. Spaces in a row are one, those at the ends none. */
static bool is_words_of_spaces(const json_t *list)
{
    return json_array_size(list) == 2 &&
           strcmp(json_text(json_array_get(list, 0), "type"), "WhitespaceSplit") == 0 &&
           strcmp(json_text(json_array_get(list, 1), "type"), "Metaspace") == 0;
}

static sl_status add_spaced_words(token_vocab *v, const json_t *metaspace, sl_err *err)
{
    SL_TRY(normalizer_add(v->norm, NORM_STRIP, NORM_LEFT | NORM_RIGHT, (sl_span){ 0 },
                          (sl_span){ 0 }, err));
    SL_TRY(
        normalizer_add(v->norm, NORM_REPLACE_REGEX, 0, sl_span_str("\\s+"), sl_span_str(" "), err));
    return add_metaspace(v, metaspace, err);
}

static sl_status add_byte_level(token_vocab *v, const json_t *o, sl_err *err)
{
    sl_span none = { 0 };

    v->byte_level = true;
    if (json_flag(o, "add_prefix_space", true)) {
        if (!pretok_is_empty(v->pretok))
            return unsupported("pre-tokenizer", "ByteLevel with a prefix space behind a split",
                               err);
        SL_TRY(
            normalizer_add(v->norm, NORM_PREPEND, NORM_UNLESS_THERE, none, sl_span_str(" "), err));
    }
    return json_flag(o, "use_regex", true) ? pretok_add_split(v->pretok, split_gpt2, err) : SL_OK;
}

static sl_status add_punctuation(token_vocab *v, const json_t *o, sl_err *err)
{
    const char *name = json_text(o, "behavior");
    split_mode mode = SPLIT_ISOLATED;

    if (*name)
        SL_TRY(read_mode(name, &mode, err));
    return pretok_add_regex(v->pretok, PUNCT, strlen(PUNCT), mode, false, err);
}

static sl_status add_fixed(pretok *p, const char *pattern, split_mode mode, bool invert,
                           sl_err *err)
{
    return pretok_add_regex(p, pattern, strlen(pattern), mode, invert, err);
}

sl_status json_add_pretok(token_vocab *v, const json_t *o, int depth, sl_err *err)
{
    const char *type = json_text(o, "type");
    const json_t *item;
    size_t i;

    if (!o || json_is_null(o))
        return SL_OK;
    if (depth > NEST_MAX)
        return sl_fail(err, SL_ELIMIT, "tokenizer.json: pre-tokenizers nest too deep");
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(o, "pretokenizers");

        if (is_words_of_spaces(list))
            return add_spaced_words(v, json_array_get(list, 1), err);
        json_array_foreach(list, i, item) SL_TRY(json_add_pretok(v, item, depth + 1, err));
        return SL_OK;
    }
    if (strcmp(type, "Split") == 0)
        return add_split(v->pretok, o, err);
    if (strcmp(type, "ByteLevel") == 0)
        return add_byte_level(v, o, err);
    if (strcmp(type, "Metaspace") == 0)
        return add_metaspace(v, o, err);
    if (strcmp(type, "Punctuation") == 0)
        return add_punctuation(v, o, err);
    if (strcmp(type, "Digits") == 0)
        return add_fixed(v->pretok, json_flag(o, "individual_digits", false) ? "\\p{N}" : "\\p{N}+",
                         SPLIT_ISOLATED, false, err);
    if (strcmp(type, "WhitespaceSplit") == 0)
        return add_fixed(v->pretok, "\\s+", SPLIT_REMOVED, false, err);
    if (strcmp(type, "Whitespace") == 0)
        return add_fixed(v->pretok, "[" WORD "]+|[^" WORD "\\s]+", SPLIT_REMOVED, true, err);
    if (strcmp(type, "CharDelimiterSplit") == 0)
        return add_literal(v->pretok, text_span(json_object_get(o, "delimiter")), SPLIT_REMOVED,
                           false, err);
    if (strcmp(type, "BertPreTokenizer") == 0) {
        SL_TRY(add_fixed(v->pretok, "\\s+", SPLIT_REMOVED, false, err));
        return add_fixed(v->pretok, PUNCT, SPLIT_ISOLATED, false, err);
    }
    return unsupported("pre-tokenizer", type, err);
}

static int32_t id_of(const token_vocab *v, const json_t *id)
{
    json_int_t n = json_is_integer(id) ? json_integer_value(id) : -1;

    return n >= 0 && (size_t)n < v->spelling.count ? (int32_t)n : -1;
}

static sl_status add_template(token_vocab *v, const json_t *o, sl_err *err)
{
    const json_t *specials = json_object_get(o, "special_tokens"), *item;
    bool behind = false;
    size_t i;

    json_array_foreach(json_object_get(o, "single"), i, item)
    {
        const json_t *special = json_object_get(item, "SpecialToken"), *id;
        size_t k;

        if (json_object_get(item, "Sequence")) {
            behind = true;
            continue;
        }
        json_array_foreach(
            json_object_get(json_object_get(specials, json_text(special, "id")), "ids"), k, id)
        {
            if (id_of(v, id) < 0)
                return sl_fail(err, SL_EFORMAT, "tokenizer.json: a template's token id is unknown");
            if (behind)
                vocab_frame_put(v->suffix, &v->suffix_len, id_of(v, id));
            else
                vocab_frame_put(v->prefix, &v->prefix_len, id_of(v, id));
        }
    }
    return SL_OK;
}

sl_status json_add_post(token_vocab *v, const json_t *o, int depth, sl_err *err)
{
    const char *type = json_text(o, "type");
    const json_t *item;
    size_t i;

    if (!o || json_is_null(o) || strcmp(type, "ByteLevel") == 0)
        return SL_OK;
    if (depth > NEST_MAX)
        return sl_fail(err, SL_ELIMIT, "tokenizer.json: post-processors nest too deep");
    if (strcmp(type, "Sequence") == 0) {
        json_array_foreach(json_object_get(o, "processors"), i, item)
            SL_TRY(json_add_post(v, item, depth + 1, err));
        return SL_OK;
    }
    if (strcmp(type, "TemplateProcessing") == 0)
        return add_template(v, o, err);
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0) {
        vocab_frame_put(v->prefix, &v->prefix_len,
                        id_of(v, json_array_get(json_object_get(o, "cls"), 1)));
        vocab_frame_put(v->suffix, &v->suffix_len,
                        id_of(v, json_array_get(json_object_get(o, "sep"), 1)));
        return SL_OK;
    }
    return unsupported("post-processor", type, err);
}
