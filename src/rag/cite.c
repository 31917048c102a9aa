/* cite.c - markers in the answer: those that name no passage never reach the reader, the others are
 * resolved to the sentence that supports them.
 *
 * Text arrives in pieces of any size. What may be the beginning of a marker is held back until it
 * is one or is not: a space, '[', digits with commas and spaces, ']'. */
#include <stdio.h>
#include <strings.h>

#include "rag/answer_int.h"

#define MARKS_MAX 4096 /* of an answer that are told with their place */
#define LINE_LONG 400  /* bytes of a "sentence" that is rather a table or a list */

void cite_filter_init(cite_filter *f, int32_t passage_count,
                      void (*put)(void *ctx, const char *text, size_t len), void *ctx)
{
    SL_ASSERT(passage_count <= RAG_TOP_K_MAX);
    *f = (cite_filter){ .put = put, .ctx = ctx, .passage_count = passage_count };
}

void cite_filter_deinit(cite_filter *f)
{
    sl_free(f->marks);
    *f = (cite_filter){ 0 };
}

static void emit(cite_filter *f, const char *text, size_t len)
{
    f->out_len += len;
    f->put(f->ctx, text, len);
}

static void release(cite_filter *f)
{
    if (f->held_len)
        emit(f, f->held, f->held_len);
    f->held_len = 0;
}

static void note(cite_filter *f, int32_t number)
{
    for (size_t i = 0; i < f->order_count; i++)
        if (f->order[i] == number)
            return;
    SL_ASSERT(f->order_count < RAG_TOP_K_MAX);
    f->order[f->order_count++] = number;
}

static void put_marker(cite_filter *f, int32_t number, bool has_space)
{
    char text[16];
    size_t len = (size_t)snprintf(text, sizeof text, "%s[%d]", has_space ? " " : "", (int)number);

    note(f, number);
    emit(f, text, len);
    if (sl_grow((void **)&f->marks, &f->mark_cap, f->mark_count + 1, sizeof *f->marks, MARKS_MAX))
        f->marks[f->mark_count++] = (cite_mark){ number, f->out_len - len + has_space, f->out_len };
}

void cite_filter_add(cite_filter *f, int32_t number)
{
    put_marker(f, number, f->out_len > 0);
}

/* held is a whole marker, "[1, 7]" behind at most one space: the numbers that name passages stay.
 */
static void finish_marker(cite_filter *f)
{
    bool has_space = f->held[0] == ' ', has_digits = false;

    f->held[f->held_len] = '\0';
    for (const char *p = f->held; *p;) {
        int64_t n = 0;

        if (*p < '0' || *p > '9') {
            p++;
            continue;
        }
        for (; *p >= '0' && *p <= '9'; p++)
            n = SL_MIN(n * 10 + (*p - '0'), (int64_t)1000000);
        has_digits = true;
        if (n < 1 || n > f->passage_count) {
            f->removed++;
            continue;
        }
        put_marker(f, (int32_t)n, has_space);
        has_space = false;
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
            emit(f, text + plain, at - plain);
        plain = hold_char(f, text[at]) ? at + 1 : at;
    }
    if (len > plain)
        emit(f, text + plain, len - plain);
}

void cite_filter_end(cite_filter *f)
{
    release(f);
}

/* ---- support by words ---------------------------------------------------------------------- */

static bool is_cjk(uint32_t cp)
{
    return (cp >= 0x3040 && cp <= 0x30ff) || (cp >= 0x3400 && cp <= 0x9fff) ||
           (cp >= 0xac00 && cp <= 0xd7af);
}

static bool is_word_char(uint32_t cp)
{
    return (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z') || (cp >= '0' && cp <= '9') ||
           (cp >= 0xc0 && !is_cjk(cp) && !(cp >= 0x2000 && cp <= 0x303f) && cp < 0xff00);
}

/* The next telling word: of at least four bytes or with a digit, or two CJK characters that stand
 * together (they overlap: three are two words). Its begin in *at; *next is where to go on; 0 at the
 * end. */
static size_t next_word(const char *text, size_t len, size_t *at, size_t *next)
{
    uint32_t cp = 0, second = 0;

    for (*at = *next; *at < len; *at = *next) {
        size_t n = sl_utf8_decode(text + *at, len - *at, &cp), k;
        bool has_digit = false;

        n = n ? n : 1;
        *next = *at + n;
        if (is_cjk(cp)) {
            k = sl_utf8_decode(text + *next, len - *next, &second);
            if (k && is_cjk(second))
                return n + k;
            continue;
        }
        for (*next = *at; *next < len; *next += n) {
            n = sl_utf8_decode(text + *next, len - *next, &cp);
            n = n ? n : 1;
            if (!is_word_char(cp))
                break;
            has_digit = has_digit || (cp >= '0' && cp <= '9');
        }
        k = *next - *at;
        *next += k == 0 ? n : 0;
        if (k >= 4 || (k > 0 && has_digit))
            return k;
    }
    return 0;
}

static bool has_word(const char *passage, size_t passage_len, const char *word, size_t len)
{
    size_t at = 0, next = 0, n;

    while ((n = next_word(passage, passage_len, &at, &next)) > 0)
        if (n == len && strncasecmp(passage + at, word, len) == 0)
            return true;
    return false;
}

double cite_overlap(const char *sentence, size_t len, const char *passage, size_t passage_len)
{
    size_t at = 0, next = 0, n, words = 0, shared = 0;

    while ((n = next_word(sentence, len, &at, &next)) > 0) {
        words++;
        shared += has_word(passage, passage_len, sentence + at, n);
    }
    return words ? (double)shared / (double)words : 0;
}

/* ---- statements and quotes ----------------------------------------------------------------- */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Whether text[begin..end) has anything but blanks and markers. */
static bool says_something(const char *text, size_t begin, size_t end)
{
    for (; begin < end; begin++)
        if (!is_space(text[begin]) && !(text[begin] >= '0' && text[begin] <= '9') &&
            !strchr("[],;.", text[begin]))
            return true;
    return false;
}

sl_span cite_statement(const char *text, size_t at)
{
    size_t begin = 0, last = 0; /* of the sentence in hand, and of the last one that says much */

    for (size_t end; begin < at; begin = end) {
        end = chunk_sentence_end(text, at, begin);
        if (says_something(text, begin, end))
            last = begin;
    }
    while (last < at && is_space(text[last]))
        last++;
    return sl_span_of(text + last, at - last);
}

/* The next piece of a passage that may be quoted: a sentence, or a line of what has none. */
static sl_span next_piece(const char *text, size_t len, size_t *at)
{
    size_t begin = *at, end;
    const char *line;

    while (begin < len && is_space(text[begin]))
        begin++;
    end = chunk_sentence_end(text, len, begin);
    line = end - begin > LINE_LONG ? memchr(text + begin, '\n', end - begin) : NULL;
    *at = end = line ? (size_t)(line - text) : end;
    while (end > begin && is_space(text[end - 1]))
        end--;
    return sl_span_of(text + begin, end - begin);
}

sl_span cite_quote(sl_span statement, const char *passage, size_t len, double *ret_share)
{
    sl_span best = { 0 };

    *ret_share = 0;
    for (size_t at = 0; at < len;) {
        sl_span s = next_piece(passage, len, &at);
        double share = s.len ? cite_overlap((const char *)statement.ptr, statement.len,
                                            (const char *)s.ptr, s.len)
                             : 0;

        if (s.len && (!best.ptr || share > *ret_share)) {
            best = s;
            *ret_share = share;
        }
    }
    return best;
}
