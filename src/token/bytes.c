/* bytes.c - GPT-2's byte alphabet: printable Latin-1 bytes stand for themselves, the other 68 for
 * U+0100 upward in byte order. */
#include "token/token_int.h"

static bool is_plain(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* Bytes that are not plain, counted below byte: 0..0x20 are the first 33, 0x7f..0xa0 the next 34,
 * 0xad the last. */
static unsigned odd_rank(unsigned byte)
{
    return byte <= 0x20 ? byte : byte <= 0xa0 ? byte - 0x7f + 33 : 67;
}

static int odd_byte(uint32_t rank)
{
    return rank < 33 ? (int)rank : rank < 67 ? (int)(rank - 33 + 0x7f) : rank == 67 ? 0xad : -1;
}

size_t alphabet_decode(const char *s, size_t len, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < len;) {
        uint32_t cp;
        size_t step = sl_utf8_decode(s + i, len - i, &cp);
        int byte;

        if (!step)
            return SIZE_MAX;
        byte = cp < 256 && is_plain(cp) ? (int)cp : cp >= 256 ? odd_byte(cp - 256) : -1;
        if (byte < 0)
            return SIZE_MAX;
        out[n++] = (char)byte;
        i += step;
    }
    return n;
}

size_t alphabet_encode(uint8_t byte, char out[4])
{
    return sl_utf8_encode(is_plain(byte) ? byte : 256 + odd_rank(byte), out);
}
