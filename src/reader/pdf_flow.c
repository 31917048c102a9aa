/* pdf_flow.c - lines in reading order to headings, paragraphs, list items and rows of tables.
 *
 * A line goes on with the open block unless something says that a new one begins: another size of
 * letters, more space than between lines, an indent, a mark of a list, or a line before it that
 * ended although the next word would have fitted. */
#include <math.h>

#include "reader/pdf.h"

#define CELLS_MAX    64 /* of a row; the others run into the last */
#define HEADING_MORE 1.12f
#define HEADING_MAX  240 /* bytes; what is larger and longer is a quotation */

typedef struct flow {
    const pdf_lines *l;
    reader_out *out;
    float body;  /* size of most letters */
    float pitch; /* distance of lines in a paragraph, in sizes */
    float sizes[6];
    int size_count;
    const pdf_piece *first, *last; /* of the open block; NULL: none is open */
    size_t line_count;             /* in the open block */
    float x0, x1;                  /* of its lines */
} flow;

static const char *text_of(const flow *f, const pdf_piece *p)
{
    return f->l->text.ptr + p->begin;
}

static size_t len_of(const pdf_piece *p)
{
    return p->end - p->begin;
}

/* ---- letters -------------------------------------------------------------------------------- */

static bool is_cjk(uint32_t cp)
{
    return (cp >= 0x2e80 && cp <= 0x9fff) || (cp >= 0xf900 && cp <= 0xfaff) ||
           (cp >= 0xff00 && cp <= 0xffef) || (cp >= 0x20000 && cp <= 0x3ffff);
}

static uint32_t first_char(const char *text, size_t len)
{
    uint32_t cp = 0;

    return sl_utf8_decode(text, len, &cp) ? cp : 0;
}

static uint32_t last_char(const char *text, size_t len)
{
    size_t n = 1;

    while (n < len && n < 4 && ((uint8_t)text[len - n] & 0xc0) == 0x80)
        n++;
    return len ? first_char(text + len - n, n) : 0;
}

/* Small letters of Latin, Greek and Cyrillic, as far as line ends need them. */
static bool is_lower(uint32_t cp)
{
    return (cp >= 'a' && cp <= 'z') || (cp >= 0xdf && cp <= 0xff && cp != 0xf7) ||
           (cp >= 0x3b1 && cp <= 0x3c9) || (cp >= 0x430 && cp <= 0x45f) ||
           (cp >= 0x100 && cp <= 0x17f && (cp & 1));
}

static bool is_letter(uint32_t cp)
{
    return is_lower(cp) || (cp >= 'A' && cp <= 'Z') || (cp >= 0xc0 && cp < 0x2000);
}

static bool ends_sentence(const char *text, size_t len)
{
    uint32_t cp = last_char(text, len);

    if ((cp == '"' || cp == ')' || cp == 0x201d || cp == 0x300d) && len > 1)
        cp = last_char(text, len - 1 - (cp > 0x7f ? 2 : 0));
    return cp == '.' || cp == '!' || cp == '?' || cp == ':' || cp == 0x3002 || cp == 0xff01 ||
           cp == 0xff1f;
}

/* Bytes of the mark of a list item at the front, with the space behind it: a bullet's is no part of
 * the text (*ret_bullet), a number is. */
static size_t item_mark(const char *p, size_t len, bool *ret_bullet)
{
    uint32_t cp = first_char(p, len);
    size_t n = 0;

    *ret_bullet =
        cp == 0x2022 || cp == 0x25cf || cp == 0x25e6 || cp == 0x25aa || cp == 0x25a0 ||
        cp == 0x2023 || cp == 0xb7 || cp == 0x2043 || cp == 0xf0b7 ||
        ((cp == '-' || cp == '*' || cp == 0x2013) && len > 1 && p[cp > 0x7f ? 3 : 1] == ' ');
    if (*ret_bullet) {
        char c[4];

        n = sl_utf8_encode(cp, c);
        return n + strspn(p + n, " ") * (n < len);
    }
    if (cp == '(')
        n++;
    while (n < len && n < 4 && p[n] >= '0' && p[n] <= '9')
        n++;
    if (n == (cp == '(') && n + 1 < len && (p[n] | 32) >= 'a' && (p[n] | 32) <= 'z' &&
        p[n + 1] == ')')
        n++;
    if (n <= (size_t)(cp == '(') || n + 1 >= len || !strchr(".)", p[n]))
        return 0;
    return p[n + 1] == ' ' ? n + 2 : 0;
}

