/* measure.c - sluice bench and perplexity: the decoder alone, without scheduler or service. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "cli/cli.h"
#include "engine/engine.h"

#define ROUNDS_MAX  100
#define BATCHES_MAX 16
#define STEP_TOKENS 512
#define ROWS_MAX    64
#define TOKENS_MAX  131072

/* A decoder with its pool, without an engine thread. */
typedef struct rig {
    model_file *file;
    token_vocab *vocab;
    team *team;
    kernels k;
    weights *w;
    decoder *dec;
    kv_pool *pool;
    double load_ms;
} rig;

static void rig_deinit(rig *r)
{
    decoder_destroy(r->dec);
    kv_pool_destroy(r->pool);
    weights_destroy(r->w);
    team_destroy(r->team);
    token_vocab_destroy(r->vocab);
    model_file_close(r->file);
}

/* tokens: what the pool must hold; context: the longest sequence. */
static sl_status rig_init(rig *r, const config *c, const char *model, size_t tokens, int context,
                          bool vocab, sl_err *err)
{
    const decoder_options o = { STEP_TOKENS, ROWS_MAX, context };
    int64_t start = sl_clock_mono_ns();
    kernels_kv kv;
    kv_shape shape;

    *r = (rig){ 0 };
    SL_TRY(app_open_model(c, model, &r->file, err));
    if (vocab)
        SL_TRY(engine_load_vocab(r->file, &r->vocab, err));
    SL_TRY(team_create(c->threads > 0 ? c->threads : sl_cpu_count(), &r->team, err));
    kernels_init(&r->k, engine_cpu());
    SL_TRY(weights_load(r->file, r->team, &r->w, err));
    SL_TRY(decoder_create(r->w, r->team, &r->k, &o, &r->dec, err));
    SL_TRY(engine_kv_type(c->kv.type, r->w, &r->k, &kv, err));
    shape = decoder_kv_shape(&r->w->params, kv);
    r->load_ms = (double)(sl_clock_mono_ns() - start) / 1e6;
    return kv_pool_create(
        shape, kv_bytes(shape, tokens / SL_KV_BLOCK_TOKENS + BATCHES_MAX * 64, INT32_MAX),
        INT32_MAX, &r->pool, err);
}

/* ---- bench -------------------------------------------------------------------------------------
 */

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

typedef struct result {
    const char *test; /* "prefill" or "decode" */
    int tokens, batch;
    int depth;                /* tokens that each sequence holds before */
    double rates[ROUNDS_MAX]; /* tokens per second, sorted */
    int rounds;
} result;

static double median(const result *r)
{
    return (r->rates[(r->rounds - 1) / 2] + r->rates[r->rounds / 2]) / 2;
}

/* Prefills `tokens` into s in steps; the last one gives logits. */
static void prefill(rig *r, kv_seq *s, const int32_t *ids, int tokens)
{
    for (int at = 0; at < tokens; at += STEP_TOKENS) {
        int count = SL_MIN(STEP_TOKENS, tokens - at);
        decoder_run run = { s, ids + at, count, at + count == tokens ? count - 1 : count };

        decoder_step(r->dec, r->pool, &run, 1);
    }
}

static sl_status run_test(rig *r, result *res, const int32_t *ids, sl_err *err)
{
    bool decode = res->test[0] == 'd';
    int context = res->depth + res->tokens + 1, seqs = decode ? res->batch : 1;
    kv_seq *s = sl_calloc((size_t)seqs, sizeof *s);
    decoder_run *runs = sl_calloc((size_t)seqs, sizeof *runs);
    sl_status status = s && runs ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");

    for (int i = 0; i < seqs && status == SL_OK; i++)
        status = kv_seq_init(&s[i], context, 0, err);
    /* One round more than counted: the first warms caches and wakes the threads. */
    for (int round = -1; round < res->rounds && status == SL_OK; round++) {
        int64_t start;

        for (int i = 0; i < seqs && status == SL_OK; i++) {
            if (round >= 0)
                kv_seq_truncate(&s[i], res->depth);
            else if (kv_seq_reserve(r->pool, &s[i], context))
                prefill(r, &s[i], ids + i, res->depth);
            else
                status = sl_fail(err, SL_ENOMEM, "the KV pool is too small for this test");
        }
        if (status != SL_OK)
            break;
        start = sl_clock_mono_ns();
        if (!decode)
            prefill(r, &s[0], ids, res->tokens);
        for (int t = 0; decode && t < res->tokens; t++) {
            for (int i = 0; i < seqs; i++)
                runs[i] = (decoder_run){ &s[i], ids + t + i, 1, 0 };
            decoder_step(r->dec, r->pool, runs, seqs);
        }
        if (round >= 0)
            res->rates[round] =
                (double)res->tokens * seqs / ((double)(sl_clock_mono_ns() - start) / 1e9);
    }
    qsort(res->rates, (size_t)res->rounds, sizeof *res->rates, compare_double);
    for (int i = 0; s && i < seqs; i++)
        if (s[i].blocks)
            kv_seq_deinit(r->pool, &s[i]);
    sl_free(s);
    sl_free(runs);
    return status;
}

