/* overdue.c - requests that were let in and whose turn does not come: refused after a while, as
 * those that find the queue full are. */
#include "engine/engine_int.h"

#include "base/os.h"

/* Refuses a job that waited too long for its turn; takes its sequences, none of which ran, out of
 * the live list. */
static void refuse_overdue(engine *e, job *j, int64_t now_ns)
{
    size_t kept = 0;
    sl_err why = { 0 };

    for (size_t i = 0; i < e->live_count; i++) {
        seq *s = e->live[i];

        if (s->job != j)
            e->live[kept++] = s;
        else if (e->pool)
            tenant_leave(e, s->tenant);
    }
    e->live_count = kept;
    j->req->quota.retry_after_ms = load_retry_ms(&e->load);
    load_leave(&e->load);
    (void)sl_fail(&why, SL_EBUSY,
                  "Model '%s' is overloaded: the request waited %.1f s for its turn (engine."
                  "deadline_ms)",
                  e->name, (double)(now_ns - j->submitted_ns) / 1e9);
    llm_refuse(j->req, j->sink, &why);
    job_destroy(e, j);
}

void drop_overdue(engine *e)
{
    int64_t now_ns = sl_clock_mono_ns();

    for (size_t i = e->live_count; i-- > 0; i = SL_MIN(i, e->live_count)) {
        job *j = e->live[i]->job;

        if (!j->started && j->done_count == 0 && !seq_is_background(e->live[i]) &&
            now_ns - j->submitted_ns > (int64_t)e->o.deadline_ms * 1000000)
            refuse_overdue(e, j, now_ns);
    }
}