/* True when a piece is nothing but the label of a list item: "3", "b)", a bullet. */
static bool is_label(const char *p, size_t len)
{
    bool is_bullet;
    size_t mark = item_mark(p, len, &is_bullet), n = 0;

    if (is_bullet)
        return mark == len;
    n = len > 0 && p[0] == '(';
    while (n < len && len < 6 && ((p[n] >= '0' && p[n] <= '9') || (p[n] == '.' && n + 1 < len)))
        n++;
    if (n == (size_t)(p[0] == '(') && n < len && (p[n] | 32) >= 'a' && (p[n] | 32) <= 'z' &&
        len - n == 2)
        n++;
    return n > 0 && (n == len || (n + 1 == len && strchr(".)", p[n])));
}

/* ---- blocks --------------------------------------------------------------------------------- */

static int heading_level(const flow *f, const pdf_piece *p, size_t len)
{
    bool is_large = p->size > f->body * HEADING_MORE;

    if (len > HEADING_MAX || p->is_mono)
        return 0;
    for (int i = 0; i < f->size_count && is_large; i++)
        if (fabsf(p->size - f->sizes[i]) < 0.3f)
            return SL_MIN(i + 1, 6);
    return is_large ? 6 : 0;
}

/* The open block was a paragraph; now that all of it is known it may be a heading. */
static void end_block(flow *f)
{
    reader_out *o = f->out;
    size_t len;
    const char *text;
    int level;

    if (!f->first)
        return;
    len = o->text.len - o->open.begin;
    text = sl_buf_str(&o->text) + o->open.begin;
    level = heading_level(f, f->first, len);
    if (!level && f->first->is_bold && f->first->size > f->body * 0.95f && len <= 120 &&
        f->line_count <= 2 && len > 1 && !strchr(".;,:", text[len - 1]))
        level = SL_MIN(f->size_count + 1, 6);
    if (o->is_open && o->open.kind == READER_PARAGRAPH && level) {
        o->open.kind = READER_HEADING;
        o->open.level = (uint8_t)level;
        if (level == 1)
            reader_title(o, text, len);
    }
    reader_end(o);
    f->first = f->last = NULL;
}

static bool is_item(const flow *f, const pdf_piece *p, size_t count)
{
    bool unused;

    if (heading_level(f, p, len_of(p)))
        return false;
    return item_mark(text_of(f, p), len_of(p), &unused) ||
           (count > 1 && is_label(text_of(f, p), len_of(p)));
}

static void begin_block(flow *f, const pdf_piece *p, size_t count)
{
    const char *text = text_of(f, p);
    bool is_bullet = false, item = is_item(f, p, count);
    size_t mark = item ? item_mark(text, len_of(p), &is_bullet) : 0;
    reader_kind kind = item ? READER_LIST_ITEM : p->is_mono ? READER_CODE : READER_PARAGRAPH;

    end_block(f);
    reader_page(f->out, p->page);
    reader_begin(f->out, kind, kind == READER_LIST_ITEM, is_bullet ? "- " : NULL);
    if (!is_bullet)
        mark = 0;
    reader_put(f->out, text + mark, len_of(p) - mark);
    f->first = f->last = p;
    f->line_count = 1;
    f->x0 = p->x0;
    f->x1 = p->x1;
}