static json_t *result_json(const result *r)
{
    json_t *rates = json_array();

    for (int i = 0; i < r->rounds; i++)
        json_array_append_new(rates, json_real(r->rates[i]));
    return json_pack("{s:s, s:i, s:i, s:i, s:f, s:f, s:f, s:o}", "test", r->test, "tokens",
                     r->tokens, "batch", r->batch, "depth", r->depth, "median_tokens_per_s",
                     median(r), "min_tokens_per_s", r->rates[0], "max_tokens_per_s",
                     r->rates[r->rounds - 1], "tokens_per_s", rates);
}

static void print_results(const rig *r, result *const *results, int count, bool json)
{
    if (json) {
        json_t *list = json_array(), *root;

        for (int i = 0; i < count; i++)
            json_array_append_new(list, result_json(results[i]));
        root = json_pack("{s:s, s:s, s:s, s:i, s:f, s:I, s:o}", "architecture",
                         r->w->params.arch_name, "quantization", model_file_quant(r->file), "isa",
                         r->k.isa, "threads", team_count(r->team), "load_ms", r->load_ms,
                         "weight_bytes", (json_int_t)r->w->bytes, "results", list);
        json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        putchar('\n');
        json_decref(root);
        return;
    }
    printf("%s %s, %s, %d threads, loaded in %.0f ms\n\n", r->w->params.arch_name,
           model_file_quant(r->file), r->k.isa, team_count(r->team), r->load_ms);
    printf("%-10s %7s %6s %14s %12s %12s\n", "test", "tokens", "batch", "median tok/s", "min",
           "max");
    for (int i = 0; i < count; i++)
        printf("%-10s %7d %6d %14.1f %12.1f %12.1f\n", results[i]->test, results[i]->tokens,
               results[i]->batch, median(results[i]), results[i]->rates[0],
               results[i]->rates[results[i]->rounds - 1]);
}

static int parse_batches(const char *text, int *ret)
{
    int count = 0;

    for (const char *p = text; *p && count < BATCHES_MAX;) {
        char *end;
        long n = strtol(p, &end, 10);

        if (end == p || n < 1 || n > ROWS_MAX || (*end && *end != ','))
            return -1;
        ret[count++] = (int)n;
        p = *end ? end + 1 : end;
    }
    return count;
}

/* What is to be measured. */
typedef struct bench_plan {
    int prompt, gen, depth, rounds;
    int batches[BATCHES_MAX], batch_count;
    bool json;
} bench_plan;

static sl_status bench(const config *c, const char *model, const bench_plan *p, sl_err *err)
{
    static result all[BATCHES_MAX + 1];
    result *list[BATCHES_MAX + 1];
    int context = p->depth + SL_MAX(p->prompt, p->gen) + 1, widest = 1, count = 0;
    int32_t *ids = sl_calloc((size_t)context + ROWS_MAX, sizeof *ids);
    rig r = { 0 };
    sl_status status = ids ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");

    for (int i = 0; i < p->batch_count && p->gen > 0; i++)
        widest = SL_MAX(widest, p->batches[i]);
    if (status == SL_OK)
        status = rig_init(&r, c, model, (size_t)widest * (size_t)(context + SL_KV_BLOCK_TOKENS),
                          context, false, err);
    for (int i = 0; status == SL_OK && i < context + ROWS_MAX; i++)
        ids[i] = (int32_t)((uint32_t)i * 2654435761u % (uint32_t)r.w->params.vocab);
    if (p->prompt > 0)
        all[count++] = (result){ .test = "prefill", .tokens = p->prompt, .batch = 1 };
    for (int i = 0; p->gen > 0 && i < p->batch_count; i++)
        all[count++] = (result){ .test = "decode", .tokens = p->gen, .batch = p->batches[i] };
    for (int i = 0; i < count && status == SL_OK; i++) {
        list[i] = &all[i];
        all[i].depth = p->depth;
        all[i].rounds = p->rounds;
        status = run_test(&r, &all[i], ids, err);
    }
    if (status == SL_OK)
        print_results(&r, list, count, p->json);
    sl_free(ids);
    rig_deinit(&r);
    return status;
}

