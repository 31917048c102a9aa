/* backup.h - the data directory into one file or directory and back, whole or not at all.
 *
 * A backup is taken while servers run: each database as one state of it, files that are written
 * once as they are. All that was acknowledged before backup_write was called is in it. */
#ifndef SL_BACKUP_BACKUP_H
#define SL_BACKUP_BACKUP_H

#include <stdatomic.h>

#include "base/buf.h"

typedef struct backup_options {
    const char *data;   /* the data directory */
    const char *to;     /* "x.tar.zst", a directory that does not exist yet, or "-" */
    const char *config; /* a configuration file to keep with it, or NULL */
    bool with_models;
    const atomic_bool *cancelled; /* looked at between members; or NULL */
} backup_options;

typedef struct backup_report {
    uint64_t members, databases;
    uint64_t bytes;     /* of the members */
    uint64_t had_bytes; /* restore: of what was replaced; 0: there was nothing */
    char created[32];   /* of the backup, UTC */
} backup_report;

/* Writes the backup beside its place and renames it there when it is complete and on the disk.
 *
 * SL_ECONFLICT: there is something at `to`. SL_EBUSY: the data directory is being restored.
 * SL_EFORMAT: a database is damaged. SL_ECANCELLED. A failure leaves nothing at `to`. */
SL_NODISCARD sl_status backup_write(const backup_options *o, backup_report *ret, sl_err *err);

typedef struct restore_options {
    const char *from; /* an archive, a directory, or "-" */
    const char *data;
    bool force;                   /* replace what is there */
    bool keep_old;                /* leave it as DATA.old */
    uint64_t bytes_max;           /* of all members; 0: what the disk has room for */
    const atomic_bool *cancelled; /* looked at while unpacking; or NULL */
} restore_options;

/* Unpacks beside the data directory, checks every name, sum and database, and only then exchanges
 * the two in one step. Until then, and on any failure, the data directory is as it was. Models that
 * are there stay unless the backup brings its own.
 *
 * SL_EFORMAT: not a backup, damaged or hostile. SL_ELIMIT: larger than bytes_max. SL_ECONFLICT:
 * the directory is not empty and `force` is not set. SL_EBUSY: a server uses it. */
SL_NODISCARD sl_status backup_restore(const restore_options *o, backup_report *ret, sl_err *err);

#endif
