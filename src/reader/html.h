/* html.h - what the two halves of the HTML reader share: html_noise.c marks what is not the
 * document's own, html.c writes the rest. */
#ifndef SL_READER_HTML_H
#define SL_READER_HTML_H

#include <libxml/HTMLparser.h>

#include "reader/reader_int.h"

#define HTML_DEPTH_MAX 400 /* of elements; what lies deeper is read as text */

/* True for an element of this name. */
static inline bool html_is(const xmlNode *n, const char *name)
{
    return n->type == XML_ELEMENT_NODE && strcmp((const char *)n->name, name) == 0;
}

/* The attribute's text or "". Lives as long as the tree. */
const char *html_attr(const xmlNode *n, const char *name);
/* True for elements that are never text: scripts, styles, controls. */
bool html_is_silent(const xmlNode *n);
/* Marks elements that are navigation, banners, lists of links and the like. *ret_left: the bytes of
 * words that are left. Returns what the marks live in (sl_free, after the last html_is_noise), NULL
 * without memory: then nothing is marked. */
void *html_mark_noise(xmlNode *root, size_t node_count, size_t *ret_left);
/* True when it was marked. */
bool html_is_noise(const xmlNode *n);

#endif
