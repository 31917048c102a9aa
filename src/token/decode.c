/* decode.c - ids back to text, one at a time, never cutting a UTF-8 character in two. */
#include "token/token_int.h"

void token_decoder_init(token_decoder *d, const token_vocab *v, bool at_start, bool show_special)
{
    *d = (token_decoder){ .v = v, .at_start = at_start, .show_special = show_special };
}

/* Could held[0..n) be the start of a character? */
static bool may_grow(const uint8_t *h, size_t n)
{
    uint8_t c = h[0];
    size_t need = c >= 0xC2 && c <= 0xDF   ? 2
                  : (c & 0xF0) == 0xE0     ? 3
                  : c >= 0xF0 && c <= 0xF4 ? 4
                                           : 0;

    if (n >= need)
        return false;
    for (size_t i = 1; i < n; i++)
        if ((h[i] & 0xC0) != 0x80)
            return false;
    if (n > 1 && ((c == 0xE0 && h[1] < 0xA0) || (c == 0xED && h[1] > 0x9F) ||
                  (c == 0xF0 && h[1] < 0x90) || (c == 0xF4 && h[1] > 0x8F)))
        return false;
    return true;
}

static void push_byte(token_decoder *d, uint8_t byte, sl_buf *out)
{
    uint32_t cp;

    d->held[d->held_len++] = byte;
    while (d->held_len) {
        if (sl_utf8_decode((const char *)d->held, d->held_len, &cp) == d->held_len) {
            sl_buf_put(out, d->held, d->held_len);
            d->held_len = 0;
        } else if (may_grow(d->held, d->held_len)) {
            return;
        } else if (d->held_len == 1) {
            sl_buf_puts(out, "\xef\xbf\xbd");
            d->held_len = 0;
        } else {
            /* The last byte broke the sequence: what came before is lost, it begins anew. */
            sl_buf_puts(out, "\xef\xbf\xbd");
            d->held[0] = d->held[d->held_len - 1];
            d->held_len = 1;
        }
    }
}

void token_decoder_push(token_decoder *d, int32_t id, sl_buf *out)
{
    const token_vocab *v = d->v;
    sl_span s = token_bytes(v, id, d->show_special);
    bool plain = !token_is_control(v, id);

    if (!s.len)
        return;
    if (plain && v->kind != KIND_BPE && d->at_start && s.ptr[0] == ' ' &&
        (v->kind == KIND_WPM || v->add_space_prefix)) {
        s.ptr++;
        s.len--;
    }
    d->at_start = false;
    if (plain && d->held_len == 0 && sl_utf8_valid((const char *)s.ptr, s.len)) {
        sl_buf_put(out, s.ptr, s.len);
        return;
    }
    for (size_t i = 0; i < s.len; i++)
        push_byte(d, s.ptr[i], out);
}

void token_decoder_finish(token_decoder *d, sl_buf *out)
{
    if (d->held_len)
        sl_buf_puts(out, "\xef\xbf\xbd");
    d->held_len = 0;
}
