/* embed.c - texts to vectors through the chain, and token counts. */
#include "rag/rag_int.h"

#include <math.h>
#include <stdlib.h>

#define BATCH_TEXTS 32           /* in flight at once: one engine step's worth of passages */
#define BACK_TEXTS  64           /* of one request in the background */
#define BACK_BYTES  (SL_MIB / 2) /* the same: what is cancelled is not far from its end */
#define FLIGHTS     3            /* so that the model never waits for the next request */
#define ARENA_BYTES (8 * SL_MIB) /* a batch of the longest passages: 32 x 8,192 tokens */

sl_status rag_embed_model(const rag *r, rag_model *ret, sl_err *err)
{
    llm_model_info info = { 0 };

    ret->backend = llm_chain_find(r->o.chain, r->o.embed_model, LLM_EMBED);
    if (ret->backend)
        ret->backend->ops->info(ret->backend->ctx, &info);
    if (!ret->backend && r->o.embed_model)
        return sl_fail(err, SL_ENOTFOUND,
                       "documents need the embedding model '%s', which is not there; bring it "
                       "with: sluice pull %s",
                       r->o.embed_model, r->o.embed_model);
    if (!info.can_embed)
        return sl_fail(err, SL_ENOTSUP,
                       "documents need a model that makes embeddings, and there is none; bring "
                       "one with: sluice pull minilm");
    if (info.embedding_dim < 1 || info.embedding_dim > RAG_DIM_MAX)
        return sl_fail(err, SL_ENOTSUP, "embeddings of %lld dimensions are not supported",
                       (long long)info.embedding_dim);
    memcpy(ret->name, info.name, sizeof ret->name);
    ret->name[sizeof ret->name - 1] = '\0';
    ret->dim = (size_t)info.embedding_dim;
    ret->context_tokens = info.context_tokens > 0 ? (size_t)info.context_tokens : 512;
    return SL_OK;
}

/* Without a tokenizer: a byte of Latin text is a quarter of a token, other characters are one. */
static size_t estimate_tokens(const char *text, size_t len)
{
    size_t ascii = 0, others = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        ascii += c < 0x80;
        others += c >= 0xc0;
    }
    return (ascii + 3) / 4 + others;
}

sl_status rag_count_tokens(const llm_backend *b, const char *text, size_t len, size_t *ret,
                           sl_err *err)
{
    if (!b->ops->tokenize) {
        *ret = estimate_tokens(text, len);
        return SL_OK;
    }
    return b->ops->tokenize(b->ctx, text, len, 0, NULL, 0, ret, err);
}

/* The token that stands for what the model's vocabulary lacks, found by asking for a character that
 * hardly any has; -1: there is none. */
static int32_t unknown_token(const llm_backend *b)
{
    static const char nobody[] = "\xf0\x92\x80\x80"; /* a letter of cuneiform */
    int32_t ids[8];
    size_t count = 0;
    sl_buf text;
    bool is_unknown;

    if (!b->ops->tokenize || !b->ops->detokenize ||
        b->ops->tokenize(b->ctx, nobody, sizeof nobody - 1, 0, ids, SL_COUNT_OF(ids), &count,
                         NULL) != SL_OK ||
        count == 0 || count > SL_COUNT_OF(ids))
        return -1;
    sl_buf_init(&text, 256);
    is_unknown =
        b->ops->detokenize(b->ctx, &ids[count - 1], 1, &text, NULL) == SL_OK &&
        (strcmp(sl_buf_str(&text), "[UNK]") == 0 || strcmp(sl_buf_str(&text), "<unk>") == 0);
    sl_buf_deinit(&text);
    return is_unknown ? ids[count - 1] : -1;
}