/* Appends a line: a hyphen at the end of the last one goes, Han and kana join without a space. */
static void append_line(flow *f, const pdf_piece *p)
{
    reader_out *o = f->out;
    const char *text = text_of(f, p), *before = sl_buf_str(&o->text) + o->open.begin;
    size_t len = o->text.len - o->open.begin;
    uint32_t last = last_char(before, len), next = first_char(text, len_of(p));

    if (p->joins) {
        reader_put(o, " ", 1);
    } else if (o->open.kind == READER_CODE) {
        float indent = (p->x0 - f->first->x0) / (0.6f * p->size); /* their letters are that wide */

        reader_put_break(o);
        for (long n = indent < 80 ? lroundf(indent) : 0; n > 0; n--)
            reader_put_code(o, " ", 1);
    } else if ((last == '-' || last == 0x2010) && is_lower(next) &&
               is_letter(last_char(before, len - (last == '-' ? 1 : 3)))) {
        o->text.len -= last == '-' ? 1 : 3;
    } else if (!(is_cjk(last) && is_cjk(next))) {
        reader_put(o, " ", 1);
    }
    reader_put(o, text, len_of(p));
    if (p->page != f->last->page || p->y1 < f->last->y1) { /* edges of the new column count */
        f->x0 = p->x0;
        f->x1 = p->x1;
    }
    f->last = p;
    if (!p->joins) {
        f->line_count++;
        f->x0 = SL_MIN(f->x0, p->x0);
    }
    f->x1 = SL_MAX(f->x1, p->x1);
}

/* The width of the first word of a line, by its share of the letters. */
static float first_word(const flow *f, const pdf_piece *p)
{
    const char *text = text_of(f, p), *space = memchr(text, ' ', len_of(p));
    size_t n = space ? (size_t)(space - text) : len_of(p);

    if (is_cjk(first_char(text, len_of(p))))
        return p->size;
    return (p->x1 - p->x0) * (float)n / (float)len_of(p);
}

/* True when p goes on with what the open block says. */
static bool goes_on(const flow *f, const pdf_piece *p, size_t count)
{
    const pdf_piece *last = f->last;
    bool moved = p->page != last->page || p->y1 < last->y1; /* to another column or page */
    float em = p->size, step = p->y1 - last->y1, right = moved ? f->x1 : SL_MAX(f->x1, p->x1);
    bool starts_item = is_item(f, p, count), fitted;
    bool in_code = f->out->open.kind == READER_CODE;
    size_t len = f->out->text.len - f->out->open.begin;
    const char *text = sl_buf_str(&f->out->text) + f->out->open.begin;

    if (fabsf(last->size - p->size) > 0.08f * SL_MAX(last->size, p->size) + 0.3f ||
        (in_code && !p->is_mono) || (!in_code && p->is_mono && ends_sentence(text, len)))
        return false;
    fitted = last->x1 + first_word(f, p) + 0.8f * em < right;
    if (moved)
        return !starts_item && !ends_sentence(text, len) &&
               (f->line_count < 2 || !fitted || is_lower(first_char(text_of(f, p), len_of(p)))) &&
               last->is_bold == p->is_bold && !heading_level(f, p, 0);
    if (in_code)
        return step < 2.8f * em; /* blank lines are part of code */
    if (step > (f->pitch * 1.2f + 0.1f) * em)
        return false;
    if (starts_item || last->is_bold != p->is_bold)
        return false;
    if (f->line_count == 1 && f->first->x0 > p->x0 + 0.9f * em)
        return f->first->x0 < p->x0 + 5 * em && !fitted; /* the first line was indented */
    if (p->x0 > f->x0 + 0.9f * em && f->out->open.kind != READER_LIST_ITEM &&
        !(heading_level(f, p, 0)))
        return false;
    if (p->x0 < f->x0 - 0.9f * em && f->line_count > 1)
        return false;
    return !(fitted && (ends_sentence(text, len) || last->x1 < f->x0 + 0.6f * (right - f->x0)));
}

/* ---- tables --------------------------------------------------------------------------------- */

/* The next line: its pieces, without running ones. Returns where the one behind it begins. */
static size_t next_line(const flow *f, size_t at, size_t *ret_first, size_t *ret_count)
{
    const pdf_lines *l = f->l;

    while (at < l->count && l->pieces[at].is_running)
        at++;
    *ret_first = at;
    *ret_count = 0;
    for (; at < l->count && (*ret_count == 0 || l->pieces[at].joins); at++)
        (*ret_count)++;
    return at;
}

static bool near(float a, float b, float em)
{
    return fabsf(a - b) < 0.6f * em;
}

