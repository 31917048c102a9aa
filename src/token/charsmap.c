/* charsmap.c - the compiled character maps of SentencePiece: a double-array trie from byte
 * sequences to places in a block of replacement texts, each ended by NUL.
 *
 * Layout: the trie's bytes as a little-endian u32, the trie (u32 units, darts-clone's), the texts.
 * A unit: bits 0 to 7 and 31 are the label (bit 31 marks a value), bit 8 says that a value hangs
 * below, bits 10 to 30 are the offset, in units, or in 256 units where bit 9 is set. */
#include "token/token_int.h"

#include <utf8proc.h>

#define GRAPHEME_MAX                                                                               \
    6 /* bytes; longer ones are not looked up whole, as the tokenizers library has it */

struct charsmap {
    uint32_t *units; /* [unit_count] */
    size_t unit_count;
    char *texts; /* [text_len], ends with NUL */
    size_t text_len;
};

static uint32_t read_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

void charsmap_destroy(charsmap *m)
{
    if (!m)
        return;
    sl_free(m->units);
    sl_free(m->texts);
    sl_free(m);
}

sl_status charsmap_parse(sl_span blob, charsmap **ret, sl_err *err)
{
    size_t trie = blob.len >= 4 ? read_u32(blob.ptr) : 0;
    charsmap *m;

    if (trie == 0 || trie % 4 != 0 || trie > blob.len - 4)
        return sl_fail(err, SL_EFORMAT, "tokenizer: the character map of %zu bytes is malformed",
                       blob.len);
    m = sl_calloc(1, sizeof *m);
    if (!m)
        return sl_fail(err, SL_ENOMEM, "character map");
    m->unit_count = trie / 4;
    m->text_len = blob.len - 4 - trie + 1;
    m->units = sl_calloc(m->unit_count, sizeof *m->units);
    m->texts = sl_strndup((const char *)blob.ptr + 4 + trie, m->text_len - 1);
    if (!m->units || !m->texts) {
        charsmap_destroy(m);
        return sl_fail(err, SL_ENOMEM, "character map of %zu bytes", blob.len);
    }
    for (size_t i = 0; i < m->unit_count; i++)
        m->units[i] = read_u32(blob.ptr + 4 + 4 * i);
    *ret = m;
    return SL_OK;
}

static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The replacement of the longest (else the shortest) sequence that text begins with; *ret_len is
 * the sequence's length. NULL: none. */
static const char *lookup(const charsmap *m, const char *text, size_t len, bool longest,
                          size_t *ret_len)
{
    const char *found = NULL;
    size_t at = offset_of(m->units[0]);

    for (size_t i = 0; i < len; i++) {
        uint32_t unit, value;

        at ^= (uint8_t)text[i];
        if (at >= m->unit_count)
            break;
        unit = m->units[at];
        if ((unit & (1u << 31 | 0xff)) != (uint8_t)text[i])
            break;
        at ^= offset_of(unit);
        if (!(unit >> 8 & 1))
            continue;
        if (at >= m->unit_count)
            break;
        value = m->units[at] & ((1u << 31) - 1);
        if (value >= m->text_len)
            break;
        found = m->texts + value;
        *ret_len = i + 1;
        if (!longest)
            break;
    }
    return found;
}

/* Bytes of the first grapheme of text. */
static size_t grapheme_len(const char *text, size_t len)
{
    utf8proc_int32_t state = 0;
    uint32_t last, next;
    size_t n = sl_utf8_decode(text, len, &last), step;

    if (n == 0)
        return 1;
    while (
        n < len && (step = sl_utf8_decode(text + n, len - n, &next)) > 0 &&
        !utf8proc_grapheme_break_stateful((utf8proc_int32_t)last, (utf8proc_int32_t)next, &state)) {
        n += step;
        last = next;
    }
    return n;
}

/* One character: its replacement, or itself. */
static void put_char(const charsmap *m, const char *text, size_t len, sl_buf *out)
{
    size_t matched;
    const char *to = lookup(m, text, len, false, &matched);

    if (to)
        sl_buf_puts(out, to);
    else
        sl_buf_put(out, text, len);
}

void charsmap_graphemes(const charsmap *m, const char *text, size_t len, sl_buf *out)
{
    for (size_t i = 0; i < len;) {
        size_t n = grapheme_len(text + i, len - i), matched, step;
        const char *to = n < GRAPHEME_MAX ? lookup(m, text + i, n, false, &matched) : NULL;
        uint32_t cp;

        if (to)
            sl_buf_puts(out, to);
        for (size_t k = 0; k < n && !to; k += step) {
            step = sl_utf8_decode(text + i + k, n - k, &cp);
            step = step ? step : 1;
            put_char(m, text + i + k, step, out);
        }
        i += n;
    }
}

void charsmap_longest(const charsmap *m, const char *text, size_t len, sl_buf *out)
{
    for (size_t i = 0; i < len;) {
        size_t n = 0;
        const char *to = lookup(m, text + i, len - i, true, &n);
        uint32_t cp;

        if (to) {
            sl_buf_puts(out, to);
        } else if ((n = sl_utf8_decode(text + i, len - i, &cp)) > 0) {
            sl_buf_put(out, text + i, n);
        } else {
            sl_buf_put_utf8(out, 0xfffd);
            n = 1;
        }
        i += n;
    }
}
