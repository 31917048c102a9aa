/* scripted.c - see the header. One thread owns the requests and gives each its next word when that
 * is due, as an engine's thread would; others only put new requests into its inbox.
 *
 * Invariant: the heap is ordered by due_ns; a request is in the inbox or in the heap, and leaves
 * with its LLM_EV_DONE. */
#include "app/scripted.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "base/thread.h"

#define RUNS_MAX       16384
#define OUTPUT_DEFAULT 16

typedef struct run {
    struct run *next; /* in the inbox */
    llm_request *req;
    llm_sink sink;
    int64_t begin_ns, due_ns, sent, wanted;
    int64_t prompt_tokens;
    bool started;
} run;

struct scripted {
    char name[64];
    int64_t period_ns; /* between two words; 0: none */
    pthread_t thread;

    pthread_mutex_t mutex; /* the fields below */
    pthread_cond_t changed;
    run *inbox;
    size_t count; /* in inbox and heap */
    bool stopping;

    run *heap[RUNS_MAX]; /* the thread's */
    size_t heap_count;
};

/* ---- events -------------------------------------------------------------------------------- */

static void emit(run *r, const llm_event *ev)
{
    r->sink.fn(r->sink.ctx, r->req, ev);
}

static void emit_word(run *r)
{
    char text[32], *p = text + sizeof text - 1;
    llm_token token = { .chosen = { .id = (int32_t)r->sent } };
    llm_event ev = { .kind = LLM_EV_DELTA, .tokens = &token, .token_count = 1 };

    *p = ' ';
    for (int64_t n = r->sent++, is_first = 1; is_first || n > 0; n /= 10, is_first = 0)
        *--p = (char)('0' + n % 10);
    *--p = 'w';
    ev.text = token.chosen.text = p;
    ev.text_len = token.chosen.text_len = (size_t)(text + sizeof text - p);
    emit(r, &ev);
}

static void finish(run *r, bool cancelled)
{
    llm_event end = { .kind = LLM_EV_FINISH,
                      .finish = cancelled ? LLM_FINISH_CANCELLED : LLM_FINISH_LENGTH };
    llm_event done = { .kind = LLM_EV_DONE,
                       .usage = { .prompt_tokens = r->prompt_tokens, .output_tokens = r->sent } };

    done.usage.total_ns = sl_clock_mono_ns() - r->begin_ns;
    emit(r, &end);
    emit(r, &done); /* ends the request */
    sl_free(r);
}

/* Gives what is due; false when the request has ended. */
static bool advance(const scripted *s, run *r, bool stopping)
{
    llm_event start = { .kind = LLM_EV_START, .usage = { .prompt_tokens = r->prompt_tokens } };
    bool cancelled;

    if (!r->started)
        emit(r, &start);
    r->started = true;
    do {
        cancelled = stopping || atomic_load(&r->req->cancelled);
        if (!cancelled && r->sent < r->wanted)
            emit_word(r);
    } while (!cancelled && s->period_ns == 0 && r->sent < r->wanted);
    if (cancelled || r->sent == r->wanted) {
        finish(r, cancelled);
        return false;
    }
    r->due_ns += s->period_ns;
    return true;
}

/* ---- the heap ------------------------------------------------------------------------------ */

static void heap_swap(scripted *s, size_t a, size_t b)
{
    run *r = s->heap[a];

    s->heap[a] = s->heap[b];
    s->heap[b] = r;
}

static void heap_push(scripted *s, run *r)
{
    size_t i = s->heap_count++;

    s->heap[i] = r;
    for (; i > 0 && s->heap[i]->due_ns < s->heap[(i - 1) / 2]->due_ns; i = (i - 1) / 2)
        heap_swap(s, i, (i - 1) / 2);
}

/* Puts the first one, whose time or place changed, where it belongs. */
static void heap_sink(scripted *s)
{
    size_t i = 0;

    for (;;) {
        size_t least = i;

        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < s->heap_count; child++)
            if (s->heap[child]->due_ns < s->heap[least]->due_ns)
                least = child;
        if (least == i)
            return;
        heap_swap(s, i, least);
        i = least;
    }
}

/* ---- the thread ---------------------------------------------------------------------------- */

/* Waits for the next due time or a new request and takes the inbox; true: the end. */
static bool take_inbox(scripted *s)
{
    int64_t due_ns = s->heap_count ? s->heap[0]->due_ns : INT64_MAX;
    run *list;
    bool stopping;

    pthread_mutex_lock(&s->mutex);
    while (!s->inbox && !s->stopping && sl_clock_mono_ns() < due_ns)
        (void)sl_cond_wait_until(&s->changed, &s->mutex, due_ns);
    list = s->inbox;
    s->inbox = NULL;
    stopping = s->stopping;
    pthread_mutex_unlock(&s->mutex);
    while (list) {
        run *r = list;

        list = r->next;
        heap_push(s, r);
    }
    return stopping;
}

