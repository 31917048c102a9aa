/* package.h - archives of XML: the ground DOCX, PPTX, XLSX and EPUB stand on.
 *
 * Parts are expanded into memory under three bounds: each one, all together, and how many times
 * larger they are than what was packed. XML is pulled node by node; a document type declaration,
 * where entity bombs live, is an error. */
#ifndef SL_READER_PACKAGE_H
#define SL_READER_PACKAGE_H

#include <libxml/xmlreader.h>
#include <zip.h>

#include "reader/reader_int.h"

typedef struct package {
    zip_t *zip;
    size_t packed;   /* bytes of the archive */
    size_t expanded; /* bytes read of it so far */
} package;

/* bytes are borrowed until package_close. */
SL_NODISCARD sl_status package_open(sl_span bytes, package *ret, sl_err *err);
void package_close(package *p);
bool package_has(const package *p, const char *name);
/* Reads a part into ret (initialised by the caller, cleared here). SL_ENOTFOUND when there is none.
 */
SL_NODISCARD sl_status package_read(package *p, const char *name, sl_buf *ret, sl_err *err);

/* The path that target means in a part named base: "ppt/slides/slide1.xml" + "../media/x" is
 * "ppt/media/x". False when it leaves the archive or is too long. */
bool package_resolve(const char *base, const char *target, char *ret, size_t ret_bytes);

/* ---- XML ------------------------------------------------------------------------------------ */

typedef enum xml_event { XML_OPEN, XML_CLOSE, XML_TEXT } xml_event;

typedef struct xml {
    xmlTextReaderPtr reader;
    sl_buf bytes;
    xml_event event;
    const char *name; /* OPEN, CLOSE: without prefix; until the next event */
    const char *text; /* TEXT; until the next event */
    int depth;
    bool close_next; /* an empty element: its CLOSE comes by itself */
    bool failed;
} xml;

/* Opens a part of the package; release with xml_close, also after a failure. */
SL_NODISCARD sl_status xml_open(xml *x, package *p, const char *name, sl_err *err);
void xml_close(xml *x);
/* The next event; false at the end and at the first error. */
bool xml_next(xml *x);
/* After xml_next said false: SL_OK at the end, SL_EFORMAT with the line for what was wrong. */
SL_NODISCARD sl_status xml_check(const xml *x, const char *name, sl_err *err);
/* An attribute of the element just opened, "" when it has none; "val" matches any prefix, "r:id"
 * only this one. Valid until the next call of any function here. */
const char *xml_attr(xml *x, const char *name);
/* The number in an attribute, or fallback. */
long xml_attr_number(xml *x, const char *name, long fallback);
static inline bool xml_is(const xml *x, const char *name)
{
    return x->event != XML_TEXT && strcmp(x->name, name) == 0;
}
static inline bool xml_opens(const xml *x, const char *name)
{
    return x->event == XML_OPEN && strcmp(x->name, name) == 0;
}
static inline bool xml_closes(const xml *x, const char *name)
{
    return x->event == XML_CLOSE && strcmp(x->name, name) == 0;
}

/* The relations of a part: what its rIds mean. */
typedef struct relation {
    char id[64];
    char type[64];    /* the last word of its URI: "slide", "notesSlide" */
    char target[512]; /* as a path in the package; "" when it lies outside */
} relation;

typedef struct relation_list {
    relation *items;
    size_t count, cap;
} relation_list;

/* A part without relations has none; that is no error. */
SL_NODISCARD sl_status relations_read(package *p, const char *part, relation_list *ret,
                                      sl_err *err);
void relations_free(relation_list *list);
/* By id or, where that is NULL, the first of the type. NULL: none. */
const relation *relations_find(const relation_list *list, const char *id, const char *type);

/* The title of docProps/core.xml, when there is one. */
SL_NODISCARD sl_status package_title(package *p, reader_out *out, sl_err *err);

SL_NODISCARD sl_status reader_docx(package *p, reader_out *out, sl_err *err);
SL_NODISCARD sl_status reader_pptx(package *p, reader_out *out, sl_err *err);
SL_NODISCARD sl_status reader_xlsx(package *p, reader_out *out, sl_err *err);
SL_NODISCARD sl_status reader_epub(package *p, reader_out *out, sl_err *err);

#endif
