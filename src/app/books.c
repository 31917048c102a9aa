/* books.c - limits, prices and usage as configured.
 *
 * The tables made of one configuration are immutable; a reload makes new ones and keeps the old
 * until the end, because a request may be reading them. */
#include "app/books.h"

#include "app/app.h"
#include "base/mem.h"
#include "base/os.h"

#define TABLES_BYTES (16 * SL_MIB)

typedef struct tables {
    struct tables *older;
    sl_arena arena; /* everything below */
    price_table prices;
    const limit_model *models;
    size_t model_count;
    int64_t output_default;
} tables;

struct books {
    _Atomic(tables *) tables; /* the newest */
    ledger *ledger;
    limiter *limiter;
    metric_family *cost, *refusals; /* NULL: nobody counts */
};

/* ---- tables -------------------------------------------------------------------------------- */

static sl_status make_price(const config_price *from, unsigned i, sl_arena *arena, price *p,
                            sl_err *err)
{
    *p = (price){ .model = sl_arena_strndup(arena, from->model, strlen(from->model)),
                  .input = from->input,
                  .cached_input = from->cached_input,
                  .output = from->output };
    if (!p->model)
        return sl_fail(err, SL_ENOMEM, "prices");
    if (from->input < 0 || from->cached_input < 0 || from->output < 0)
        return sl_fail(err, SL_EINVAL, "prices[%u]: a price is at least 0", i);
    if (from->from && price_day(from->from, &p->from_day, err) != SL_OK)
        return sl_err_prefix(err, SL_EINVAL, "prices[%u].from", i);
    if (from->until && price_day(from->until, &p->until_day, err) != SL_OK)
        return sl_err_prefix(err, SL_EINVAL, "prices[%u].until", i);
    return SL_OK;
}

static sl_status make_prices(tables *t, const config *c, sl_err *err)
{
    price *rows = sl_arena_alloc(&t->arena, (c->prices_count + 1u) * sizeof *rows);

    if (!rows)
        return sl_fail(err, SL_ENOMEM, "prices");
    for (unsigned i = 0; i < c->prices_count; i++)
        SL_TRY(make_price(&c->prices[i], i, &t->arena, &rows[i], err));
    t->prices = (price_table){ rows, c->prices_count };
    return SL_OK;
}

static sl_status make_model_limits(tables *t, const config *c, sl_err *err)
{
    limit_model *rows = sl_arena_alloc(&t->arena, (c->limits.models_count + 1u) * sizeof *rows);

    if (!rows)
        return sl_fail(err, SL_ENOMEM, "limits");
    for (unsigned i = 0; i < c->limits.models_count; i++) {
        const config_model_limits *m = &c->limits.models[i];

        if (m->rpm < 0 || m->rpd < 0 || m->tpm < 0 || m->tpd < 0 || m->concurrency < 0 ||
            m->request_tokens < 0 || m->budget < 0 || m->budget_days < 0)
            return sl_fail(err, SL_EINVAL, "limits.models[%u]: a limit is at least 0 (none)", i);
        rows[i] = (limit_model){ sl_arena_strndup(&t->arena, m->model, strlen(m->model)),
                                 { .rpm = m->rpm,
                                   .rpd = m->rpd,
                                   .tpm = m->tpm,
                                   .tpd = m->tpd,
                                   .concurrency = m->concurrency,
                                   .request_tokens = m->request_tokens,
                                   .budget_nusd = (int64_t)(m->budget * 1e9),
                                   .budget_days = m->budget_days } };
        if (!rows[i].model)
            return sl_fail(err, SL_ENOMEM, "limits");
    }
    t->models = rows;
    t->model_count = c->limits.models_count;
    t->output_default = c->limits.output_default;
    return SL_OK;
}

static void tables_destroy(tables *t)
{
    sl_arena_deinit(&t->arena);
    sl_free(t);
}

static sl_status tables_create(const config *c, tables **ret, sl_err *err)
{
    tables *t = sl_calloc(1, sizeof *t);
    sl_status status;

    if (!t)
        return sl_fail(err, SL_ENOMEM, "prices and limits");
    sl_arena_init(&t->arena, TABLES_BYTES);
    status = make_prices(t, c, err);
    if (status == SL_OK)
        status = make_model_limits(t, c, err);
    if (status == SL_OK)
        *ret = t;
    else
        tables_destroy(t);
    return status;
}

sl_status app_check_books(const config *c, sl_err *err)
{
    tables *t = NULL;

    SL_TRY(tables_create(c, &t, err));
    tables_destroy(t);
    return SL_OK;
}

