/* jobs.h - stored files, uploads in parts, and batch jobs that run files of requests between live
 * ones.
 *
 * Bytes are files under <dir>/files, everything else is rows of <dir>/files.db. Several processes
 * may share the directory; one of them, which holds <dir>/files/lock, runs the batches. */
#ifndef SL_JOBS_JOBS_H
#define SL_JOBS_JOBS_H

#include <stdatomic.h>

#include "llm/llm.h"

typedef struct jobs jobs;

typedef struct jobs_options {
    const char *dir;           /* the data directory */
    llm_line_runner runner;    /* ops NULL: batches are refused */
    llm_accounts accounts;     /* who lost his key loses his batches; ops NULL: nobody is asked */
    int64_t file_bytes_max;    /* 0: 512 MiB */
    int concurrency;           /* 0: 8; lines under way at once while nobody else asks */
    int64_t (*clock_ms)(void); /* NULL: the wall clock; for tests */
    bool is_manual;            /* no thread: the owner calls jobs_tick; for tests */
} jobs_options;

/* Opens the store; batches run once jobs_start was called. */
SL_NODISCARD sl_status jobs_open(const jobs_options *options, jobs **ret, sl_err *err);
SL_NODISCARD sl_status jobs_start(jobs *j, sl_err *err);
/* Cancels the lines under way and waits for them; they run again after the next start. The backends
 * must still answer. Accepts NULL; may be called twice. */
void jobs_stop(jobs *j);
void jobs_close(jobs *j); /* stops; accepts NULL */

llm_jobs jobs_service(jobs *j);
/* Counts the requests of others, so that batches give way; ctx is the jobs. */
extern const llm_stage_ops jobs_stage;

/* One round of the batches' thread. Returns the milliseconds after which the next is due. */
int64_t jobs_tick(jobs *j);
/* Waits up to ms for a line to end. */
void jobs_wait(jobs *j, int64_t ms);

/* ---- one file of requests without a server ----------------------------------------------------
 */

typedef struct jobs_progress {
    size_t total, done, failed; /* done: with an answer, those of earlier runs too */
    int64_t prompt_tokens, cached_tokens, output_tokens; /* of this run */
} jobs_progress;

typedef struct jobs_local {
    const char *input, *output; /* output: appended to when it is there */
    const char *errors;         /* lines that failed; written anew each time */
    llm_line_runner runner;
    int concurrency; /* 0: 8 */
    const atomic_bool *cancelled;
    void (*on_progress)(void *ctx, const jobs_progress *p); /* after each group of lines */
    void *ctx;
} jobs_local;

/* Runs the lines that the output has no answer for. Each answer is on the disk before the next
 * progress is told, so that a run that was killed goes on where it was. SL_EFORMAT: the input is
 * wrong, or the output is of another input; SL_ECANCELLED. */
SL_NODISCARD sl_status jobs_run_local(const jobs_local *options, jobs_progress *ret, sl_err *err);

#endif
