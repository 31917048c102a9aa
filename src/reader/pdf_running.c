/* pdf_running.c - headers, footers and page numbers: lines at the edge of a page, apart from its
 * text, that come back on other pages at the same height. Digits count as equal. */
#include <stdlib.h>
#include <strings.h>

#include "reader/pdf.h"

#define EDGE      0.13f /* of the page's height, at the top and at the bottom */
#define LINES     3     /* at an edge */
#define GAP       0.7f  /* of the line's height, to the text of the page */
#define TOLERANCE 4.0f  /* points that its height may differ */

typedef struct candidate {
    uint64_t hash; /* of its words */
    float y;
    uint32_t piece, page;
} candidate;

typedef struct candidates {
    candidate *items;
    size_t count, cap;
    bool failed;
} candidates;

/* FNV over the letters; a number is one sign, white space and case are nothing. */
static uint64_t hash_words(const char *text, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u;
    bool was_digit = false;

    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)text[i];
        bool is_digit = c >= '0' && c <= '9';

        if (c == ' ' || (is_digit && was_digit))
            continue;
        was_digit = is_digit;
        c = is_digit ? '#' : c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
        h = (h ^ c) * 0x100000001b3u;
    }
    return h;
}

/* "12", "- 12 -", "Page 3 of 9", "xiv": nothing but a page's number. */
static bool is_page_number(const char *text, size_t len)
{
    static const char *const words[] = { "page", "of", "seite", "von", "p" };
    bool has_number = false;

    for (size_t i = 0; i < len;) {
        size_t n = 0;
        bool known = false;

        while (i + n < len && (text[i + n] | 32) >= 'a' && (text[i + n] | 32) <= 'z')
            n++;
        if (n == 0) {
            has_number = has_number || (text[i] >= '0' && text[i] <= '9');
            if (!strchr("0123456789 -/.|[]()", text[i]))
                return false;
            i++;
            continue;
        }
        for (size_t w = 0; w < SL_COUNT_OF(words); w++)
            known = known || (strlen(words[w]) == n && strncasecmp(words[w], text + i, n) == 0);
        if (!known && (n > 6 || strspn(text + i, "ivxlIVXL") < n || n != len))
            return false;
        has_number = has_number || !known;
        i += n;
    }
    return has_number;
}

/* "Introduction . . . . . 7": a line of a table of contents, which repeats a heading. */
static bool is_leader(const pdf_lines *l, size_t first, size_t count)
{
    size_t dots = 0, most = 0;
    char last = 0;

    for (size_t i = first; i < first + count; i++)
        for (size_t k = l->pieces[i].begin; k < l->pieces[i].end; k++) {
            if (l->text.ptr[k] == ' ')
                continue;
            last = l->text.ptr[k];
            dots = last == '.' ? dots + 1 : 0;
            most = SL_MAX(most, dots);
        }
    return most >= 5 && ((last >= '0' && last <= '9') || (last && strchr(".ivx", last)));
}

static void mark_leaders(pdf_lines *l)
{
    for (size_t i = 0; i < l->count;) {
        size_t n = 1;
        bool is_one;

        while (i + n < l->count && l->pieces[i + n].joins)
            n++;
        is_one = is_leader(l, i, n);
        for (size_t k = i; k < i + n; k++)
            l->pieces[k].is_running = is_one;
        i += n;
    }
}

/* ---- candidates ----------------------------------------------------------------------------- */

static int by_y(const void *a, const void *b)
{
    const candidate *p = a, *q = b;

    return (p->y > q->y) - (p->y < q->y);
}

static void push(candidates *c, candidate item)
{
    if (!sl_grow((void **)&c->items, &c->cap, c->count + 1, sizeof *c->items, PDF_LINES_MAX)) {
        c->failed = true;
        return;
    }
    c->items[c->count++] = item;
}

/* The pieces at one edge, from it inwards, as far as a gap parts them from the rest. order: all
 * pieces of the page from top to bottom; step 1 from the top, -1 from the bottom. */
static void take_edge(const pdf_lines *l, const candidate *order, size_t count, int step,
                      candidates *out)
{
    size_t taken = 0, lines = 0;
    float edge = l->heights[order[0].page - 1] * EDGE, height = l->heights[order[0].page - 1];

    for (size_t k = 0; k < count; k++) {
        const pdf_piece *p = &l->pieces[order[step > 0 ? k : count - 1 - k].piece], *next;
        float gap;

        if (step > 0 ? p->y1 > edge : p->y0 < height - edge)
            break;
        if (k + 1 == count) {
            taken = count;
            break;
        }
        next = &l->pieces[order[step > 0 ? k + 1 : count - 2 - k].piece];
        gap = step > 0 ? next->y0 - p->y1 : p->y0 - next->y1;
        if (gap > -0.5f * (p->y1 - p->y0))
            lines++;
        if (gap > GAP * (p->y1 - p->y0)) {
            taken = k + 1;
            if (gap > 3 * GAP * (p->y1 - p->y0) || lines >= LINES)
                break;
        }
        if (lines > LINES)
            break;
    }
    for (size_t k = 0; k < taken; k++)
        push(out, order[step > 0 ? k : count - 1 - k]);
}

static void take_page(const pdf_lines *l, size_t first, size_t count, candidates *order,
                      candidates *out)
{
    order->count = 0;
    for (size_t i = first; i < first + count; i++) {
        const pdf_piece *p = &l->pieces[i];

        push(order, (candidate){ .hash = hash_words(l->text.ptr + p->begin, p->end - p->begin),
                                 .y = (p->y0 + p->y1) / 2,
                                 .piece = (uint32_t)i,
                                 .page = p->page });
    }
    if (order->failed || order->count == 0)
        return;
    qsort(order->items, order->count, sizeof *order->items, by_y);
    take_edge(l, order->items, order->count, 1, out);
    take_edge(l, order->items, order->count, -1, out);
}

static int by_words(const void *a, const void *b)
{
    const candidate *p = a, *q = b;

    if (p->hash != q->hash)
        return p->hash > q->hash ? 1 : -1;
    return by_y(a, b);
}

sl_status pdf_mark_running(pdf_lines *l, sl_err *err)
{
    candidates order = { 0 }, c = { 0 };
    size_t need = l->page_count < 5 ? 2 : 3;
    bool ok;

    mark_leaders(l);
    for (size_t i = 0; i < l->count;) {
        size_t n = 1;

        while (i + n < l->count && l->pieces[i + n].page == l->pieces[i].page)
            n++;
        take_page(l, i, n, &order, &c);
        i += n;
    }
    if (c.count > 0)
        qsort(c.items, c.count, sizeof *c.items, by_words);
    for (size_t i = 0; i < c.count;) {
        size_t n = 1;

        while (i + n < c.count && c.items[i + n].hash == c.items[i].hash &&
               c.items[i + n].y - c.items[i + n - 1].y < TOLERANCE)
            n++;
        for (size_t k = i; k < i + n; k++) {
            pdf_piece *p = &l->pieces[c.items[k].piece];

            if (n >= need || is_page_number(l->text.ptr + p->begin, p->end - p->begin))
                p->is_running = true;
        }
        i += n;
    }
    ok = !order.failed && !c.failed;
    sl_free(order.items);
    sl_free(c.items);
    return ok ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");
}