typedef struct cell {
    float x0, x1;
} cell;

/* The cells of a line: pieces that stand near each other are one. Returns how many. */
static size_t take_cells(const pdf_piece *p, size_t count, cell ret[CELLS_MAX])
{
    size_t cells = 0;

    for (size_t i = 0; i < count; i++) {
        if (i > 0 && p[i].is_near)
            ret[cells - 1].x1 = p[i].x1;
        else if (cells < CELLS_MAX)
            ret[cells++] = (cell){ p[i].x0, p[i].x1 };
    }
    return cells;
}

/* The narrowest gap between cells of a line, in points. */
static float least_gap(const cell *c, size_t count)
{
    float gap = 1e9f;

    for (size_t i = 1; i < count; i++)
        gap = SL_MIN(gap, c[i].x0 - c[i - 1].x1);
    return gap;
}

/* Two lines are rows of a table when two of their cells share an edge or the middle; edges of the
 * whole line do not count where gaps are narrow, since all lines of justified text share those. */
static bool aligned(const cell *a, size_t m, const cell *b, size_t n, float em)
{
    size_t shared = 0, inner = 0;

    for (size_t i = 0; i < m; i++)
        for (size_t k = 0; k < n; k++) {
            bool left = near(a[i].x0, b[k].x0, em), right = near(a[i].x1, b[k].x1, em);
            bool middle = near(a[i].x0 + a[i].x1, b[k].x0 + b[k].x1, em);

            if (!left && !right && !middle)
                continue;
            shared++;
            inner += (left && i > 0 && k > 0) || (right && i + 1 < m && k + 1 < n) ||
                     (middle && !left && !right);
            break;
        }
    return shared >= 2 && (inner > 0 || (least_gap(a, m) > 2 * em && least_gap(b, n) > 2 * em));
}

/* How many lines from `at` on are rows of one table; 0 or at least 2. */
static size_t table_rows(const flow *f, size_t at)
{
    cell cells[2][CELLS_MAX];
    size_t rows = 0, first, count, n[2] = { 0 };

    for (;;) {
        size_t next = next_line(f, at, &first, &count);
        const pdf_piece *p = &f->l->pieces[first];
        int now = rows & 1;

        if (count < 2 || p->page != f->l->pieces[at].page)
            break;
        n[now] = take_cells(p, count, cells[now]);
        if (n[now] < 2 || (n[now] == 2 && is_label(text_of(f, p), len_of(p))))
            break;
        if (rows > 0 && !aligned(cells[!now], n[!now], cells[now], n[now], p->size))
            break;
        rows++;
        at = next;
    }
    return rows >= 2 ? rows : 0;
}

/* The column of the header, from `least` on, that a piece stands under. */
static size_t column_under(const cell *head, size_t count, size_t least, const pdf_piece *p)
{
    size_t best = least;
    float best_off = 1e9f;

    for (size_t i = least; i < count; i++) {
        float left = fabsf(p->x0 - head[i].x0), right = fabsf(p->x1 - head[i].x1);
        float middle = fabsf(p->x0 + p->x1 - head[i].x0 - head[i].x1) / 2;
        float off = SL_MIN(SL_MIN(left, right), middle);

        if (off < best_off) {
            best_off = off;
            best = i;
        }
    }
    return best;
}

/* Fills a row; cells that are empty in the middle of it are known by the header above them. A
 * header of too few columns (count 0) tells nothing. */
static void fill_row(const flow *f, const pdf_piece *p, size_t count, const cell *head,
                     size_t head_count, reader_row *row)
{
    for (size_t i = 0; i < count; i++) {
        bool begins = i == 0 || !p[i].is_near;

        for (size_t k = row->count + 1; k < head_count && !begins; k++)
            begins = fabsf(p[i].x0 - head[k].x0) < 0.2f * p[i].size;
        if (i > 0 && begins)
            reader_cell_end(row, 1);
        else if (i > 0)
            reader_cell_put(row, " ", 1);
        if (begins && row->count < head_count)
            for (size_t n = column_under(head, head_count, row->count, &p[i]) - row->count; n > 0;
                 n--)
                reader_cell_end(row, 1);
        reader_cell_put(row, text_of(f, &p[i]), len_of(&p[i]));
    }
    reader_cell_end(row, 1);
}

