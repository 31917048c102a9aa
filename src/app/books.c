/* books.c - limits, prices and usage as configured. */
#include "app/app.h"
#include "app/books.h"

#include "base/mem.h"
#include "base/os.h"

struct books {
    price *rows;
    limit_model *models;
    price_table prices;
    ledger *ledger;
    limiter *limiter;
};

static sl_status make_prices(books *b, const config *c, sl_err *err)
{
    b->rows = sl_calloc(c->prices_count + 1u, sizeof *b->rows);
    if (!b->rows)
        return sl_fail(err, SL_ENOMEM, "prices");
    for (unsigned i = 0; i < c->prices_count; i++) {
        const config_price *from = &c->prices[i];
        price *p = &b->rows[i];

        *p = (price){ .model = from->model,
                      .input = from->input,
                      .cached_input = from->cached_input,
                      .output = from->output };
        if (from->input < 0 || from->cached_input < 0 || from->output < 0)
            return sl_fail(err, SL_EINVAL, "prices[%u]: a price is at least 0", i);
        if (from->from && price_day(from->from, &p->from_day, err) != SL_OK)
            return sl_err_prefix(err, SL_EINVAL, "prices[%u].from", i);
        if (from->until && price_day(from->until, &p->until_day, err) != SL_OK)
            return sl_err_prefix(err, SL_EINVAL, "prices[%u].until", i);
    }
    b->prices = (price_table){ b->rows, c->prices_count };
    return SL_OK;
}

static sl_status make_model_limits(books *b, const config *c, sl_err *err)
{
    b->models = sl_calloc(c->limits.models_count + 1u, sizeof *b->models);
    if (!b->models)
        return sl_fail(err, SL_ENOMEM, "limits");
    for (unsigned i = 0; i < c->limits.models_count; i++) {
        const config_model_limits *m = &c->limits.models[i];

        if (m->rpm < 0 || m->rpd < 0 || m->tpm < 0 || m->tpd < 0 || m->concurrency < 0 ||
            m->request_tokens < 0 || m->budget < 0 || m->budget_days < 0)
            return sl_fail(err, SL_EINVAL, "limits.models[%u]: a limit is at least 0 (none)", i);
        b->models[i] = (limit_model){ m->model,
                                      { .rpm = m->rpm,
                                        .rpd = m->rpd,
                                        .tpm = m->tpm,
                                        .tpd = m->tpd,
                                        .concurrency = m->concurrency,
                                        .request_tokens = m->request_tokens,
                                        .budget_nusd = (int64_t)(m->budget * 1e9),
                                        .budget_days = m->budget_days } };
    }
    return SL_OK;
}

static int64_t cost_nusd(void *ctx, const char *model, const llm_tokens *tokens)
{
    const books *b = ctx;

    return price_cost_nusd(&b->prices, model, tokens, sl_clock_wall_ms());
}

static sl_status open_limiter(books *b, const config *c, sl_err *err)
{
    limit_options o = { .models = b->models,
                        .model_count = c->limits.models_count,
                        .output_default = c->limits.output_default,
                        .cost_nusd = cost_nusd,
                        .cost_ctx = b };
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
                               .prices = b ? &b->prices : NULL,
                               .keep_days = c->usage.keep_days,
                               .only_read = only_read };
    sl_status status;

    if (!b)
        return sl_fail(err, SL_ENOMEM, "ledger");
    status = make_prices(b, c, err);
    if (status == SL_OK)
        status = make_model_limits(b, c, err);
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
    if (!b)
        return;
    limit_close(b->limiter);
    ledger_close(b->ledger);
    sl_free(b->rows);
    sl_free(b->models);
    sl_free(b);
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
