/* encode.c - text to ids: special tokens are cut out first, the rest goes to BPE, SPM or WPM. */
#include <utf8proc.h>

#include "token/token_int.h"

typedef struct encoding {
    const token_vocab *v;
    token_ids *out;
    bool after_special; /* the next stretch gets a space prefix (SPM) */
} encoding;

static sl_status on_piece(void *ctx, const char *piece, size_t len)
{
    encoding *e = ctx;
    const token_vocab *v = e->v;
    int32_t id = vocab_find_bytes(v, piece, len);

    if (id >= 0 && (v->toks[id].whole || v->ignore_merges))
        return ids_push(e->out, id);
    return bpe_piece(v, piece, len, e->out);
}

/* Raw UTF-8 BPE looks pieces up by their spelling. */
static sl_status on_raw_piece(void *ctx, const char *piece, size_t len)
{
    encoding *e = ctx;
    int32_t id = len > 1 && piece[0] == '\n' ? token_find(e->v, piece, len) : -1;

    return id >= 0 ? ids_push(e->out, id) : bpe_piece(e->v, piece, len, e->out);
}

static void escape_spaces(const char *text, size_t len, bool prefix, sl_buf *out)
{
    if (prefix)
        sl_buf_puts(out, "\xe2\x96\x81");
    for (size_t i = 0; i < len; i++) {
        if (text[i] == ' ')
            sl_buf_puts(out, "\xe2\x96\x81");
        else
            sl_buf_putc(out, text[i]);
    }
}

static sl_status encode_plain(encoding *e, const char *text, size_t len)
{
    const token_vocab *v = e->v;
    sl_status st;
    sl_buf esc;

    if (!len)
        return SL_OK;
    if (v->kind == KIND_WPM)
        return wpm_encode(v, text, len, e->out);
    if (v->kind == KIND_BPE && v->byte_level)
        return pretok_split(&v->split, text, len, on_piece, e);
    sl_buf_init(&esc, SIZE_MAX / 2);
    if (v->escape_ws)
        escape_spaces(text, len, v->add_space_prefix && e->after_special, &esc);
    else
        sl_buf_put(&esc, text, len);
    if (esc.failed)
        st = SL_ENOMEM;
    else if (v->kind == KIND_SPM)
        st = spm_encode(v, esc.ptr, esc.len, e->out);
    else
        st = pretok_split(&v->split, esc.ptr, esc.len, on_raw_piece, e);
    sl_buf_deinit(&esc);
    e->after_special = false;
    return st;
}

/* The longest special token at text, or -1. */
static int32_t special_at(const token_vocab *v, const char *text, size_t len, bool control)
{
    uint8_t c = (uint8_t)*text;

    for (uint32_t i = v->special_from[c]; i < v->special_from[c + 1]; i++) {
        const tok_entry *t = &v->toks[v->special[i]];

        if (!control && t->type != TOK_USER)
            continue;
        if (t->spell_len <= len && memcmp(v->pool.ptr + t->spell, text, t->spell_len) == 0)
            return (int32_t)v->special[i];
    }
    return -1;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= 9 && c <= 13);
}

static sl_status encode_text(encoding *e, const char *text, size_t len, bool control)
{
    const token_vocab *v = e->v;
    size_t from = 0, at = 0;

    while (at < len) {
        uint8_t c = (uint8_t)text[at];
        int32_t id = -1;

        if (SL_UNLIKELY(v->special_from[c] < v->special_from[c + 1]))
            id = special_at(v, text + at, len - at, control);
        if (id < 0) {
            at++;
            continue;
        }
        size_t to = at;
        while (v->toks[id].lstrip && to > from && is_blank(text[to - 1]))
            to--;
        SL_TRY(encode_plain(e, text + from, to - from));
        SL_TRY(ids_push(e->out, id));
        e->after_special = true;
        at += v->toks[id].spell_len;
        while (v->toks[id].rstrip && at < len && is_blank(text[at]))
            at++;
        from = at;
    }
    return encode_plain(e, text + from, len - from);
}