static size_t write_table(flow *f, size_t at, size_t rows)
{
    cell head[CELLS_MAX];
    size_t head_count = 0;
    reader_row row;

    end_block(f);
    reader_table(f->out);
    reader_row_init(&row);
    for (size_t r = 0; r < rows; r++) {
        size_t first, count;

        at = next_line(f, at, &first, &count);
        reader_page(f->out, f->l->pieces[first].page);
        fill_row(f, &f->l->pieces[first], count, head, head_count, &row);
        reader_row_put(f->out, &row, r == 0, true);
        if (r == 0)
            head_count = take_cells(&f->l->pieces[first], count, head);
    }
    reader_row_deinit(&row);
    return at;
}

/* ---- what is usual -------------------------------------------------------------------------- */

/* The size of most letters, and the larger ones, largest first. */
static void measure_sizes(flow *f)
{
    size_t weights[400] = { 0 }, best = 0; /* in half points */

    for (size_t i = 0; i < f->l->count; i++) {
        const pdf_piece *p = &f->l->pieces[i];

        if (!p->is_running)
            weights[SL_MIN((size_t)lroundf(p->size * 2), SL_COUNT_OF(weights) - 1)] += len_of(p);
    }
    for (size_t i = 1; i < SL_COUNT_OF(weights); i++)
        best = weights[i] > weights[best] ? i : best;
    f->body = (float)best / 2;
    for (size_t i = SL_COUNT_OF(weights); i-- > best + 1 && f->size_count < 6;)
        if (weights[i] > 0 && (float)i / 2 > f->body * HEADING_MORE)
            f->sizes[f->size_count++] = (float)i / 2;
}

/* The usual distance of two lines under each other, in letter sizes. */
static void measure_pitch(flow *f)
{
    size_t counts[64] = { 0 }, best = 0; /* in twentieths of the size */

    for (size_t i = 1; i < f->l->count; i++) {
        const pdf_piece *p = &f->l->pieces[i - 1], *q = &f->l->pieces[i];
        float step = (q->y1 - p->y1) / q->size;

        if (p->page == q->page && step > 0.8f && step < 3 && fabsf(p->size - f->body) < 0.6f &&
            fabsf(q->size - f->body) < 0.6f)
            counts[(size_t)(step * 20)]++;
    }
    for (size_t i = 0; i < SL_COUNT_OF(counts); i++)
        best = counts[i] > counts[best] ? i : best;
    f->pitch = best ? ((float)best + 1) / 20 : 1.25f;
}

/* Words in another font do not make another line: all pieces of one get what its longest has. */
static void level_lines(pdf_lines *l)
{
    for (size_t i = 0; i < l->count;) {
        size_t n = 1, most = i;

        for (; i + n < l->count && l->pieces[i + n].joins; n++)
            most = len_of(&l->pieces[i + n]) > len_of(&l->pieces[most]) ? i + n : most;
        for (size_t k = i; k < i + n; k++) {
            l->pieces[k].size = l->pieces[most].size;
            l->pieces[k].is_bold = l->pieces[most].is_bold;
            l->pieces[k].is_mono = l->pieces[most].is_mono;
        }
        i += n;
    }
}

void pdf_write(pdf_lines *l, reader_out *out)
{
    flow f = { .l = l, .out = out };
    size_t at = 0;

    level_lines(l);
    measure_sizes(&f);
    measure_pitch(&f);
    while (at < l->count && !out->text.failed && !out->failed) {
        size_t first, count, rows = table_rows(&f, at), next;

        if (rows) {
            at = write_table(&f, at, rows);
            continue;
        }
        next = next_line(&f, at, &first, &count);
        for (size_t i = first; i < first + count; i++)
            if (f.first && (i > first || goes_on(&f, &l->pieces[i], count)))
                append_line(&f, &l->pieces[i]);
            else
                begin_block(&f, &l->pieces[i], count);
        at = next;
    }
    end_block(&f);
}
