/* pdf.c - PDF by poppler: characters with their places and fonts become pieces of lines.
 *
 * poppler's own order mixes columns, so only its lines are taken; the order is ours. */
#include <math.h>
#include <poppler.h>
#include <stdio.h>
#include <strings.h>

#include "reader/pdf.h"

/* The text of a page as poppler gives it: characters, a box for each, and runs of one font. */
typedef struct page_text {
    char *text;
    PopplerRectangle *boxes; /* [box_count]: per character */
    guint box_count;
    GList *fonts;
    GList *font; /* the run of the character that is looked at */
} page_text;

static bool name_has(const char *name, const char *const *words, size_t count)
{
    for (size_t i = 0; name && i < count; i++)
        if (strcasestr(name, words[i]))
            return true;
    return false;
}

static bool is_bold(const char *font)
{
    static const char *const words[] = { "bold", "black", "heavy", "semibold", "cmbx" };

    return name_has(font, words, SL_COUNT_OF(words));
}

static bool is_mono(const char *font)
{
    static const char *const words[] = { "courier", "mono",      "consol", "menlo", "typewriter",
                                         "cmtt",    "nimbusmon", "andale", "fixed", "lucidacons" };

    return name_has(font, words, SL_COUNT_OF(words));
}

static const PopplerTextAttributes *font_at(page_text *t, guint index)
{
    while (t->font && t->font->next &&
           (guint)((PopplerTextAttributes *)t->font->data)->end_index < index)
        t->font = t->font->next;
    while (t->font && t->font->prev &&
           (guint)((PopplerTextAttributes *)t->font->data)->start_index > index)
        t->font = t->font->prev;
    return t->font ? t->font->data : NULL;
}

/* The piece of characters [first, last), whose bytes are [at, end) of the page's text. */
static bool push_piece(pdf_lines *l, page_text *t, guint first, guint last, size_t at, size_t end,
                       uint32_t page)
{
    pdf_piece p = {
        .begin = l->text.len, .page = page, .x0 = 1e9f, .y0 = 1e9f, .x1 = -1e9f, .y1 = -1e9f
    };
    guint bold = 0, mono = 0, letters = 0, votes = 0;

    while (at < end && t->text[at] == ' ')
        at++, first++;
    while (end > at && t->text[end - 1] == ' ')
        end--, last--;
    if (at >= end || first >= last)
        return true;
    for (guint i = first; i < last; i++) {
        const PopplerRectangle *b = &t->boxes[i];
        const PopplerTextAttributes *f = font_at(t, i);

        p.x0 = SL_MIN(p.x0, (float)SL_MIN(b->x1, b->x2));
        p.x1 = SL_MAX(p.x1, (float)SL_MAX(b->x1, b->x2));
        p.y0 = SL_MIN(p.y0, (float)SL_MIN(b->y1, b->y2));
        p.y1 = SL_MAX(p.y1, (float)SL_MAX(b->y1, b->y2));
        letters++;
        /* the size of most letters, by votes for and against */
        if (f && votes == 0)
            p.size = (float)f->font_size;
        votes += f && fabs(f->font_size - p.size) < 0.1 ? 1 : votes > 0 ? (guint)-1 : 0;
        bold += f && is_bold(f->font_name);
        mono += f && is_mono(f->font_name);
    }
    p.is_bold = bold * 10 > letters * 8;
    p.is_mono = mono * 10 > letters * 8;
    if (!(p.size > 0.5f && p.size < 1000 && p.x1 >= p.x0 && p.y1 >= p.y0 && p.x1 < 1e6f))
        return true; /* invisible, or nonsense */
    sl_buf_put(&l->text, t->text + at, end - at);
    p.end = l->text.len;
    if (!sl_grow((void **)&l->pieces, &l->cap, l->count + 1, sizeof *l->pieces, PDF_LINES_MAX))
        return false;
    l->pieces[l->count++] = p;
    return true;
}

/* The white space in front of character c, in letters M; 0 behind a line end. */
static double gap_before(page_text *t, guint c, char previous)
{
    const PopplerTextAttributes *f = font_at(t, c);
    guint left = previous == ' ' ? 2 : 1;

    if (previous == '\n' || c < left || !f || f->font_size < 0.5)
        return 0;
    return (t->boxes[c].x1 - t->boxes[c - left].x2) / f->font_size;
}

