/* wpm.c - WordPiece: words are cut at spaces and punctuation, each is covered by the longest
 * tokens from the left; a word that cannot be covered is one unknown token.
 *
 * by_bytes holds the first piece of a word with a space in front and the others bare, so that the
 * two spellings in use (U+2581 in GGUF, ## in tokenizer.json) look alike here. */
#include "token/token_int.h"

static bool is_cjk(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
           (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static size_t char_count(const char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += ((uint8_t)s[i] & 0xc0) != 0x80;
    return n;
}

/* word[0] is a space. */
static sl_status cover_word(scratch *s, const char *word, size_t len)
{
    const token_vocab *v = s->v;
    size_t mark = s->out->count;

    for (size_t i = 0; i < len;) {
        size_t n = SL_MIN(len - i, v->token_bytes_max);
        int32_t id = -1;

        for (; n > 0; n--) {
            if (i + n < len && ((uint8_t)word[i + n] & 0xc0) == 0x80)
                continue; /* inside a character */
            if (i == 0 && n == 1)
                continue; /* the space alone is no piece */
            id = str_table_get(&v->by_bytes, &v->bytes, word + i, n);
            if (id >= 0)
                break;
        }
        if (id < 0) {
            s->out->count = mark;
            return v->unk < 0 ? SL_OK : ids_push(s, v->unk);
        }
        SL_TRY(ids_push(s, id));
        i += n;
    }
    return SL_OK;
}

sl_status wpm_word(scratch *s, const char *text, size_t len)
{
    char stack[256], *buf = stack;
    sl_status status;

    if (s->v->word_chars_max && char_count(text, len) > s->v->word_chars_max)
        return s->v->unk < 0 ? SL_OK : ids_push(s, s->v->unk);
    if (len + 1 > sizeof stack && !(buf = sl_malloc(len + 1)))
        return sl_fail(s->err, SL_ENOMEM, "a word of %zu bytes", len);
    buf[0] = ' ';
    memcpy(buf + 1, text, len);
    status = cover_word(s, buf, len + 1);
    if (buf != stack)
        sl_free(buf);
    return status;
}

static sl_status end_word(scratch *s, sl_buf *word)
{
    sl_status status = sl_buf_ok(word, "a word", s->err);

    if (status == SL_OK && word->len)
        status = wpm_word(s, word->ptr, word->len);
    sl_buf_clear(word);
    return status;
}

static sl_status add_char(scratch *s, sl_buf *word, uint32_t cp)
{
    const token_vocab *v = s->v;

    if (uc_is_space(cp))
        return end_word(s, word);
    if (cp == 0 || cp == 0xfffd || uc_is_control(cp))
        return SL_OK;
    if (v->strip_accents && uc_is_mark(cp))
        return SL_OK;
    if (uc_is_punct(cp) || (cp > ' ' && cp < 0x7f && uc_ascii[cp] == UC_OTHER) || is_cjk(cp)) {
        SL_TRY(end_word(s, word));
        sl_buf_put_utf8(word, v->lowercase ? uc_lower(cp) : cp);
        return end_word(s, word);
    }
    sl_buf_put_utf8(word, v->lowercase ? uc_lower(cp) : cp);
    return SL_OK;
}

sl_status wpm_encode(scratch *s, const char *text, size_t len)
{
    sl_status status = SL_OK;
    sl_buf form, word;

    sl_buf_init(&form, SIZE_MAX / 2);
    sl_buf_init(&word, SIZE_MAX / 2);
    if (s->v->strip_accents) {
        status = uc_normalize(text, len, UC_NFD, &form, s->err);
        text = sl_buf_str(&form);
        len = form.len;
    }
    for (size_t i = 0; i < len && status == SL_OK;) {
        uint32_t cp = 0xfffd;
        size_t n = sl_utf8_decode(text + i, len - i, &cp);

        status = add_char(s, &word, cp);
        i += n ? n : 1;
    }
    if (status == SL_OK)
        status = end_word(s, &word);
    sl_buf_deinit(&form);
    sl_buf_deinit(&word);
    return status;
}
