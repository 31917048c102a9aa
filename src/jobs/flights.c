/* flights.c - lines under way. */
#include "jobs/flights.h"

#include <stdio.h>

#include "base/os.h"
#include "base/thread.h"

#define BODY_BYTES_MAX (256 * SL_MIB) /* what a dialect's encoder writes at most */

void flights_init(flights *s, llm_line_runner runner)
{
    *s = (flights){ .runner = runner };
    s->finished_tail = &s->finished;
    pthread_mutex_init(&s->lock, NULL);
    sl_cond_init(&s->wake);
}

void flights_deinit(flights *s)
{
    SL_ASSERT(s->count == 0);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
}

static void on_answer(void *ctx, const llm_line_answer *a)
{
    flight *f = ctx;
    flights *s = f->set;

    f->status = a->status;
    f->again = a->again;
    f->again_ms = a->again_ms;
    f->is_cancelled = a->is_cancelled;
    f->prompt_tokens = a->prompt_tokens;
    f->cached_tokens = a->cached_tokens;
    f->output_tokens = a->output_tokens;
    snprintf(f->request_id, sizeof f->request_id, "%s", a->request_id);
    sl_buf_put(&f->body, a->body.ptr, a->body.len);
    pthread_mutex_lock(&s->lock);
    *s->finished_tail = f;
    s->finished_tail = &f->next_finished;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

bool flights_start(flights *s, void *owner, size_t line, const llm_line *what)
{
    flight *f = sl_calloc(1, sizeof *f);

    if (!f)
        return false;
    f->set = s;
    f->owner = owner;
    f->line = line;
    sl_buf_init(&f->body, BODY_BYTES_MAX);
    f->next = s->first;
    if (s->first)
        s->first->prev = f;
    s->first = f;
    s->count++;
    f->handle = s->runner.ops->run(s->runner.ctx, what, on_answer, f);
    return true;
}

static void unlink_flight(flights *s, flight *f)
{
    if (f->prev)
        f->prev->next = f->next;
    else
        s->first = f->next;
    if (f->next)
        f->next->prev = f->prev;
    s->count--;
}

flight *flights_take(flights *s)
{
    flight *list;

    pthread_mutex_lock(&s->lock);
    list = s->finished;
    s->finished = NULL;
    s->finished_tail = &s->finished;
    pthread_mutex_unlock(&s->lock);
    for (flight *f = list; f; f = f->next_finished)
        unlink_flight(s, f);
    return list;
}

void flights_wait(flights *s, int64_t ms)
{
    int64_t until_ns = sl_clock_mono_ns() + ms * 1000000;

    pthread_mutex_lock(&s->lock);
    while (!s->finished && !s->nudged && sl_cond_wait_until(&s->wake, &s->lock, until_ns))
        continue;
    s->nudged = false;
    pthread_mutex_unlock(&s->lock);
}

void flights_nudge(flights *s)
{
    pthread_mutex_lock(&s->lock);
    s->nudged = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

void flights_cancel(flights *s, const void *owner)
{
    for (flight *f = s->first; f; f = f->next)
        if (f->handle && (!owner || f->owner == owner))
            s->runner.ops->cancel(f->handle);
}

void flight_free(flight *f)
{
    f->set->runner.ops->release(f->handle);
    sl_buf_deinit(&f->body);
    sl_free(f);
}