int cmd_bench(int argc, char **argv)
{
    cli_common common = { 0 };
    const char *model = NULL, *batch_text = "1";
    bench_plan p = { .prompt = 512, .gen = 64, .rounds = 5 };
    const cli_option options[] = {
        { "--model", 'm', CLI_TEXT, &model, "MODEL", "model to measure" },
        { "--prompt", 'p', CLI_NUMBER, &p.prompt, "N", "prefill tokens; 0 skips (default 512)" },
        { "--gen", 'n', CLI_NUMBER, &p.gen, "N", "decode tokens; 0 skips (default 64)" },
        { "--depth", 'd', CLI_NUMBER, &p.depth, "N", "tokens in each sequence before (default 0)" },
        { "--batch", 'b', CLI_TEXT, &batch_text, "LIST",
          "sequences decoded at once, e.g. 1,8,16 (default 1)" },
        { "--rounds", 'r', CLI_NUMBER, &p.rounds, "N",
          "counted rounds after one warm-up (default 5)" },
        { "--json", 0, CLI_FLAG, &p.json, NULL, "every round as JSON" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice bench -m MODEL [-p 512] [-n 64] [-b 1,8,16] [-d 0] [-t 2] [-r 5] [--json]",
        "Measures prefill and decode speed in tokens per second.", options, NULL
    };
    config *c = NULL;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    p.batch_count = parse_batches(batch_text, p.batches);
    if (p.batch_count < 1)
        return cli_usage("-b takes numbers from 1 to %d, separated by commas", ROWS_MAX);
    if (p.rounds < 1 || p.rounds > ROUNDS_MAX)
        return cli_usage("-r takes 1 to %d", ROUNDS_MAX);
    if (SL_MIN(SL_MIN(p.prompt, p.gen), p.depth) < 0 ||
        SL_MAX(SL_MAX(p.prompt, p.gen), p.depth) > TOKENS_MAX)
        return cli_usage("-p, -n and -d take 0 to %d", TOKENS_MAX);
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK)
        status = bench(c, model, &p, &err);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}

/* ---- perplexity --------------------------------------------------------------------------------
 */

/* What a text tells of a model, over all scored tokens. */
typedef struct score {
    double nll;        /* sum of -log p(next) */
    double kl, kl_max; /* sum and largest of KL(reference || model) */
    long long tokens, same_top;
} score;

/* KL divergence of row `x` from the reference's row `r`, in nats; *same: both like the same token
 * best. */
static double row_kl(const rig *m, const float *r, const float *x, bool *same)
{
    int vocab = m->w->params.vocab;
    double kl = 0;
    float r_sum = sampler_log_sum(&m->k, r, vocab), x_sum = sampler_log_sum(&m->k, x, vocab);

    for (int i = 0; i < vocab; i++) {
        double p = exp((double)(r[i] - r_sum));

        kl += p * ((double)(r[i] - r_sum) - (double)(x[i] - x_sum));
    }
    *same = m->k.argmax(r, (size_t)vocab) == m->k.argmax(x, (size_t)vocab);
    return kl;
}

/* Scores the last step's rows, whose tokens are followed by next[rows]. */
static void score_rows(rig *m, rig *ref, const int32_t *next, int rows, score *s)
{
    for (int i = 0; i < rows; i++) {
        const float *logits = decoder_logits(m->dec, i);
        bool same = true;
        double kl = ref ? row_kl(m, decoder_logits(ref->dec, i), logits, &same) : 0;

        s->nll += (double)(sampler_log_sum(&m->k, logits, m->w->params.vocab) - logits[next[i]]);
        s->kl += kl;
        s->kl_max = SL_MAX(s->kl_max, kl);
        s->same_top += same;
        s->tokens++;
    }
}

/* One window: the first half is context, the second is scored, as llama.cpp's tool does. */
static void score_window(rig *m, rig *ref, kv_seq seqs[2], const int32_t *ids, int context,
                         score *s)
{
    int first = context / 2;

    for (int at = 0; at < context;) {
        int count = SL_MIN(at < first ? SL_MIN(STEP_TOKENS, first - at) : ROWS_MAX, context - at);
        decoder_run run = { &seqs[0], ids + at, count, at < first ? count : 0 };
        decoder_run again = run;

        decoder_step(m->dec, m->pool, &run, 1);
        if (ref) {
            again.seq = &seqs[1];
            decoder_step(ref->dec, ref->pool, &again, 1);
        }
        if (at >= first) /* the window's last token has no successor */
            score_rows(m, ref, ids + at + 1, at + count == context ? count - 1 : count, s);
        at += count;
    }
}

static void print_score(const score *s, bool has_ref, int windows, int context, size_t tokens,
                        bool json)
{
    double n = (double)s->tokens, ppl = exp(s->nll / n);

    if (json) {
        printf("{\"perplexity\":%.6f,\"windows\":%d,\"context\":%d,\"tokens\":%zu", ppl, windows,
               context, tokens);
        if (has_ref)
            printf(",\"kl_mean\":%.8f,\"kl_max\":%.6f,\"same_top\":%.6f", s->kl / n, s->kl_max,
                   (double)s->same_top / n);
        printf("}\n");
        return;
    }
    printf("perplexity %.4f over %d windows of %d tokens\n", ppl, windows, context);
    if (has_ref)
        printf(
            "KL divergence from the reference: mean %.6f, largest %.4f; same best token %.2f %%\n",
            s->kl / n, s->kl_max, 100.0 * (double)s->same_top / n);
}

