/* shelf.h - one collection in memory, as far as searching needs it: which passages there are, whose
 * they are, who may read them, and their vectors.
 *
 * A shelf is of one generation of the collection. Bringing it up to date reads what changed since,
 * not the collection. */
#ifndef SL_RAG_SHELF_H
#define SL_RAG_SHELF_H

#include "llm/llm.h"
#include "rag/filter.h"
#include "rag/vectors.h"
#include "store/store.h"

#define SHELF_NO_DOCUMENT UINT32_MAX /* the owner of a row whose passage is gone */

typedef struct shelf_document {
    int64_t id;
    size_t first, count; /* its rows; count 0: none, or the document is gone */
    uint32_t length;     /* words of its passages together */
    bool is_restricted;
    attribute_list *attributes; /* or NULL */
    char *principals;           /* texts one behind the other, an empty one at the end; or NULL */
} shelf_document;

/* A passage that has a word, and how often. */
typedef struct shelf_posting {
    uint32_t row, count;
} shelf_posting;

/* The rows of one word, read before: long lists only, those asked for last. */
typedef struct shelf_list {
    char *token; /* NULL: none */
    shelf_posting *items;
    size_t count;
    uint64_t used;
} shelf_list;

#define SHELF_LISTS     128
#define SHELF_LIST_ROWS ((size_t)1 << 23) /* in all lists: 64 MiB */
#define SHELF_LIST_MIN  1024              /* shorter ones are read as fast */

typedef struct shelf {
    int64_t collection, generation; /* collection 0: empty */
    size_t dim;
    uint64_t used;             /* for evicting the one not used for longest */
    shelf_document *documents; /* [document_count], by id */
    size_t document_count, document_cap;
    size_t restricted_count;
    /* Rows, one a passage, by id. */
    int64_t *ids;
    uint32_t *owners;  /* index into documents */
    uint32_t *lengths; /* words */
    size_t row_count, id_cap, owner_cap, length_cap;
    size_t dead_count;
    vector_set v;
    shelf_list lists[SHELF_LISTS]; /* of this generation */
    size_t list_rows;
    uint64_t list_tick;
} shelf;

/* Makes s what the collection is in the present read transaction of db. On failure s is empty. */
SL_NODISCARD sl_status shelf_update(shelf *s, store *db, int64_t collection, int64_t generation,
                                    size_t dim, sl_err *err);
void shelf_clear(shelf *s);

/* The list of a word if it is kept, else NULL. Valid up to the next shelf_keep or shelf_update. */
const shelf_list *shelf_recall(shelf *s, const char *token);
/* Keeps a list, dropping others for it; takes items. */
void shelf_keep(shelf *s, const char *token, shelf_posting *items, size_t count);

/* The row of a passage, at `from` or behind it; row_count when there is none. */
size_t shelf_find(const shelf *s, int64_t id, size_t from);

/* The rows that the caller may read and the filter lets through. */
typedef struct shelf_view {
    uint64_t *allowed; /* bitmap over rows */
    size_t rows, documents;
    uint64_t words; /* of the passages together */
} shelf_view;

SL_NODISCARD sl_status shelf_look(const shelf *s, const llm_caller *caller, const filter *f,
                                  shelf_view *ret, sl_err *err);
void shelf_view_deinit(shelf_view *v);

#endif
