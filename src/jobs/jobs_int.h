/* jobs_int.h - what the files of this room share. */
#ifndef SL_JOBS_JOBS_INT_H
#define SL_JOBS_JOBS_INT_H

#include "base/os.h"
#include "jobs/flights.h"
#include "jobs/input.h"
#include "jobs/jobs.h"
#include "store/store.h"

#define ID_BYTES      48
#define OWNER_BYTES   320
#define PATH_BYTES    4096
#define HOUR_S        ((int64_t)3600)
#define UPLOAD_LIFE_S HOUR_S
#define BATCH_LIFE_S  (24 * HOUR_S)

/* A batch in memory: one that is being checked, run or ended. */
typedef struct batch_run {
    struct batch_run *next;
    int64_t seq;
    char id[ID_BYTES], owner[OWNER_BYTES], endpoint[64], input_id[ID_BYTES];
    llm_caller *caller;                   /* as he was when he made the batch; NULL: everybody */
    int64_t created_s, expires_s, keep_s; /* keep_s: of the output files; 0: for ever */
    bool is_checked;                      /* the input was found good: in progress or later */
    bool is_cancelling;
    bool is_ending;  /* expired, or all lines have ended */
    bool has_failed; /* cannot go on: to be forgotten until the next look at the database */
    sl_file_map map;
    input in;
    size_t next_line; /* first that was not started */
    size_t *again;    /* lines to start again */
    size_t again_count, again_cap;
    int in_flight;
    int64_t not_before_ms; /* after a refusal */
    int64_t pause_ms;      /* the last one's, doubled by each */
} batch_run;

struct jobs {
    jobs_options o;
    char dir[PATH_BYTES]; /* <data>/files */
    store *db;
    int lock_fd;             /* -1: another process runs the batches */
    atomic_int live;         /* requests of others under way */
    atomic_bool has_runs;    /* the thread wants to know when live gets to 0 */
    atomic_bool has_changed; /* look at the database */

    /* The batches' thread. */
    flights under_way;
    batch_run *runs;
    flight *unsaved;           /* ended, not in the database yet */
    int64_t look_ms, sweep_ms; /* when to look at the database, to remove what expired */
    int64_t retry_ms;          /* no writing before: it failed */
    atomic_bool stop;
    bool has_thread;
    pthread_t thread;
};

int64_t jobs_now_s(const jobs *j);
int64_t jobs_now_ms(const jobs *j);
/* prefix and 24 random hex digits. */
void jobs_make_id(char ret[ID_BYTES], const char *prefix);

/* db.c */
sl_status jobs_db_open(jobs *j, sl_err *err);
/* Whose something is. SL_EINVAL: the caller's names are too long. */
sl_status owner_of(const llm_caller *who, char ret[OWNER_BYTES], sl_err *err);
bool owner_seen_by(const char *owner, const llm_caller *who);
/* A list in OpenAI's shape, of the table "file" or "batch". columns begins with seq and owner; row
 * makes an item of them. */
typedef json_t *(*jobs_db_row_fn)(store_stmt *st);
sl_status jobs_db_list(jobs *j, const llm_caller *who, const llm_page *page, const char *table,
                       const char *columns, jobs_db_row_fn row, json_t **ret, sl_err *err);

/* caller.c */
char *caller_to_text(const llm_caller *c); /* NULL: out of memory */
sl_status caller_from_text(const char *text, llm_caller **ret, sl_err *err);
/* False: the key, or its user, is known and no longer in force. c may be NULL: true. */
bool caller_in_force(const llm_accounts *accounts, const llm_caller *c);

/* blobs.c: bytes on the disk. */
struct llm_draft {
    jobs *j;
    int fd;
    int64_t bytes, bytes_max;
    char path[PATH_BYTES + 64];
};

sl_status draft_open(jobs *j, int64_t bytes_max, llm_draft **ret, sl_err *err);
sl_status draft_write(llm_draft *d, const void *bytes, size_t len, sl_err *err);
void draft_drop(llm_draft *d);
/* Makes the draft the blob of that id, for good; takes it. */
sl_status draft_publish(llm_draft *d, const char *id, sl_err *err);
void blob_path(const jobs *j, const char *id, char ret[PATH_BYTES + 64]);
sl_status blob_open(const jobs *j, const char *id, int *ret_fd, sl_err *err);
void blob_remove(const jobs *j, const char *id);
/* Removes what a crash left: drafts and blobs without a row that nobody touched for an hour. */
void blobs_sweep(jobs *j);

/* files.c: the functions of llm_jobs_ops, and what others need of files. */
extern const char file_columns[];
json_t *file_json(store_stmt *st); /* of the row in hand, selected by file_columns */
/* The row of a blob that was published; the lock is held. */
sl_status file_insert(jobs *j, const char *owner, const char *id, const llm_file_spec *spec,
                      int64_t bytes, sl_err *err);
sl_status file_check_spec(const llm_file_spec *spec, sl_err *err);
sl_status file_create(void *ctx, const llm_caller *who, const llm_file_spec *spec, llm_draft *d,
                      json_t **ret, sl_err *err);
sl_status file_list(void *ctx, const llm_caller *who, const llm_page *page, json_t **ret,
                    sl_err *err);
sl_status file_get(void *ctx, const llm_caller *who, const char *id, json_t **ret, sl_err *err);
sl_status file_open(void *ctx, const llm_caller *who, const char *id, int *ret_fd, json_t **ret,
                    sl_err *err);
sl_status file_delete(void *ctx, const llm_caller *who, const char *id, sl_err *err);
void files_expire(jobs *j);

/* uploads.c */
sl_status upload_create(void *ctx, const llm_caller *who, const llm_file_spec *spec, json_t **ret,
                        sl_err *err);
sl_status upload_part(void *ctx, const llm_caller *who, const char *id, llm_draft *d, json_t **ret,
                      sl_err *err);
sl_status upload_complete(void *ctx, const llm_caller *who, const char *id, const json_t *part_ids,
                          const char *md5, json_t **ret, sl_err *err);
sl_status upload_cancel(void *ctx, const llm_caller *who, const char *id, json_t **ret,
                        sl_err *err);
void uploads_expire(jobs *j);

/* batches.c */
sl_status batch_create(void *ctx, const llm_caller *who, const llm_batch_spec *spec, json_t **ret,
                       sl_err *err);
sl_status batch_list(void *ctx, const llm_caller *who, const llm_page *page, json_t **ret,
                     sl_err *err);
sl_status batch_get(void *ctx, const llm_caller *who, const char *id, json_t **ret, sl_err *err);
sl_status batch_cancel(void *ctx, const llm_caller *who, const char *id, json_t **ret, sl_err *err);

/* runs.c: batches from the database into memory, step by step to their end. */
void runs_look(jobs *j);
void run_advance(jobs *j, batch_run *r);
void run_forget(jobs *j, batch_run *r);
/* Cancels the batches of those who may no longer ask. */
void runs_review(jobs *j);

/* output.c */
/* A finished line as the output has it, without the line end. */
void output_line(sl_buf *out, const char *custom_id, const flight *f);
/* Saves what ended; false: later. */
bool output_save(jobs *j);
/* Writes the files of a batch whose lines have all ended, or will not, and tells its end. */
sl_status output_end(jobs *j, batch_run *r, sl_err *err);

#endif