static sl_status fill_seqs(rig *m, rig *ref, kv_seq seqs[2], int context, sl_err *err)
{
    for (int i = 0; i < (ref ? 2 : 1); i++) {
        kv_pool *pool = i == 0 ? m->pool : ref->pool;

        kv_seq_clear(pool, &seqs[i]);
        if (!kv_seq_reserve(pool, &seqs[i], context))
            return sl_fail(err, SL_ENOMEM, "the KV pool is too small");
    }
    return SL_OK;
}

static sl_status score_text(rig *m, rig *ref, token_ids *ids, int context, bool json, sl_err *err)
{
    int windows = (int)(ids->count / (size_t)context);
    kv_seq seqs[2] = { 0 };
    score s = { 0 };
    sl_status status = SL_OK;

    if (windows < 1)
        return sl_fail(err, SL_EINVAL, "the text has %zu tokens, one window needs %d", ids->count,
                       context);
    if (ref && ref->w->params.vocab != m->w->params.vocab)
        return sl_fail(err, SL_EINVAL, "the reference has %d tokens, the model %d",
                       ref->w->params.vocab, m->w->params.vocab);
    for (int i = 0; i < 2 && status == SL_OK; i++)
        status = kv_seq_init(&seqs[i], context, 0, err);
    for (int i = 0; i < windows && status == SL_OK; i++) {
        int32_t *window = ids->ids + (size_t)i * (size_t)context, saved = window[0];

        status = fill_seqs(m, ref, seqs, context, err);
        if (status != SL_OK)
            break;
        if (token_adds_bos(m->vocab))
            window[0] = token_bos(m->vocab);
        score_window(m, ref, seqs, window, context, &s);
        window[0] = saved;
        if (!json)
            fprintf(stderr, "[%d]%.4f,%s", i + 1, exp(s.nll / (double)s.tokens),
                    i + 1 == windows ? "\n" : "");
    }
    if (status == SL_OK)
        print_score(&s, ref != NULL, windows, context, ids->count, json);
    if (seqs[0].blocks)
        kv_seq_deinit(m->pool, &seqs[0]);
    if (seqs[1].blocks)
        kv_seq_deinit(ref ? ref->pool : m->pool, &seqs[1]);
    return status;
}

static sl_status perplexity(const config *c, const char *model, const char *reference,
                            const char *file, int context, bool json, sl_err *err)
{
    token_ids ids = { 0 };
    sl_buf text;
    rig m = { 0 }, ref = { 0 };
    sl_status status;

    sl_buf_init(&text, (size_t)1 << 30);
    status = file ? sl_file_read(file, (size_t)1 << 30, &text, err)
                  : sl_fail(err, SL_EINVAL, "which text? Give -f FILE");
    if (status == SL_OK)
        status = rig_init(&m, c, model, (size_t)context, context, true, err);
    if (status == SL_OK && reference)
        status = rig_init(&ref, c, reference, (size_t)context, context, false, err);
    if (status == SL_OK)
        status = token_encode(m.vocab, sl_buf_str(&text), text.len, TOKEN_ADD_SPECIAL, &ids, err);
    if (status == SL_OK)
        status = score_text(&m, reference ? &ref : NULL, &ids, context, json, err);
    token_ids_deinit(&ids);
    sl_buf_deinit(&text);
    rig_deinit(&m);
    rig_deinit(&ref);
    return status;
}

int cmd_perplexity(int argc, char **argv)
{
    cli_common common = { 0 };
    const char *model = NULL, *file = NULL, *reference = NULL;
    int context = 512;
    bool json = false;
    const cli_option options[] = {
        { "--model", 'm', CLI_TEXT, &model, "MODEL", "model to measure" },
        { "--file", 'f', CLI_TEXT, &file, "TEXT", "text to predict" },
        { "--context", 'c', CLI_NUMBER, &context, "N", "tokens in a window (default 512)" },
        { "--reference", 0, CLI_TEXT, &reference, "MODEL",
          "also the KL divergence from this one, such as the F16 file" },
        { "--json", 0, CLI_FLAG, &json, NULL, "the result as JSON" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice perplexity -m MODEL -f TEXT [-c 512] [--reference MODEL]",
        "Perplexity over windows whose second halves are scored: the windowing of\n"
        "llama-perplexity, so that figures compare.",
        options, NULL
    };
    config *c = NULL;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (context < 8 || context > 131072)
        return cli_usage("-c takes 8 to 131072");
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK)
        status = perplexity(c, model, reference, file, context, json, &err);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}