static int64_t cost_nusd(void *ctx, const char *model, const llm_tokens *tokens)
{
    books *b = ctx;

    return price_cost_nusd(&atomic_load(&b->tables)->prices, model, tokens, sl_clock_wall_ms());
}

/* ---- metrics ------------------------------------------------------------------------------- */

static void on_refusal(void *ctx, const char *what, const char *model)
{
    const books *b = ctx;

    metric_add(metric_with2(b->refusals, model, what), 1);
}

static void on_record(void *ctx, const ledger_record *r)
{
    const books *b = ctx;

    metric_add(metric_with2(b->cost, r->columns[LLM_USAGE_MODEL], r->columns[LLM_USAGE_ROUTE]),
               (double)r->cost_nusd / 1e9);
}

static double unwritten(void *ctx)
{
    return (double)ledger_unwritten(((const books *)ctx)->ledger);
}

void books_add_metrics(books *b, metric_registry *r)
{
    static const char *const cost[] = { "model_name", "route", NULL };
    static const char *const refusals[] = { "model_name", "limit", NULL };

    b->cost = metric_counter(r, "sluice_cost_dollars_total",
                             "What the ledger's records cost, in dollars.", cost);
    b->refusals = metric_counter(r, "sluice_limit_refusals_total",
                                 "Requests refused by a limit, by its kind.", refusals);
    metric_gauge_fn(r, "sluice_ledger_unwritten_records",
                    "Records of the journal that are not in the database because it fails.",
                    unwritten, b);
}

/* ---- life ---------------------------------------------------------------------------------- */

static sl_status open_limiter(books *b, const config *c, sl_err *err)
{
    const tables *t = atomic_load(&b->tables);
    limit_options o = { .models = t->models,
                        .model_count = t->model_count,
                        .output_default = t->output_default,
                        .cost_nusd = cost_nusd,
                        .cost_ctx = b,
                        .on_refusal = on_refusal,
                        .refusal_ctx = b };
    sl_buf path;
    sl_status status;

    sl_buf_init(&path, 8192);
    sl_buf_printf(&path, "%s/limits.db", c->data);
    status = sl_buf_ok(&path, "path", err);
    o.path = path.ptr;
    if (status == SL_OK)
        status = limit_open(&o, &b->limiter, err);
    sl_buf_deinit(&path);
    return status;
}

sl_status books_open(const config *c, bool only_read, books **ret, sl_err *err)
{
    books *b = sl_calloc(1, sizeof *b);
    const ledger_options o = { .dir = c->data,
                               .cost_nusd = cost_nusd,
                               .cost_ctx = b,
                               .keep_days = c->usage.keep_days,
                               .only_read = only_read,
                               .on_record = on_record,
                               .record_ctx = b };
    tables *t = NULL;
    sl_status status;

    if (!b)
        return sl_fail(err, SL_ENOMEM, "ledger");
    status = tables_create(c, &t, err);
    atomic_init(&b->tables, t);
    if (status == SL_OK)
        status = ledger_open(&o, &b->ledger, err);
    if (status == SL_OK && !only_read)
        status = open_limiter(b, c, err);
    if (status == SL_OK)
        *ret = b;
    else
        books_close(b);
    return status;
}

void books_close(books *b)
{
    tables *t;

    if (!b)
        return;
    limit_close(b->limiter);
    ledger_close(b->ledger);
    for (t = atomic_load(&b->tables); t;) {
        tables *older = t->older;

        tables_destroy(t);
        t = older;
    }
    sl_free(b);
}

sl_status books_reload(books *b, const config *c, sl_err *err)
{
    tables *t = NULL;

    SL_TRY(tables_create(c, &t, err));
    t->older = atomic_load(&b->tables);
    atomic_store(&b->tables, t);
    limit_set_models(b->limiter, t->models, t->model_count, t->output_default);
    return SL_OK;
}

void books_add_stages(books *b, llm_chain *chain)
{
    SL_ASSERT(chain->stage_count + 2 <= LLM_STAGES_MAX);
    chain->stages[chain->stage_count++] = (llm_stage){ &ledger_stage, b->ledger };
    chain->stages[chain->stage_count++] = (llm_stage){ &limit_stage, b->limiter };
}

sl_status app_usage(const config *c, const llm_usage_query *q,
                    void (*on_row)(void *ctx, const llm_usage_row *row), void *ctx, sl_err *err)
{
    books *b = NULL;
    sl_status status;

    SL_TRY(books_open(c, true, &b, err));
    status = books_usage(b).ops->query(b->ledger, q, on_row, ctx, err);
    books_close(b);
    return status;
}

llm_usage_source books_usage(books *b)
{
    return ledger_source(b->ledger);
}