static void *scripted_main(void *ctx)
{
    scripted *s = ctx;
    bool stopping;

    do {
        size_t ended = 0;
        int64_t now_ns;

        stopping = take_inbox(s);
        now_ns = sl_clock_mono_ns();
        while (s->heap_count > 0 && (stopping || s->heap[0]->due_ns <= now_ns)) {
            if (!advance(s, s->heap[0], stopping)) {
                s->heap[0] = s->heap[--s->heap_count];
                ended++;
            }
            heap_sink(s);
        }
        pthread_mutex_lock(&s->mutex);
        s->count -= ended;
        pthread_mutex_unlock(&s->mutex);
    } while (!stopping);
    return NULL;
}

/* ---- backend ------------------------------------------------------------------------------- */

static int64_t count_words(const char *text)
{
    int64_t count = 0;

    for (; text && *text; count++) {
        text += strspn(text, " \n\t");
        text += strcspn(text, " \n\t");
    }
    return count;
}

static int64_t count_prompt(const llm_request *req)
{
    int64_t count = 0;
    size_t i;
    json_t *m;

    for (i = 0; i < req->prompt_count; i++)
        count += req->prompts[i].ids ? (int64_t)req->prompts[i].id_count
                                     : count_words(req->prompts[i].text);
    json_array_foreach(req->messages, i, m) count +=
        count_words(json_string_value(json_object_get(m, "content")));
    return count;
}

static sl_status scripted_submit(void *ctx, llm_request *req, llm_sink sink, sl_err *err)
{
    scripted *s = ctx;
    run *r;
    bool is_full;

    if (req->task == LLM_EMBED || req->n > 1 || req->prompt_count > 1)
        return sl_fail(err, SL_EINVAL, "a scripted model answers one prompt with one choice");
    r = sl_calloc(1, sizeof *r);
    if (!r)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    *r = (run){ .req = req, .sink = sink, .prompt_tokens = count_prompt(req) };
    r->wanted = req->max_tokens >= 0 ? req->max_tokens : OUTPUT_DEFAULT;
    if (llm_admit(req, &(llm_demand){ r->prompt_tokens, r->wanted }, err) != SL_OK) {
        sl_free(r);
        return err->status;
    }
    r->begin_ns = r->due_ns = sl_clock_mono_ns();
    pthread_mutex_lock(&s->mutex);
    is_full = s->stopping || s->count == RUNS_MAX;
    if (!is_full) {
        r->next = s->inbox;
        s->inbox = r;
        s->count++;
    }
    pthread_mutex_unlock(&s->mutex);
    if (!is_full) {
        pthread_cond_signal(&s->changed); /* outside, since the thread takes the mutex at once */
        return SL_OK;
    }
    sl_free(r);
    return sl_fail(err, SL_EBUSY, "the queue is full (%d requests)", RUNS_MAX);
}

static void scripted_info(void *ctx, llm_model_info *ret)
{
    const scripted *s = ctx;

    *ret = (llm_model_info){ .can_generate = true, .context_tokens = 1 << 20 };
    snprintf(ret->name, sizeof ret->name, "%s", s->name);
}

llm_backend scripted_backend(scripted *s)
{
    static const llm_backend_ops ops = { .submit = scripted_submit, .info = scripted_info };

    return (llm_backend){ &ops, s };
}

sl_status scripted_open(const char *name, scripted **ret, sl_err *err)
{
    char *end = "";
    double rate;
    scripted *s;

    if (strncmp(name, SCRIPTED_PREFIX, sizeof SCRIPTED_PREFIX - 1) != 0)
        return sl_fail(err, SL_ENOTFOUND, "no model '%s'", name);
    rate = strtod(name + sizeof SCRIPTED_PREFIX - 1, &end);
    if (*end || !(rate >= 0 && rate <= 1e6))
        return sl_fail(err, SL_EINVAL, "'%s': the rate is 0 to 1,000,000 tokens a second", name);
    s = sl_calloc(1, sizeof *s);
    if (!s)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    snprintf(s->name, sizeof s->name, "%s", name);
    s->period_ns = rate > 0 ? (int64_t)llround(1e9 / rate) : 0;
    pthread_mutex_init(&s->mutex, NULL);
    sl_cond_init(&s->changed);
    if (pthread_create(&s->thread, NULL, scripted_main, s) != 0) {
        sl_free(s);
        return sl_fail(err, SL_EIO, "cannot start a thread");
    }
    *ret = s;
    return SL_OK;
}

void scripted_stop(scripted *s)
{
    bool was;

    pthread_mutex_lock(&s->mutex);
    was = s->stopping;
    s->stopping = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->mutex);
    if (!was)
        pthread_join(s->thread, NULL);
}

void scripted_close(scripted *s)
{
    if (!s)
        return;
    scripted_stop(s);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mutex);
    sl_free(s);
}