/* Cuts the page's text at line ends, at wide gaps, and at gaps where poppler saw no space. */
static bool cut_lines(pdf_lines *l, page_text *t, uint32_t page)
{
    guint c = 0, first = 0;
    size_t at = 0, begin = 0, before = l->count;
    char previous = '\n';
    bool ok = true;

    while (ok && t->text[at] && c < t->box_count && l->count - before < PDF_PAGE_LINES_MAX) {
        size_t n = (size_t)(g_utf8_next_char(t->text + at) - (t->text + at));
        char now = t->text[at];

        if (now == '\n') {
            ok = push_piece(l, t, first, c, begin, at, page);
            first = c + 1;
            begin = at + n;
        } else if (now != ' ' && gap_before(t, c, previous) > (previous == ' ' ? PDF_GAP : 0.25)) {
            ok = push_piece(l, t, first, c, begin, at, page);
            first = c;
            begin = at;
        }
        previous = now;
        at += n;
        c++;
    }
    return ok && push_piece(l, t, first, c, begin, at, page);
}

static sl_status read_page(PopplerDocument *doc, int index, pdf_lines *l, sl_err *err)
{
    PopplerPage *page = poppler_document_get_page(doc, index);
    page_text t = { 0 };
    double width = 0, height = 0;
    size_t before = l->count;
    bool ok = true;

    if (!page)
        return SL_OK; /* a page that is damaged; the others may be sound */
    poppler_page_get_size(page, &width, &height);
    l->heights[index] = (float)height;
    t.text = poppler_page_get_text(page);
    if (t.text && g_utf8_validate(t.text, -1, NULL) &&
        poppler_page_get_text_layout(page, &t.boxes, &t.box_count)) {
        t.fonts = t.font = poppler_page_get_text_attributes(page);
        ok = cut_lines(l, &t, (uint32_t)index + 1);
        poppler_page_free_text_attributes(t.fonts);
    }
    g_free(t.boxes);
    g_free(t.text);
    g_object_unref(page);
    if (!ok || l->text.failed)
        return sl_fail(err, SL_ELIMIT, "it has more lines than the reader can hold; divide it");
    return pdf_order(l->pieces + before, l->count - before, err);
}

static sl_status open_document(sl_span bytes, PopplerDocument **ret, sl_err *err)
{
    GError *why = NULL;
    GBytes *data = g_bytes_new_static(bytes.ptr, bytes.len);
    sl_status status = SL_OK;

    *ret = poppler_document_new_from_bytes(data, NULL, &why);
    if (!*ret && g_error_matches(why, POPPLER_ERROR, POPPLER_ERROR_ENCRYPTED))
        status = sl_fail(err, SL_EFORMAT, "it is encrypted; save it without a password");
    else if (!*ret)
        status = sl_fail(err, SL_EFORMAT, "the PDF is damaged (%s); make it anew",
                         why ? why->message : "no reason known");
    if (why)
        g_error_free(why);
    g_bytes_unref(data);
    return status;
}

static sl_status read_pages(PopplerDocument *doc, pdf_lines *l, sl_err *err)
{
    int pages = poppler_document_get_n_pages(doc);
    sl_status status = SL_OK;

    if (pages < 1)
        return sl_fail(err, SL_EFORMAT, "the PDF has no pages: it is damaged; make it anew");
    if (pages > READER_PAGES_MAX)
        return sl_fail(err, SL_ELIMIT, "it has %d pages; %d are allowed", pages, READER_PAGES_MAX);
    l->page_count = (size_t)pages;
    l->heights = sl_calloc((size_t)pages, sizeof *l->heights);
    if (!l->heights)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    for (int i = 0; i < pages && status == SL_OK; i++)
        status = read_page(doc, i, l, err);
    if (status == SL_OK && l->count == 0)
        status = sl_fail(err, SL_EFORMAT,
                         "there is no text in its %d pages: they are pictures, and reading them "
                         "would need OCR",
                         pages);
    return status;
}

sl_status reader_pdf(sl_span bytes, reader_out *out, sl_err *err)
{
    PopplerDocument *doc;
    pdf_lines l = { 0 };
    char *title;
    sl_status status;

    SL_TRY(open_document(bytes, &doc, err));
    sl_buf_init(&l.text, out->text.max);
    title = poppler_document_get_title(doc);
    if (title && strcasecmp(title, "untitled") != 0 && strcasecmp(title, "(anonymous)") != 0)
        reader_title(out, title, strlen(title));
    g_free(title);
    status = read_pages(doc, &l, err);
    if (status == SL_OK)
        status = pdf_mark_running(&l, err);
    if (status == SL_OK) {
        pdf_write(&l, out);
        if (out->depth == 0)
            out->pages = (uint32_t)l.page_count;
    }
    g_object_unref(doc);
    sl_buf_deinit(&l.text);
    sl_free(l.pieces);
    sl_free(l.heights);
    return status;
}
