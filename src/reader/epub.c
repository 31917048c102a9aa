/* epub.c - EPUB: the chapters of the spine, in its order, through the HTML reader. */
#include <stdio.h>

#include "reader/package.h"

#define ITEMS_MAX 20000

typedef struct item {
    char id[128], href[512]; /* href: as a path in the archive */
    bool is_page;            /* HTML, and not the table of contents */
} item;

typedef struct book {
    item *items;
    size_t count, cap;
    sl_buf locked; /* META-INF/encryption.xml, which names what is encrypted */
} book;

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* "a%20b.xhtml#x" to "a b.xhtml". */
static void decode_href(const char *href, char *ret, size_t room)
{
    size_t n = 0;

    for (; *href && *href != '#' && n + 1 < room; href++) {
        int high = *href == '%' ? hex_digit(href[1]) : -1;
        int low = high >= 0 ? hex_digit(href[2]) : -1;

        if (low >= 0 && high + low > 0) {
            ret[n++] = (char)(high * 16 + low);
            href += 2;
        } else {
            ret[n++] = *href;
        }
    }
    ret[n] = '\0';
}

static void put_item(book *b, xml *x, const char *opf)
{
    char href[512];
    const char *type;
    item *i;

    if (!sl_grow((void **)&b->items, &b->cap, b->count + 1, sizeof *b->items, ITEMS_MAX))
        return;
    i = &b->items[b->count++];
    *i = (item){ 0 };
    snprintf(i->id, sizeof i->id, "%s", xml_attr(x, "id"));
    decode_href(xml_attr(x, "href"), href, sizeof href);
    if (!package_resolve(opf, href, i->href, sizeof i->href))
        i->href[0] = '\0';
    type = xml_attr(x, "media-type");
    i->is_page = strcmp(type, "application/xhtml+xml") == 0 || strcmp(type, "text/html") == 0;
    i->is_page = i->is_page && strstr(xml_attr(x, "properties"), "nav") == NULL;
}

static sl_status read_chapter(package *p, const book *b, const char *id, reader_out *out,
                              sl_err *err)
{
    const item *found = NULL;
    sl_buf bytes;
    sl_status status;

    for (size_t i = 0; i < b->count && !found; i++)
        if (strcmp(b->items[i].id, id) == 0)
            found = &b->items[i];
    if (!found || !found->is_page || !package_has(p, found->href))
        return SL_OK;
    if (strstr(sl_buf_str(&b->locked), found->href))
        return sl_fail(err, SL_EFORMAT, "its chapters are encrypted (DRM); give a free copy");
    sl_buf_init(&bytes, READER_PART_BYTES);
    status = package_read(p, found->href, &bytes, err);
    if (status == SL_OK)
        status = reader_html(sl_span_of(bytes.ptr, bytes.len), NULL, false, out, err);
    if (status == SL_EINVAL) /* an empty chapter */
        status = SL_OK;
    sl_buf_deinit(&bytes);
    return status;
}

/* The package document: its manifest comes before its spine. */
static sl_status read_spine(package *p, const char *opf, book *b, reader_out *out, sl_err *err)
{
    bool in_title = false;
    xml x;
    sl_status status = xml_open(&x, p, opf, err);

    while (status == SL_OK && xml_next(&x) && !out->text.failed && !out->failed) {
        if (x.event == XML_TEXT) {
            if (in_title)
                reader_title(out, x.text, strlen(x.text));
            continue;
        }
        in_title = xml_opens(&x, "title");
        if (xml_opens(&x, "item"))
            put_item(b, &x, opf);
        else if (xml_opens(&x, "itemref") && strcmp(xml_attr(&x, "linear"), "no") != 0)
            status = read_chapter(p, b, xml_attr(&x, "idref"), out, err);
    }
    if (status == SL_OK)
        status = xml_check(&x, opf, err);
    xml_close(&x);
    return status;
}

static sl_status find_opf(package *p, char *ret, size_t room, sl_err *err)
{
    xml x;
    sl_status status = xml_open(&x, p, "META-INF/container.xml", err);

    ret[0] = '\0';
    while (status == SL_OK && !ret[0] && xml_next(&x))
        if (xml_opens(&x, "rootfile"))
            snprintf(ret, room, "%s", xml_attr(&x, "full-path"));
    if (status == SL_OK)
        status = xml_check(&x, "META-INF/container.xml", err);
    xml_close(&x);
    if (status == SL_OK && !package_has(p, ret))
        status = sl_fail(err, SL_EFORMAT, "the book has no package document: it is damaged");
    return status;
}

sl_status reader_epub(package *p, reader_out *out, sl_err *err)
{
    char opf[512];
    book b = { 0 };
    sl_status status;

    SL_TRY(find_opf(p, opf, sizeof opf, err));
    sl_buf_init(&b.locked, 4 * SL_MIB);
    if (package_has(p, "META-INF/encryption.xml"))
        status = package_read(p, "META-INF/encryption.xml", &b.locked, err);
    else
        status = SL_OK;
    if (status == SL_OK)
        status = read_spine(p, opf, &b, out, err);
    sl_buf_deinit(&b.locked);
    sl_free(b.items);
    return status;
}