double rag_unknown_share(const rag_model *m, const char *text, size_t len)
{
    const llm_backend *b = m->backend;
    int32_t unknown = unknown_token(b), *ids;
    size_t count = 0, bad = 0;

    if (unknown < 0 || len == 0)
        return 0;
    ids = sl_calloc(len + 8, sizeof *ids);
    if (ids && b->ops->tokenize(b->ctx, text, len, 0, ids, len + 8, &count, NULL) == SL_OK)
        for (size_t i = 0; i < SL_MIN(count, len + 8); i++)
            bad += ids[i] == unknown;
    sl_free(ids);
    return count ? (double)bad / (double)count : 0;
}

typedef struct collect {
    float *out;           /* [count, dim], or by rows: */
    const uint32_t *rows; /* [count] or NULL */
    size_t count, dim, got;
    bool is_bad;
} collect;

static void normalise(float *v, size_t dim)
{
    double sum = 0;

    for (size_t i = 0; i < dim; i++)
        sum += (double)v[i] * v[i];
    for (size_t i = 0; i < dim && sum > 0; i++)
        v[i] = (float)(v[i] / sqrt(sum));
}

static void on_vector(void *ctx, llm_request *req, const llm_event *ev)
{
    collect *c = ctx;
    size_t row;

    if (ev->kind != LLM_EV_EMBEDDING)
        return;
    if (ev->choice >= c->count || ev->vector_len != c->dim) {
        c->is_bad = true;
        return;
    }
    for (size_t i = 0; i < c->dim; i++) /* a broken vector must not poison the ranking */
        c->is_bad = c->is_bad || !isfinite(ev->vector[i]);
    row = c->rows ? c->rows[ev->choice] : ev->choice;
    memcpy(c->out + row * c->dim, ev->vector, c->dim * sizeof(float));
    normalise(c->out + row * c->dim, c->dim);
    c->got++;
}

static char *join(llm_request *req, const rag_text *t, size_t *ret_len)
{
    size_t n = strlen(t->heading), at = n ? n + 1 : 0;
    char *text = sl_arena_alloc(&req->arena, at + t->len + 1);

    if (!text)
        return NULL;
    memcpy(text, t->heading, n);
    if (n)
        text[n] = '\n';
    memcpy(text + at, t->text, t->len);
    *ret_len = at + t->len;
    return text;
}

/* A request for texts[count], or for those that rows name. */
static sl_status make_request(const rag *r, const rag_text *texts, const uint32_t *rows,
                              size_t count, llm_request **ret, sl_err *err)
{
    llm_request *req = llm_request_create(LLM_EMBED, ARENA_BYTES);
    bool is_short = !req;

    if (req && r->o.embed_model)
        is_short = !(req->model =
                         sl_arena_strndup(&req->arena, r->o.embed_model, strlen(r->o.embed_model)));
    if (!is_short)
        is_short = !(req->prompts = sl_arena_alloc(&req->arena, count * sizeof *req->prompts));
    for (size_t i = 0; i < count && !is_short; i++) {
        llm_prompt *p = &req->prompts[i];

        is_short = !(p->text = join(req, &texts[rows ? rows[i] : i], &p->text_len));
    }
    if (is_short) {
        llm_request_destroy(req);
        return sl_fail(err, SL_ENOMEM, "the passages need too much memory");
    }
    req->prompt_count = count;
    *ret = req;
    return SL_OK;
}

static sl_status check(const collect *c, const rag_model *m, sl_err *err)
{
    if (c->is_bad || c->got != c->count)
        return sl_fail(err, SL_EINTERNAL, "the embedding model '%s' gave %zu usable vectors of %zu",
                       m->name, c->is_bad ? 0 : c->got, c->count);
    return SL_OK;
}

static sl_status embed_batch(const rag *r, const rag_model *m, const rag_text *texts, size_t count,
                             atomic_bool *cancelled, float *out, sl_err *err)
{
    collect c = { .out = out, .count = count, .dim = m->dim };
    llm_request *req = NULL;

    SL_TRY(make_request(r, texts, NULL, count, &req, err));
    req->embed_as = LLM_EMBED_QUERY;
    SL_TRY(rag_run(r, req, on_vector, &c, cancelled, NULL, err));
    return check(&c, m, err);
}