sl_status token_encode(const token_vocab *v, const char *text, size_t len, unsigned flags,
                       token_ids *out, sl_err *err)
{
    encoding e = { v, out, true };
    sl_status st = SL_OK;

    if ((flags & TOKEN_ADD_SPECIAL) && v->add_bos && v->bos >= 0)
        st = ids_push(out, v->bos);
    if (st == SL_OK)
        st = encode_text(&e, text, len, flags & TOKEN_PARSE_SPECIAL);
    if (st == SL_OK && (flags & TOKEN_ADD_SPECIAL) && v->kind == KIND_WPM && v->sep >= 0)
        st = ids_push(out, v->sep);
    else if (st == SL_OK && (flags & TOKEN_ADD_SPECIAL) && v->add_sep && v->sep >= 0)
        st = ids_push(out, v->sep);
    if (st == SL_OK && (flags & TOKEN_ADD_SPECIAL) && v->add_eos && v->kind != KIND_WPM &&
        v->eos >= 0)
        st = ids_push(out, v->eos);
    return st == SL_OK ? SL_OK : sl_fail(err, st, "tokenizing %zu bytes", len);
}

/* ---- WordPiece --------------------------------------------------------------------------- */

static bool is_han(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static sl_status wpm_word(const token_vocab *v, const sl_buf *word, token_ids *out)
{
    size_t first = out->count;

    for (size_t i = 0; i < word->len;) {
        size_t j = SL_MIN(word->len, i + v->longest);
        int32_t id = -1;

        for (; j > i && (id = token_find(v, word->ptr + i, j - i)) < 0; j--)
            ;
        if (id < 0) {
            out->count = first;
            return v->unk >= 0 ? ids_push(out, v->unk) : SL_OK;
        }
        SL_TRY(ids_push(out, id));
        i = j;
    }
    return SL_OK;
}

typedef struct wpm_state {
    const token_vocab *v;
    token_ids *out;
    sl_buf word; /* begins with U+2581 */
} wpm_state;

static sl_status wpm_flush(wpm_state *w)
{
    sl_status st = SL_OK;

    if (w->word.failed)
        return SL_ENOMEM;
    if (w->word.len > 3)
        st = wpm_word(w->v, &w->word, w->out);
    sl_buf_clear(&w->word);
    sl_buf_puts(&w->word, "\xe2\x96\x81");
    return st;
}

static sl_status wpm_char(wpm_state *w, uint32_t cp)
{
    utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)cp);
    bool space = cat == UTF8PROC_CATEGORY_ZS || cat == UTF8PROC_CATEGORY_ZL ||
                 cat == UTF8PROC_CATEGORY_ZP || (cp >= 9 && cp <= 13) || cp == 0x85;
    bool punct = cat >= UTF8PROC_CATEGORY_PC && cat <= UTF8PROC_CATEGORY_PO;
    bool symbol = cp < 0x7F && cat >= UTF8PROC_CATEGORY_SM && cat <= UTF8PROC_CATEGORY_SO;

    if (space)
        return wpm_flush(w);
    if (cp == 0 || cp == 0xFFFD || cat == UTF8PROC_CATEGORY_CC || cat == UTF8PROC_CATEGORY_CF ||
        cat == UTF8PROC_CATEGORY_CO || cat == UTF8PROC_CATEGORY_CS)
        return SL_OK;
    if (w->v->strip_accents && cat == UTF8PROC_CATEGORY_MN)
        return SL_OK;
    if (w->v->lowercase)
        cp = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
    if (punct || symbol || is_han(cp)) {
        SL_TRY(wpm_flush(w));
        sl_buf_put_utf8(&w->word, cp);
        return wpm_flush(w);
    }
    sl_buf_put_utf8(&w->word, cp);
    return SL_OK;
}

sl_status wpm_encode(const token_vocab *v, const char *text, size_t len, token_ids *out)
{
    wpm_state w = { v, out, { 0 } };
    sl_status st = SL_OK;

    sl_buf_init(&w.word, SIZE_MAX / 2);
    sl_buf_puts(&w.word, "\xe2\x96\x81");
    for (size_t i = 0; i < len && st == SL_OK;) {
        uint32_t cp = 0xFFFD;
        size_t n = sl_utf8_decode(text + i, len - i, &cp);
        utf8proc_int32_t parts[32];
        int boundary = 0;
        utf8proc_ssize_t k = v->strip_accents
                                 ? utf8proc_decompose_char((utf8proc_int32_t)cp, parts, 32,
                                                           UTF8PROC_DECOMPOSE, &boundary)
                                 : 0;

        i += n ? n : 1;
        if (k <= 0 || k > 32) {
            st = wpm_char(&w, cp);
            continue;
        }
        for (utf8proc_ssize_t j = 0; j < k && st == SL_OK; j++)
            st = wpm_char(&w, (uint32_t)parts[j]);
    }
    if (st == SL_OK)
        st = wpm_flush(&w);
    sl_buf_deinit(&w.word);
    return st;
}
