/* decode.c - ids to text that never ends inside a character. */
#include "token/token_int.h"

void token_decoder_init(token_decoder *d, const token_vocab *v, bool at_start, bool show_special)
{
    *d = (token_decoder){ .vocab = v, .at_start = at_start, .show_special = show_special };
}

/* A space that the vocabulary itself put in front of the text. */
static bool drops_space(const token_vocab *v)
{
    return v->add_space_prefix || v->kind == VOCAB_WPM;
}

/* How many bytes the character at p should have; 0: no character starts so. */
static size_t expected(const char *p)
{
    uint8_t c = (uint8_t)*p;

    return c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
}

/* True when p[0..len) can still grow into a character. */
static bool is_prefix(const char *p, size_t len)
{
    uint8_t c = (uint8_t)p[0], d;

    if (expected(p) <= len)
        return false;
    if (len < 2)
        return true;
    d = (uint8_t)p[1];
    if (d < (c == 0xe0   ? 0xa0
             : c == 0xf0 ? 0x90
                         : 0x80) ||
        d > (c == 0xed   ? 0x9f
             : c == 0xf4 ? 0x8f
                         : 0xbf))
        return false;
    return len < 3 || ((uint8_t)p[2] & 0xc0) == 0x80;
}

/* One byte more; writes every character that is complete or can no longer become so. */
static void push_byte(token_decoder *d, char c, sl_buf *out)
{
    uint32_t cp;

    d->held[d->held_len++] = c;
    while (d->held_len) {
        size_t n = sl_utf8_decode(d->held, d->held_len, &cp), bad = 1;

        if (n) {
            sl_buf_put(out, d->held, n);
        } else if (is_prefix(d->held, d->held_len)) {
            return;
        } else {
            /* The longest beginning of a character becomes one U+FFFD, as in the WHATWG rule. */
            while (bad < d->held_len && is_prefix(d->held, bad) && is_prefix(d->held, bad + 1))
                bad++;
            sl_buf_put_utf8(out, 0xfffd);
            n = bad;
        }
        d->held_len -= n;
        memmove(d->held, d->held + n, d->held_len);
    }
}

void token_decoder_push(token_decoder *d, int32_t id, sl_buf *out)
{
    sl_span s = token_bytes(d->vocab, id, d->show_special);
    size_t i = 0;

    if (!s.len)
        return;
    if (d->at_start && s.ptr[0] == ' ' && drops_space(d->vocab) && !token_is_control(d->vocab, id))
        i = 1;
    d->at_start = false;
    while (i < s.len) {
        size_t run = i;

        while (!d->held_len && run < s.len && s.ptr[run] < 0x80)
            run++;
        sl_buf_put(out, s.ptr + i, run - i);
        if (run < s.len)
            push_byte(d, (char)s.ptr[run++], out);
        i = run;
    }
}

void token_decoder_finish(token_decoder *d, sl_buf *out)
{
    if (d->held_len)
        sl_buf_put_utf8(out, 0xfffd);
    d->held_len = 0;
}
