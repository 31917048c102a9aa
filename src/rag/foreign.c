/* foreign.c - text of others inside a prompt.
 *
 * Retrieved text and questions are data: nothing in them may look like a control token, a change of
 * speaker, the end of their passage or a marker, in any template there is. What is written is for
 * the model only; people get the text as it is. */
#include <string.h>
#include <strings.h>

#include "rag/answer_int.h"

#define TAG_BYTES  64 /* no vocabulary has a longer control token */
#define TEXT_BYTES (64 * SL_MIB)

/* ---- what nobody sees ----------------------------------------------------------------------- */

/* Control characters, zero-width ones, changes of direction, and the tags that spell invisible
 * ASCII. Joiners stay: scripts and emoji need them, and they are removed between ASCII only. */
static bool is_hidden(uint32_t cp)
{
    return (cp < 0x20 && cp != '\n' && cp != '\t') || (cp >= 0x7f && cp <= 0x9f) || cp == 0xad ||
           cp == 0x200b || cp == 0x200e || cp == 0x200f || (cp >= 0x202a && cp <= 0x202e) ||
           (cp >= 0x2060 && cp <= 0x206f) || cp == 0xfeff || (cp >= 0xfff9 && cp <= 0xfffb) ||
           (cp >= 0xe0000 && cp <= 0xe0fff);
}

static bool is_joiner(uint32_t cp)
{
    return cp == 0x200c || cp == 0x200d;
}

static void put_seen(sl_buf *out, const char *text, size_t len)
{
    uint32_t cp;

    for (size_t i = 0, n; i < len; i += n) {
        n = sl_utf8_decode(text + i, len - i, &cp);
        n = n ? n : 1;
        if (is_hidden(cp) ||
            (is_joiner(cp) && out->len > 0 && (unsigned char)out->ptr[out->len - 1] < 0x80))
            continue;
        sl_buf_put(out, text + i, n);
    }
}

/* ---- control tokens and speakers --------------------------------------------------------------
 */

/* "<...>" without spaces: the spelling of control tokens such as <|im_start|>, </s>, <bos>. */
static bool is_tag(const char *text, size_t len)
{
    for (size_t i = 1; i < len && i < TAG_BYTES; i++) {
        if (text[i] == '>')
            return true;
        if (text[i] == ' ' || text[i] == '\n' || text[i] == '\t')
            return false;
    }
    return false;
}

/* "[INST]", "[/INST]", "[CLS]", "[TOOL_CALLS]": the other spelling. */
static bool is_bracket_tag(const char *text, size_t len)
{
    size_t i = len > 1 && text[1] == '/' ? 2 : 1;
    size_t begin = i;

    while (i < len && i < TAG_BYTES && ((text[i] >= 'A' && text[i] <= 'Z') || text[i] == '_'))
        i++;
    return i > begin && i < len && text[i] == ']';
}

/* "[12]" and "[1, 2]": the length, or 0. */
static size_t marker_len(const char *text, size_t len)
{
    size_t i = 1;
    bool has_digit = false;

    for (; i < len && i < TAG_BYTES; i++) {
        bool is_digit = text[i] >= '0' && text[i] <= '9';

        if (!is_digit && text[i] != ',' && text[i] != ' ' && text[i] != ';')
            break;
        has_digit = has_digit || is_digit;
    }
    return has_digit && i < len && text[i] == ']' ? i + 1 : 0;
}

/* At the beginning of a line: "User:", "### Response:", "System :". The length of the name, with
 * the '#' in front of it, or 0. Templates without control tokens speak so. */
static size_t speaker_len(const char *text, size_t len)
{
    static const char *const names[] = { "system",      "user",     "assistant", "human",
                                         "instruction", "response", "input",     "output",
                                         "question",    "answer",   "ai",        "bot",
                                         "model",       "tool",     "developer" };
    size_t begin = 0, end;

    while (begin < len && begin < TAG_BYTES && strchr("# *\t", text[begin]))
        begin++;
    for (end = begin; end < len && end - begin < TAG_BYTES &&
                      ((text[end] | 32) >= 'a' && (text[end] | 32) <= 'z');)
        end++;
    for (size_t i = 0; i < SL_COUNT_OF(names); i++) {
        size_t colon = end;

        while (colon < len && strchr("* ", text[colon]))
            colon++;
        if (end - begin == strlen(names[i]) &&
            strncasecmp(names[i], text + begin, end - begin) == 0 && colon < len &&
            text[colon] == ':')
            return end;
    }
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Writes what begins at p in another spelling if it must be; returns how many bytes that took, 0:
 * nothing stands against it. */
static size_t put_defused(sl_buf *out, const char *p, size_t rest, bool at_line)
{
    size_t n;

    if (at_line && (n = speaker_len(p, rest)) > 0) {
        for (size_t i = 0; i < n; i++)
            if (p[i] != '#')
                sl_buf_putc(out, p[i]);
        sl_buf_puts(out, " -"); /* in place of the colon */
        while (p[n] != ':')
            n++;
        return n + 1;
    }
    if ((*p == '<' && is_tag(p, rest)) || (*p == '[' && is_bracket_tag(p, rest))) {
        sl_buf_putc(out, *p);
        sl_buf_putc(out, ' ');
        return 1;
    }
    if (*p == '[' && (n = marker_len(p, rest)) > 0) {
        sl_buf_putc(out, '(');
        sl_buf_put(out, p + 1, n - 2);
        sl_buf_putc(out, ')');
        return n;
    }
    if (rest >= 3 && memcmp(p, "\"\"\"", 3) == 0) {
        sl_buf_puts(out, "'''");
        return 3;
    }
    return 0;
}

void prompt_put_data(sl_buf *out, const char *text, size_t len)
{
    bool at_line = true;
    sl_buf seen;

    sl_buf_init(&seen, TEXT_BYTES);
    put_seen(&seen, text, len);
    for (size_t i = 0, n; i < seen.len; i += n) {
        const char *p = seen.ptr + i;

        n = put_defused(out, p, seen.len - i, at_line);
        if (n == 0) {
            sl_buf_putc(out, *p);
            n = 1;
        }
        at_line = p[n - 1] == '\n';
    }
    out->failed = out->failed || seen.failed;
    sl_buf_deinit(&seen);
}
