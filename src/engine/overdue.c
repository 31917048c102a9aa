/* overdue.c - requests that were let in and whose turn does not come: refused after a while, or
 * when overload begins, as those that find the queue full are. */
#include "engine/engine_int.h"

#include "base/os.h"

/* Refuses a job whose turn did not come; takes its sequences, none of which ran, out of the live
 * list. */
static void refuse(engine *e, job *j, const char *why)
{
    double waited_s = (double)(sl_clock_mono_ns() - j->submitted_ns) / 1e9;
    size_t kept = 0;
    sl_err err = { 0 };

    for (size_t i = 0; i < e->live_count; i++) {
        seq *s = e->live[i];

        if (s->job != j)
            e->live[kept++] = s;
        else if (e->pool)
            tenant_leave(e, s->tenant);
    }
    e->live_count = kept;
    j->req->quota.retry_after_ms = load_refuse(&e->load, load_caller_of(j->req));
    (void)sl_fail(&err, SL_EBUSY, "Model '%s' is overloaded: the request waited %.1f s, %s",
                  e->name, waited_s, why);
    llm_refuse(j->req, j->sink, &err);
    job_destroy(e, j);
}

static bool is_waiting(const seq *s)
{
    return !s->job->started && s->job->done_count == 0 && !seq_is_background(s);
}

void drop_overdue(engine *e)
{
    int64_t since_ns = sl_clock_mono_ns() - (int64_t)e->o.deadline_ms * 1000000;
    int shed = load_shed(&e->load);

    if (shed > 0)
        order_live(e); /* in the back are those whose turn would come last */
    for (size_t i = e->live_count; i-- > 0; i = SL_MIN(i, e->live_count)) {
        job *j = e->live[i]->job;

        if (!is_waiting(e->live[i]))
            continue;
        if (j->submitted_ns < since_ns)
            refuse(e, j, "its turn did not come in time (engine.deadline_ms)");
        else if (shed-- > 0)
            refuse(e, j, "and far more come than end");
    }
}
