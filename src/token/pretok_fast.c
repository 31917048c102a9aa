/* pretok_fast.c - the three common pre-tokenizer rules written by hand. Each returns the length of
 * the piece at the start of the text, as its regular expression in pretok_table.c would; the tests
 * compare the two. */
#include "token/token_int.h"

/* What a splitter counts as a letter, a number, a space. */
static inline uc_class class_at(const char *p, const char *end, bool marks, size_t *ret_len)
{
    uc_class c = uc_class_at(p, (size_t)(end - p), ret_len);

    return c == UC_MARK ? (marks ? UC_LETTER : UC_OTHER) : c;
}

/* End of the run of class c that starts at p. */
static inline const char *run_end(const char *p, const char *end, uc_class c, bool marks)
{
    size_t n;

    while (p < end && class_at(p, end, marks, &n) == c)
        p += n;
    return p;
}

/* Length of 's 't 're 've 'm 'll 'd at p (p[0] is the apostrophe), 0 when there is none. */
static size_t contraction(const char *p, size_t len, bool any_case)
{
    char fold = any_case ? 0x20 : 0, a, b;

    if (len < 2)
        return 0;
    a = (char)(p[1] | fold);
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if (len < 3)
        return 0;
    b = (char)(p[2] | fold);
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+ : all the space at the end of the text, else all but the last character of it. */
static size_t space_piece(const char *p, const char *end)
{
    const char *q = p, *last = p;
    size_t n;

    while (q < end && class_at(q, end, false, &n) == UC_SPACE) {
        last = q;
        q += n;
    }
    return (size_t)((q == end || last == p ? q : last) - p);
}

size_t split_gpt2(const char *p, size_t len)
{
    const char *end = p + len, *q = p;
    size_t n;
    uc_class c;

    if (*p == '\'' && (n = contraction(p, len, false)))
        return n;
    q += *p == ' ' && len > 1;
    c = class_at(q, end, false, &n);
    if (c == UC_SPACE)
        return space_piece(p, end);
    return (size_t)(run_end(q + n, end, c, false) - p);
}

/* Numbers are single pieces; between two of them GPT-2's rule sees nothing else, so a space run
 * in front of a number is whole. */
size_t split_digits_gpt2(const char *p, size_t len)
{
    const char *end = p + len, *q = p;
    size_t n;
    uc_class c;

    if (*p == '\'' && (n = contraction(p, len, false)))
        return n;
    if (class_at(p, end, false, &n) == UC_NUMBER)
        return n;
    q += *p == ' ' && len > 1;
    c = class_at(q, end, false, &n);
    if (q > p && c == UC_NUMBER)
        return 1;
    if (c == UC_SPACE) {
        const char *r = run_end(p, end, UC_SPACE, false);

        if (r < end && class_at(r, end, false, &n) == UC_NUMBER)
            return (size_t)(r - p);
        return space_piece(p, end);
    }
    return (size_t)(run_end(q + n, end, c, false) - p);
}

/* \s*[\r\n]+ : up to the last line end of the space run; else as space_piece. */
static size_t line_or_space(const char *p, const char *end)
{
    const char *q = p, *line = NULL;
    size_t n;

    while (q < end && class_at(q, end, false, &n) == UC_SPACE) {
        line = *q == '\r' || *q == '\n' ? q + 1 : line;
        q += n;
    }
    return line ? (size_t)(line - p) : space_piece(p, end);
}

static inline size_t split_modern(const char *p, size_t len, int digits_max, bool marks)
{
    const char *end = p + len, *q;
    size_t n, m;
    uc_class c, next = UC_OTHER;

    if (*p == '\'' && (n = contraction(p, len, true)))
        return n;
    c = class_at(p, end, marks, &n);
    if (c == UC_LETTER)
        return (size_t)(run_end(p + n, end, UC_LETTER, marks) - p);
    if (c == UC_NUMBER) {
        q = p + n;
        while (--digits_max > 0 && q < end && class_at(q, end, marks, &n) == UC_NUMBER)
            q += n;
        return (size_t)(q - p);
    }
    if (p + n < end)
        next = class_at(p + n, end, marks, &m);
    else
        m = 0;
    if (next == UC_LETTER && m && *p != '\r' && *p != '\n')
        return (size_t)(run_end(p + n + m, end, UC_LETTER, marks) - p);
    if (c == UC_SPACE && (*p != ' ' || next != UC_OTHER || !m))
        return line_or_space(p, end);
    q = run_end(p + n, end, UC_OTHER, marks);
    while (q < end && (*q == '\r' || *q == '\n'))
        q++;
    return (size_t)(q - p);
}

size_t split_llama3(const char *p, size_t len)
{
    return split_modern(p, len, 3, false);
}

size_t split_qwen2(const char *p, size_t len)
{
    return split_modern(p, len, 1, false);
}

size_t split_qwen35(const char *p, size_t len)
{
    return split_modern(p, len, 1, true);
}
