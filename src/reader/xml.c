/* xml.c - pulls XML node by node, and what all Office formats keep in the same way. */
#include <stdio.h>
#include <stdlib.h>

#include "reader/package.h"

sl_status xml_open(xml *x, package *p, const char *name, sl_err *err)
{
    *x = (xml){ 0 };
    sl_buf_init(&x->bytes, READER_PART_BYTES + SL_MIB);
    SL_TRY(package_read(p, name, &x->bytes, err));
    x->reader = xmlReaderForMemory(sl_buf_str(&x->bytes), (int)x->bytes.len, NULL, NULL,
                                   XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                       XML_PARSE_NOCDATA);
    return x->reader ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");
}

void xml_close(xml *x)
{
    if (x->reader)
        xmlFreeTextReader(x->reader);
    sl_buf_deinit(&x->bytes);
    *x = (xml){ 0 };
}

bool xml_next(xml *x)
{
    if (x->close_next) {
        x->close_next = false;
        x->event = XML_CLOSE;
        return true;
    }
    while (!x->failed) {
        int rc = xmlTextReaderRead(x->reader);

        if (rc != 1) {
            x->failed = rc < 0;
            return false;
        }
        x->depth = xmlTextReaderDepth(x->reader);
        x->name = (const char *)xmlTextReaderConstLocalName(x->reader);
        x->name = x->name ? x->name : "";
        switch (xmlTextReaderNodeType(x->reader)) {
        case XML_READER_TYPE_ELEMENT:
            x->event = XML_OPEN;
            x->close_next = xmlTextReaderIsEmptyElement(x->reader) == 1;
            return true;
        case XML_READER_TYPE_END_ELEMENT:
            x->event = XML_CLOSE;
            return true;
        case XML_READER_TYPE_TEXT:
        case XML_READER_TYPE_CDATA:
        case XML_READER_TYPE_SIGNIFICANT_WHITESPACE:
            x->event = XML_TEXT;
            x->text = (const char *)xmlTextReaderConstValue(x->reader);
            x->text = x->text ? x->text : "";
            return true;
        case XML_READER_TYPE_DOCUMENT_TYPE:
        case XML_READER_TYPE_ENTITY_REFERENCE:
            x->failed = true;
            break;
        default:
            break;
        }
    }
    return false;
}

sl_status xml_check(const xml *x, const char *name, sl_err *err)
{
    return x->failed ? sl_fail(err, SL_EFORMAT,
                               "%s in its archive is not sound XML (line %d), or has entities of "
                               "its own",
                               name, xmlTextReaderGetParserLineNumber(x->reader))
                     : SL_OK;
}

const char *xml_attr(xml *x, const char *name)
{
    bool has_prefix = strchr(name, ':') != NULL;
    const char *value = "";

    for (int rc = xmlTextReaderMoveToFirstAttribute(x->reader); rc == 1;
         rc = xmlTextReaderMoveToNextAttribute(x->reader)) {
        const xmlChar *n =
            has_prefix ? xmlTextReaderConstName(x->reader) : xmlTextReaderConstLocalName(x->reader);

        if (n && strcmp((const char *)n, name) == 0) {
            value = (const char *)xmlTextReaderConstValue(x->reader);
            break;
        }
    }
    xmlTextReaderMoveToElement(x->reader);
    return value ? value : "";
}

long xml_attr_number(xml *x, const char *name, long fallback)
{
    const char *text = xml_attr(x, name);
    char *end;
    long n = strtol(text, &end, 10);

    return end == text || n > INT32_MAX || n < INT32_MIN ? fallback : n;
}

/* ---- relations ------------------------------------------------------------------------------ */

static void put_relation(xml *x, const char *part, relation_list *ret)
{
    relation *r;
    const char *slash;
    char target[512];

    if (!sl_grow((void **)&ret->items, &ret->cap, ret->count + 1, sizeof *ret->items,
                 READER_ENTRIES_MAX))
        return;
    r = &ret->items[ret->count++];
    *r = (relation){ 0 };
    snprintf(r->id, sizeof r->id, "%s", xml_attr(x, "Id"));
    slash = strrchr(xml_attr(x, "Type"), '/');
    snprintf(r->type, sizeof r->type, "%s", slash ? slash + 1 : "");
    if (strcmp(xml_attr(x, "TargetMode"), "External") == 0)
        return;
    snprintf(target, sizeof target, "%s", xml_attr(x, "Target"));
    if (!package_resolve(part, target, r->target, sizeof r->target))
        r->target[0] = '\0';
}

sl_status relations_read(package *p, const char *part, relation_list *ret, sl_err *err)
{
    const char *slash = strrchr(part, '/');
    char name[600];
    xml x;
    sl_status status;

    *ret = (relation_list){ 0 };
    snprintf(name, sizeof name, "%.*s/_rels/%s.rels", slash ? (int)(slash - part) : 0, part,
             slash ? slash + 1 : part);
    if (!package_has(p, name))
        return SL_OK;
    status = xml_open(&x, p, name, err);
    while (status == SL_OK && xml_next(&x))
        if (xml_opens(&x, "Relationship"))
            put_relation(&x, part, ret);
    if (status == SL_OK)
        status = xml_check(&x, name, err);
    xml_close(&x);
    if (status != SL_OK)
        relations_free(ret);
    return status;
}

void relations_free(relation_list *list)
{
    sl_free(list->items);
    *list = (relation_list){ 0 };
}

const relation *relations_find(const relation_list *list, const char *id, const char *type)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(id ? list->items[i].id : list->items[i].type, id ? id : type) == 0)
            return &list->items[i];
    return NULL;
}

sl_status package_title(package *p, reader_out *out, sl_err *err)
{
    bool in_title = false;
    xml x;
    sl_status status;

    if (!package_has(p, "docProps/core.xml"))
        return SL_OK;
    status = xml_open(&x, p, "docProps/core.xml", err);
    while (status == SL_OK && xml_next(&x)) {
        if (x.event != XML_TEXT)
            in_title = xml_opens(&x, "title");
        else if (in_title)
            reader_title(out, x.text, strlen(x.text));
    }
    if (status == SL_OK)
        status = xml_check(&x, "docProps/core.xml", err);
    xml_close(&x);
    return status;
}
