/* docs.h - what the routes of collections, documents and vector stores share. Internal to the room.
 */
#ifndef SL_API_DOCS_H
#define SL_API_DOCS_H

#include "api/api_int.h"
#include "api/fields.h"
#include "api/jobs.h"

#define DOCS_LIST_DEFAULT 20
#define DOCS_LIST_MAX     100

/* Runs fn on the pool of documents; 501 where there is no document service. */
void docs_run_later(api *a, http_exchange *x, api_task_fn fn);
/* The same for what may take minutes. */
void docs_run_slow(api *a, http_exchange *x, api_task_fn fn);
/* 501 when the service lacks that function; `has` is whether it has it. False: answered. */
bool docs_has(http_exchange *x, bool has);

/* "after", "before", "limit", "order", and the status under status_name. False: answered. */
bool docs_read_page(api *a, http_exchange *x, const char *status_name, llm_docs_page *ret);
/* {"object":"list","data":...} of {"data","has_more"}, each item through map, which gets a borrowed
 * item and returns a new one; map NULL: as they are. Takes list; NULL: out of memory. */
json_t *docs_list_json(json_t *list, json_t *(*map)(const json_t *item));

/* Answers with one collection, and with a page of them, each through map as above. */
void docs_run_collection(api *a, http_exchange *x, const char *collection,
                         json_t *(*map)(const json_t *item));
void docs_run_collections(api *a, http_exchange *x, json_t *(*map)(const json_t *item));

/* How a document is cut, as OpenAI says it: {"type":"auto"}, or static with its two numbers. */
typedef struct docs_chunking {
    int32_t tokens, overlap; /* 0, 0: auto */
} docs_chunking;

#define CHUNKING_SCHEMA                                                                            \
    "{\"type\":\"object\",\"properties\":{\"type\":{\"enum\":[\"auto\",\"static\"]},\"static\":"   \
    "{\"type\":\"object\",\"properties\":{\"max_chunk_size_tokens\":{\"type\":\"integer\","        \
    "\"minimum\":100,\"maximum\":4096},\"chunk_overlap_tokens\":{\"type\":\"integer\","            \
    "\"minimum\":0}},\"required\":[\"max_chunk_size_tokens\",\"chunk_overlap_tokens\"]}},"         \
    "\"required\":[\"type\"]}"
#define OBJECT_SCHEMA "{\"type\":\"object\"}"
#define TEXTS_SCHEMA  "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}"

sl_status docs_take_chunking(const json_t *v, const field_rule *rule, const field_target *to,
                             openai_error *err);
/* const json_t * members; an object, an array of texts. */
sl_status docs_take_object(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err);
sl_status docs_take_texts(const json_t *v, const field_rule *rule, const field_target *to,
                          openai_error *err);

/* vector_store_files.c: hands stored files to the document service, as a batch or one by one.
 * list: ids, or objects with file_id, attributes and chunking_strategy, which win over `common`.
 * All files are looked at before the first is handed over. */
typedef struct docs_files {
    const json_t *list;
    const json_t *attributes;
    docs_chunking chunking;
    const char *batch; /* or NULL */
} docs_files;
sl_status docs_submit_files(api *a, http_exchange *x, const char *collection, const docs_files *f,
                            json_t **ret_last, sl_err *err);

#endif
