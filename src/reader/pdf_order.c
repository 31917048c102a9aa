/* pdf_order.c - the reading order of a page.
 *
 * A gutter is a vertical strip near the middle that few lines cross, with lines of text on both
 * sides that fill their columns. Lines that cross it (a title over two columns) divide the page
 * into zones; in each zone the left side comes before the right one, each ordered in the same way.
 * Where there is no gutter, lines go from top to bottom; columns of a table are no gutters, since
 * their cells are short. */
#include <math.h>
#include <stdlib.h>

#include "reader/pdf.h"

#define DEPTH_MAX   6     /* seven columns */
#define BINS        1024  /* across the region */
#define LINES_MIN   3     /* of a column */
#define FILL_MIN    0.28f /* of its side's width, on average: a side may hold three columns */
#define EMS_MIN     9.0f  /* letters M in a line of a column, on average */
#define CROSSED_MAX 0.25f

typedef struct side {
    size_t count;
    float x0, x1, y0, y1, width, size; /* sums of width and size */
} side;

static int by_place(const void *a, const void *b)
{
    const pdf_piece *p = a, *q = b;
    float py = p->y0 + p->y1, qy = q->y0 + q->y1;

    return py != qy ? (py > qy) - (py < qy) : (p->x0 > q->x0) - (p->x0 < q->x0);
}

static int by_x(const void *a, const void *b)
{
    const pdf_piece *p = a, *q = b;

    return (p->x0 > q->x0) - (p->x0 < q->x0);
}

/* True when q stands in the line of p: they share more than half of the lower one's height. */
static bool same_line(const pdf_piece *p, const pdf_piece *q)
{
    float shared = SL_MIN(p->y1, q->y1) - SL_MAX(p->y0, q->y0);

    return shared > 0.5f * SL_MIN(p->y1 - p->y0, q->y1 - q->y0);
}

/* From top to bottom, and from left to right in each line. */
static void order_lines(pdf_piece *p, size_t count)
{
    qsort(p, count, sizeof *p, by_place);
    for (size_t i = 0; i < count;) {
        size_t n = 1;

        while (i + n < count && same_line(&p[i], &p[i + n]))
            n++;
        qsort(p + i, n, sizeof *p, by_x);
        for (size_t k = 0; k < n; k++) {
            p[i + k].joins = k > 0;
            p[i + k].is_near = k > 0 && p[i + k].x0 - p[i + k - 1].x1 < PDF_GAP * p[i + k].size;
        }
        i += n;
    }
}

static void add(side *s, const pdf_piece *p)
{
    s->x0 = s->count ? SL_MIN(s->x0, p->x0) : p->x0;
    s->x1 = s->count ? SL_MAX(s->x1, p->x1) : p->x1;
    s->y0 = s->count ? SL_MIN(s->y0, p->y0) : p->y0;
    s->y1 = s->count ? SL_MAX(s->y1, p->y1) : p->y1;
    s->width += p->x1 - p->x0;
    s->size += p->size;
    s->count++;
}

static bool is_column(const side *s)
{
    return s->count >= LINES_MIN && s->width >= FILL_MIN * (s->x1 - s->x0) * (float)s->count &&
           s->width >= EMS_MIN * s->size;
}

/* True when lines left and right of x are two columns of text beside each other. */
static bool is_gutter(const pdf_piece *p, size_t count, float x)
{
    side left = { 0 }, right = { 0 };
    size_t crossed = 0;
    float shared;

    for (size_t i = 0; i < count; i++) {
        if (p[i].x1 <= x)
            add(&left, &p[i]);
        else if (p[i].x0 >= x)
            add(&right, &p[i]);
        else
            crossed++;
    }
    if (!is_column(&left) || !is_column(&right) || (float)crossed > CROSSED_MAX * (float)count)
        return false;
    shared = SL_MIN(left.y1, right.y1) - SL_MAX(left.y0, right.y0);
    return shared > 0.3f * SL_MIN(left.y1 - left.y0, right.y1 - right.y0);
}

/* The middle of the strip that the fewest lines cross; of equal ones the widest. NAN: none. */
static float find_gutter(const pdf_piece *p, size_t count)
{
    int delta[BINS + 1] = { 0 }, cover = 0, best = -1, best_len = 0, run = 0, run_cover = -1;
    float x0 = p[0].x0, x1 = p[0].x1, scale;

    for (size_t i = 1; i < count; i++) {
        x0 = SL_MIN(x0, p[i].x0);
        x1 = SL_MAX(x1, p[i].x1);
    }
    if (x1 - x0 < 40)
        return NAN;
    scale = (float)BINS / (x1 - x0);
    for (size_t i = 0; i < count; i++) {
        int from = (int)((p[i].x0 - x0) * scale), to = (int)ceilf((p[i].x1 - x0) * scale);

        delta[SL_MIN(from, BINS)]++;
        delta[SL_MIN(to, BINS)]--;
    }
    int best_cover = (int)((float)count * CROSSED_MAX) + 1;

    for (int i = 0; i < BINS; i++) {
        cover += delta[i];
        run = cover == run_cover ? run + 1 : 1;
        run_cover = cover;
        if (i < BINS / 8 || i - run + 1 > BINS - BINS / 8 || (float)run < 5 * scale)
            continue;
        if (cover < best_cover || (cover == best_cover && run > best_len)) {
            best_cover = cover;
            best_len = run;
            best = i - run / 2;
        }
    }
    return best < 0 ? NAN : x0 + ((float)best + 0.5f) / scale;
}

static sl_status order(pdf_piece *p, size_t count, int depth, sl_err *err);

/* Lines above the next crossing one: left ones, then right ones. */
static sl_status order_zone(pdf_piece *p, size_t count, float x, int depth, sl_err *err)
{
    pdf_piece *copy = sl_malloc(SL_MAX(count, (size_t)1) * sizeof *copy);
    size_t left = 0, at = 0;
    sl_status status;

    if (!copy)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    for (int is_right = 0; is_right < 2; is_right++) {
        for (size_t i = 0; i < count; i++)
            if ((p[i].x0 + p[i].x1 > 2 * x) == (is_right == 1))
                copy[at++] = p[i];
        left = is_right ? left : at;
    }
    memcpy(p, copy, count * sizeof *p);
    sl_free(copy);
    status = order(p, left, depth, err);
    return status == SL_OK ? order(p + left, count - left, depth, err) : status;
}

static sl_status order(pdf_piece *p, size_t count, int depth, sl_err *err)
{
    float x = NAN;
    size_t begin = 0;

    if (count >= 2 * LINES_MIN && depth < DEPTH_MAX)
        x = find_gutter(p, count);
    if (isnan(x) || !is_gutter(p, count, x)) {
        order_lines(p, count);
        return SL_OK;
    }
    qsort(p, count, sizeof *p, by_place);
    for (size_t i = 0; i <= count; i++) {
        bool crosses = i < count && p[i].x0 < x && p[i].x1 > x;

        if (i < count && !crosses)
            continue;
        SL_TRY(order_zone(p + begin, i - begin, x, depth + 1, err));
        if (i < count)
            p[i].joins = false;
        begin = i + 1;
    }
    return SL_OK;
}

sl_status pdf_order(pdf_piece *pieces, size_t count, sl_err *err)
{
    return count ? order(pieces, count, 0, err) : SL_OK;
}
