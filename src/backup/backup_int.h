/* backup_int.h - what the files of this room share. */
#ifndef SL_BACKUP_BACKUP_INT_H
#define SL_BACKUP_BACKUP_INT_H

#include <jansson.h>

#include "backup/backup.h"
#include "base/limits.h"
#include "base/mem.h"

#define BACKUP_MANIFEST  "manifest.json"
#define BACKUP_CONFIG    "config.yaml"
#define BACKUP_DATA      "data/" /* what is below the data directory */
#define BACKUP_HEX_BYTES 65
#define CHUNK_BYTES      ((size_t)256 * 1024)

/* ---- members ------------------------------------------------------------------------------- */

typedef enum member_kind { MEMBER_FILE, MEMBER_DATABASE, MEMBER_LINK, MEMBER_COUNT } member_kind;

typedef struct member {
    char *path; /* in the backup: "data/access.db" */
    member_kind kind;
    uint64_t bytes;
    char sha256[BACKUP_HEX_BYTES];
    char *blob; /* of a link: the name in data/models/blobs it leads to */
} member;

typedef struct members {
    member *items; /* [count] */
    size_t count, cap;
} members;

/* Takes a copy of path and of blob (or NULL). */
SL_NODISCARD sl_status members_add(members *list, const char *path, member_kind kind,
                                   const char *blob, member **ret, sl_err *err);
void members_free(members *list);
void members_sort(members *list); /* by path */
/* In a sorted list; NULL: there is none. */
member *members_find(const members *list, const char *path);

/* Whether a member may have the name: relative, short, and nothing in it leads elsewhere. */
bool backup_name_ok(const char *name);

/* ---- the manifest -------------------------------------------------------------------------- */

/* The manifest's text. created: UTC as "2026-01-31T12:00:00Z". */
SL_NODISCARD sl_status manifest_write(const members *list, const char *created, sl_buf *out,
                                      sl_err *err);
/* Parses foreign bytes; every name and sum in *ret is well-formed, none is twice. Sorted. */
SL_NODISCARD sl_status manifest_parse(sl_span text, members *ret, char ret_created[32],
                                      sl_err *err);

/* ---- what is to be kept -------------------------------------------------------------------- */

/* Everything below the data directory that belongs into a backup. Sorted. */
SL_NODISCARD sl_status plan_make(const char *data, bool with_models, members *ret, sl_err *err);

/* ---- where it goes ------------------------------------------------------------------------- */

typedef struct sink sink;
SL_NODISCARD sl_status sink_open(const char *to, sink **ret, sl_err *err);
/* Fills m->bytes and m->sha256 from what fd holds now. */
SL_NODISCARD sl_status sink_put_file(sink *s, member *m, int fd, sl_err *err);
SL_NODISCARD sl_status sink_put_bytes(sink *s, member *m, sl_span bytes, sl_err *err);
/* Syncs, and gives it its name. */
SL_NODISCARD sl_status sink_finish(sink *s, sl_err *err);
void sink_close(sink *s); /* accepts NULL; removes what was not finished */

/* ---- where it comes from ------------------------------------------------------------------- */

typedef struct source source;
SL_NODISCARD sl_status source_open(const char *from, source **ret, sl_err *err);
void source_close(source *s); /* accepts NULL */
/* The next member, a regular file; *ret_name NULL at the end. The name is checked, and lives until
 * the next call. */
SL_NODISCARD sl_status source_next(source *s, const char **ret_name, sl_err *err);
/* Its next bytes; *ret_len 0 at its end. */
SL_NODISCARD sl_status source_read(source *s, void *bytes, size_t cap, size_t *ret_len,
                                   sl_err *err);

/* ---- trees of files ------------------------------------------------------------------------ */

void tree_remove(const char *path);
uint64_t tree_bytes(const char *path);
/* Whether it is a directory with nothing in it, or nothing but `but` (or NULL). */
bool tree_is_empty(const char *path, const char *but);
/* The same at `to`: directories made, files linked, links copied. On one file system only. */
SL_NODISCARD sl_status tree_link(const char *from, const char *to, sl_err *err);
/* Every directory onto the disk; owner as given. */
SL_NODISCARD sl_status tree_settle(const char *path, unsigned uid, unsigned gid, sl_err *err);

/* open, and the directories above it; the file must not exist. */
SL_NODISCARD sl_status tree_file(const char *path, int *ret_fd, sl_err *err);
SL_NODISCARD sl_status tree_write(int fd, const void *bytes, size_t len, const char *path,
                                  sl_err *err);

/* ---- sums ---------------------------------------------------------------------------------- */

typedef struct sum sum;
SL_NODISCARD sl_status sum_begin(sum **ret, sl_err *err);
void sum_add(sum *s, const void *bytes, size_t len);
/* The hex of what was added; releases the sum. ret NULL: releases only. Accepts a NULL sum. */
void sum_end(sum *s, char ret[BACKUP_HEX_BYTES]);

#endif
