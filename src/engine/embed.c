/* embed.c - one round of an encoder: the waiting texts (or pairs) that fit one batch, in order of
 * length, so that few short texts wait for a long one. Background texts come after all others,
 * never beside them. */
#include "engine/engine_int.h"

#include <stdlib.h>

#define BESIDE_TOKENS 128 /* of a step aside while others have work */

static int by_length(const void *a, const void *b)
{
    const seq *x = *(seq *const *)a, *y = *(seq *const *)b;

    if (seq_is_background(x) != seq_is_background(y))
        return seq_is_background(x) ? 1 : -1;
    return (x->count > y->count) - (x->count < y->count);
}

void embed_round(engine *e)
{
    int tokens = 0, texts = 0, most;
    bool background;

    qsort(e->live, e->live_count, sizeof(seq *), by_length);
    background = seq_is_background(e->live[0]);
    if (e->owner && !aside_wait(e, background))
        return;
    most = e->owner && aside_others() ? BESIDE_TOKENS : e->limits.step_tokens;
    while ((size_t)texts < e->live_count) {
        seq *s = e->live[texts];

        if (texts > 0 && (tokens + s->count > most || seq_is_background(s) != background))
            break;
        if (!s->job->started)
            job_start(e, s->job);
        e->texts[texts++] = (encoder_text){ s->tokens, s->count, s->second, s->vector };
        tokens += s->count;
    }
    if (e->owner)
        aside_run(e, e->texts, texts);
    else
        encoder_run(e->enc, e->texts, texts);
    atomic_fetch_add_explicit(&e->steps, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->prompt_tokens, tokens, memory_order_relaxed);
    atomic_store_explicit(&e->running, texts, memory_order_relaxed);
    atomic_store_explicit(&e->waiting, (int)e->live_count - texts, memory_order_relaxed);
    for (int i = texts; i-- > 0;) {
        if (e->live[i]->job->req->task == LLM_RERANK)
            emit_score(e->live[i], e->live[i]->vector[0]);
        else
            emit_vector(e->live[i], (size_t)e->w->params.dim);
        seq_end(e, (size_t)i);
    }
}
