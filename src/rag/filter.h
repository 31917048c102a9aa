/* filter.h - attributes of documents, and the filters over them. Pure; any thread. */
#ifndef SL_RAG_FILTER_H
#define SL_RAG_FILTER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

#define FILTER_NODES_MAX 256
#define FILTER_DEPTH_MAX 16

/* The attributes of one document, in one block of memory: release with sl_free. */
typedef struct attribute_list attribute_list;

/* From a JSON object of texts, numbers and booleans; others are left out. *ret is NULL when there
 * are none. */
SL_NODISCARD sl_status attribute_list_create(const json_t *object, attribute_list **ret,
                                             sl_err *err);

/* A compiled filter: OpenAI's {"type":"eq"|"ne"|"gt"|"gte"|"lt"|"lte"|"in"|"nin","key","value"} and
 * {"type":"and"|"or","filters":[...]}. Numbers compare with numbers, texts with texts byte by byte;
 * what cannot be compared, or is not there, is not equal and not in anything. */
typedef struct filter filter;

/* SL_EINVAL says which part is wrong. json is borrowed for the filter's life; NULL gives NULL. */
SL_NODISCARD sl_status filter_compile(const json_t *json, filter **ret, sl_err *err);
void filter_destroy(filter *f); /* accepts NULL */
/* A NULL filter matches all; attributes may be NULL. */
bool filter_matches(const filter *f, const attribute_list *attributes);

#endif