sl_status rag_embed(const rag *r, const rag_model *m, const rag_text *texts, size_t count,
                    atomic_bool *cancelled, float *out, sl_err *err)
{
    for (size_t i = 0; i < count; i += BATCH_TEXTS)
        SL_TRY(embed_batch(r, m, texts + i, SL_MIN(count - i, (size_t)BATCH_TEXTS), cancelled,
                           out + i * m->dim, err));
    return SL_OK;
}

/* ---- in the background ---------------------------------------------------------------------- */

typedef struct back {
    rag_flight flight;
    collect c;
} back;

typedef struct many {
    const rag *r;
    const rag_model *m;
    const rag_text *texts;
    const uint32_t *rows; /* [count] the longest first */
    size_t count, next;   /* next: of rows, not yet asked for */
    float *out;
    back backs[FLIGHTS]; /* a ring */
    size_t first, under_way;
} many;

static int longer_first(const void *a, const void *b, void *texts)
{
    const rag_text *t = texts;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;

    if (t[i].len != t[j].len)
        return t[i].len < t[j].len ? 1 : -1;
    return (i > j) - (i < j);
}

static sl_status start_next(many *w, sl_err *err)
{
    back *b = &w->backs[(w->first + w->under_way) % FLIGHTS];
    const uint32_t *rows = w->rows + w->next;
    size_t count = 0, bytes = 0;
    llm_request *req = NULL;

    while (w->next + count < w->count && count < BACK_TEXTS && bytes < BACK_BYTES)
        bytes += w->texts[rows[count++]].len;
    SL_TRY(make_request(w->r, w->texts, rows, count, &req, err));
    req->priority = LLM_PRIORITY_BATCH;
    req->embed_as = LLM_EMBED_PASSAGE;
    *b = (back){ .c = { .out = w->out, .rows = rows, .count = count, .dim = w->m->dim },
                 .flight = { .fn = on_vector, .ctx = &b->c } };
    SL_TRY(rag_start(w->r, req, &b->flight, err));
    w->next += count;
    w->under_way++;
    return SL_OK;
}

static sl_status finish_first(many *w, atomic_bool *cancelled, sl_err *err)
{
    back *b = &w->backs[w->first];

    w->first = (w->first + 1) % FLIGHTS;
    w->under_way--;
    SL_TRY(rag_finish(&b->flight, cancelled, NULL, err));
    return check(&b->c, w->m, err);
}

static sl_status run_many(many *w, atomic_bool *cancelled, sl_err *err)
{
    sl_status status = SL_OK;

    while (status == SL_OK && (w->next < w->count || w->under_way > 0)) {
        if (w->next < w->count && w->under_way < FLIGHTS) {
            status = start_next(w, err);
            if (status == SL_EBUSY && w->under_way > 0) /* room comes with the end of one */
                status = finish_first(w, cancelled, err);
        } else {
            status = finish_first(w, cancelled, err);
        }
    }
    while (w->under_way > 0) {
        atomic_bool stop = true;

        (void)!finish_first(w, &stop, NULL);
    }
    return status;
}

sl_status rag_embed_many(const rag *r, const rag_model *m, const rag_text *texts, size_t count,
                         atomic_bool *cancelled, float *out, sl_err *err)
{
    many w = { .r = r, .m = m, .texts = texts, .count = count, .out = out };
    uint32_t *rows = sl_calloc(count + 1, sizeof *rows);
    sl_status status;

    if (!rows)
        return sl_fail(err, SL_ENOMEM, "out of memory for %zu passages", count);
    for (size_t i = 0; i < count; i++)
        rows[i] = (uint32_t)i;
    qsort_r(rows, count, sizeof *rows, longer_first, (void *)(uintptr_t)texts);
    w.rows = rows;
    status = run_many(&w, cancelled, err);
    sl_free(rows);
    return status;
}
