/* cite.c - markers in the answer: those that name no passage never reach the reader.
 *
 * Text arrives in pieces of any size. What may be the beginning of a marker is held back until it
 * is one or is not: a space, '[', digits with commas and spaces, ']'. */
#include "rag/rag_int.h"

#include <stdio.h>
#include <strings.h>

void cite_filter_init(cite_filter *f, int32_t passage_count,
                      void (*put)(void *ctx, const char *text, size_t len), void *ctx)
{
    SL_ASSERT(passage_count <= RAG_TOP_K_MAX);
    *f = (cite_filter){ .put = put, .ctx = ctx, .passage_count = passage_count };
}

static void release(cite_filter *f)
{
    if (f->held_len)
        f->put(f->ctx, f->held, f->held_len);
    f->held_len = 0;
}

bool cite_note(cite_filter *f, int32_t number)
{
    for (size_t i = 0; i < f->order_count; i++)
        if (f->order[i] == number)
            return false;
    SL_ASSERT(f->order_count < RAG_TOP_K_MAX);
    f->order[f->order_count++] = number;
    return true;
}

/* held is a whole marker, "[1, 7]" behind at most one space: the numbers that name passages stay.
 */
static void finish_marker(cite_filter *f)
{
    bool has_space = f->held[0] == ' ', has_digits = false;
    char text[16];

    f->held[f->held_len] = '\0';
    for (const char *p = f->held; *p;) {
        int64_t n = 0;
        int len;

        if (*p < '0' || *p > '9') {
            p++;
            continue;
        }
        for (; *p >= '0' && *p <= '9'; p++)
            n = SL_MIN(n * 10 + (*p - '0'), (int64_t)1000000);
        has_digits = true;
        if (n < 1 || n > f->passage_count)
            continue;
        (void)cite_note(f, (int32_t)n);
        len = snprintf(text, sizeof text, "%s[%d]", has_space ? " " : "", (int)n);
        has_space = false;
        f->put(f->ctx, text, (size_t)len);
    }
    if (!has_digits) /* "[ ]" is a check box, no marker */
        release(f);
    f->held_len = 0;
}

/* Takes c into what is held; false when c is plain text, with nothing held any more. */
static bool hold_char(cite_filter *f, char c)
{
    bool has_bracket = memchr(f->held, '[', f->held_len) != NULL;

    if (has_bracket && c == ']') {
        f->held[f->held_len++] = c;
        finish_marker(f);
        return true;
    }
    if (has_bracket && ((c >= '0' && c <= '9') || c == ',' || c == ';' || c == ' ') &&
        f->held_len < sizeof f->held - 3) {
        f->held[f->held_len++] = c;
        return true;
    }
    if (has_bracket || c != '[')
        release(f);
    if (c != ' ' && c != '[')
        return false;
    f->held[f->held_len++] = c;
    return true;
}

void cite_filter_push(cite_filter *f, const char *text, size_t len)
{
    size_t plain = 0; /* begin of the text that goes through */

    for (size_t at = 0; at < len; at++) {
        bool is_plain = f->held_len == 0 && text[at] != '[' && text[at] != ' ';

        if (is_plain)
            continue;
        if (f->held_len == 0 && at > plain)
            f->put(f->ctx, text + plain, at - plain);
        plain = hold_char(f, text[at]) ? at + 1 : at;
    }
    if (len > plain)
        f->put(f->ctx, text + plain, len - plain);
}

void cite_filter_end(cite_filter *f)
{
    release(f);
}

/* ---- support by words ---------------------------------------------------------------------- */

static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (unsigned char)c >= 0x80;
}

/* The next word of at least four bytes, or with a digit: the others say nothing. */
static size_t next_word(const char *text, size_t len, size_t *at)
{
    while (*at < len) {
        size_t begin = *at, n;
        bool has_digit = false;

        while (*at < len && is_word_char(text[*at])) {
            has_digit = has_digit || (text[*at] >= '0' && text[*at] <= '9');
            (*at)++;
        }
        n = *at - begin;
        if (n >= 4 || (n > 0 && has_digit))
            return n;
        *at += n == 0;
    }
    return 0;
}

static bool has_word(const char *passage, const char *word, size_t len)
{
    size_t total = strlen(passage), n, at = 0;

    while ((n = next_word(passage, total, &at)) > 0)
        if (n == len && strncasecmp(passage + at - n, word, len) == 0)
            return true;
    return false;
}

double cite_overlap(const char *sentence, size_t len, const char *passage)
{
    size_t n, at = 0, words = 0, shared = 0;

    while ((n = next_word(sentence, len, &at)) > 0) {
        words++;
        shared += has_word(passage, sentence + at - n, n);
    }
    return words ? (double)shared / (double)words : 0;
}
