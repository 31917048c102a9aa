/* fake_backend.c - see the header. One detached thread per request. */
#include "fake_backend.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "base/os.h"

#define STEP_NS 5000000

typedef struct run {
    fake_backend *f;
    llm_request *req;
    llm_sink sink;
} run;

static sl_status fake_render(void *ctx, const llm_request *req, sl_buf *out, sl_err *err);

static void nap(void)
{
    nanosleep(&(struct timespec){ 0, STEP_NS }, NULL);
}

static const char *script_of(const llm_request *req)
{
    json_t *last = json_array_get(req->messages, json_array_size(req->messages) - 1);
    const char *text = req->task == LLM_CHAT ? json_string_value(json_object_get(last, "content"))
                                             : req->prompts[0].text;

    return text ? text : "";
}

static void emit_token(run *r, uint32_t choice, int i, bool is_last)
{
    char text[32];
    llm_token_prob top[2];
    llm_token token = { .top = top, .top_count = (size_t)SL_MIN(r->req->top_logprobs, 2) };
    llm_event ev = { .kind = LLM_EV_DELTA, .choice = choice, .tokens = &token, .token_count = 1 };

    ev.text_len = (size_t)snprintf(text, sizeof text, "w%d ", i);
    ev.text = text;
    token.chosen = (llm_token_prob){ i, -0.5f * (float)(choice + 1), text, ev.text_len };
    token.is_last = is_last;
    top[0] = token.chosen;
    top[1] = (llm_token_prob){ 999, -2.0f, "\xe2\x82", 2 };
    r->sink.fn(r->sink.ctx, r->req, &ev);
}

/* The prompt's two tokens; the first has no logprob. */
static void emit_prompt(run *r, uint32_t choice)
{
    llm_token tokens[2] = {
        { .chosen = { 1, NAN, "<s>", 3, true }, .is_prompt = true },
        { .chosen = { 2, -1.5f, "p", 1 }, .is_prompt = true },
    };
    llm_event ev = { .kind = LLM_EV_DELTA, .choice = choice, .tokens = tokens, .token_count = 2 };

    if (!r->req->token_details) {
        ev.text = "p";
        ev.text_len = 1;
    }
    r->sink.fn(r->sink.ctx, r->req, &ev);
}

#define PIECE_BYTES 4

/* Says a text to all choices in pieces that cut markers. */
static void say(run *r, const char *text, llm_usage *usage)
{
    char piece[PIECE_BYTES];
    llm_event ev = { .kind = LLM_EV_DELTA, .text = piece };

    for (size_t at = 0, len = strlen(text); at < len; at += ev.text_len) {
        ev.text_len = SL_MIN(len - at, (size_t)PIECE_BYTES);
        for (size_t i = 0; i < ev.text_len; i++)
            piece[i] = (char)(text[at + i] == '{' ? '[' : text[at + i] == '}' ? ']' : text[at + i]);
        for (uint32_t c = 0; c < r->req->n; c++) {
            ev.choice = c;
            r->sink.fn(r->sink.ctx, r->req, &ev);
        }
        usage->output_tokens++;
    }
    for (uint32_t c = 0; c < r->req->n; c++)
        r->sink.fn(r->sink.ctx, r->req,
                   &(llm_event){ .kind = LLM_EV_FINISH, .choice = c, .finish = LLM_FINISH_STOP });
}

static bool say_script(run *r, const char *script, llm_usage *usage)
{
    const char *text = strstr(script, "SAY ");
    sl_buf all;

    if (r->req->task != LLM_CHAT || (!text && !strstr(script, "TELL")))
        return false;
    sl_buf_init(&all, SL_MIB);
    (void)fake_render(NULL, r->req, &all, NULL);
    say(r, text ? text + 4 : sl_buf_str(&all), usage);
    sl_buf_deinit(&all);
    return true;
}

static void generate(run *r, const char *script, llm_usage *usage)
{
    bool slow = strcmp(script, "slow") == 0, hang = strcmp(script, "hang") == 0;
    bool stops = r->req->stop_count > 0 && strcmp(script, "stop") == 0;
    int64_t count = r->req->max_tokens >= 0 ? r->req->max_tokens : (slow ? 100000 : 5);
    uint32_t choices = (uint32_t)(r->req->prompt_count ? r->req->prompt_count : 1) * r->req->n;

    if (say_script(r, script, usage))
        return;

    for (uint32_t c = 0; r->req->echo && c < choices; c++)
        emit_prompt(r, c);
    while (hang && !atomic_load(&r->req->cancelled))
        nap();
    for (int64_t i = 0; i < count && !atomic_load(&r->req->cancelled); i++) {
        for (uint32_t c = 0; c < choices; c++) {
            emit_token(r, c, (int)i, i + 1 == count);
            usage->output_tokens++;
        }
        if (slow)
            nap();
    }
    for (uint32_t c = 0; c < choices; c++) {
        llm_event ev = { .kind = LLM_EV_FINISH, .choice = c };

        ev.finish = atomic_load(&r->req->cancelled) ? LLM_FINISH_CANCELLED
                    : stops                         ? LLM_FINISH_STOP
                    : r->req->max_tokens >= 0       ? LLM_FINISH_LENGTH
                                                    : LLM_FINISH_STOP;
        ev.stop = stops ? r->req->stops[0] : NULL;
        r->sink.fn(r->sink.ctx, r->req, &ev);
    }
}

static void embed(run *r)
{
    for (size_t i = 0; i < r->req->prompt_count; i++) {
        float v[8];
        llm_event ev = { .kind = LLM_EV_EMBEDDING, .choice = (uint32_t)i };

        for (int k = 0; k < 8; k++)
            v[k] = k == (int)(r->req->prompts[i].text_len % 8) ? 0.8f : 0.6f / sqrtf(7);
        ev.vector = v;
        ev.vector_len = 8;
        r->sink.fn(r->sink.ctx, r->req, &ev);
    }
}

/* Words of the query that a document has, less 1; the last document comes first. */
static void rerank(run *r)
{
    size_t stride = r->req->paired ? 2 : 1, count = r->req->prompt_count / stride;

    for (size_t i = r->req->paired ? count : count - 1; i-- > 0;) {
        const char *query = r->req->prompts[r->req->paired ? 2 * i : 0].text;
        llm_event ev = { .kind = LLM_EV_SCORE, .choice = (uint32_t)i, .logit = -1 };

        for (size_t len; *query; query += len + strspn(query + len, " ")) {
            char word[64];

            len = strcspn(query, " ");
            snprintf(word, sizeof word, "%.*s", (int)len, query);
            ev.logit += strstr(r->req->prompts[i * stride + 1].text, word) != NULL;
        }
        ev.score = 1 / (1 + expf(-ev.logit));
        r->sink.fn(r->sink.ctx, r->req, &ev);
    }
}

static void emit_error(run *r, sl_status status, const char *text)
{
    llm_event ev = { .kind = LLM_EV_ERROR };

    sl_fail(&ev.error, status, "%s", text);
    r->sink.fn(r->sink.ctx, r->req, &ev);
}

static void *run_main(void *ctx)
{
    run *r = ctx;
    fake_backend *f = r->f;
    const char *script = script_of(r->req);
    llm_event start = { .kind = LLM_EV_START, .usage = { .prompt_tokens = 7 } };
    llm_event done = { .kind = LLM_EV_DONE, .usage = { .prompt_tokens = 7, .cached_tokens = 3 } };
    bool cancelled;

    if (strcmp(script, "early") == 0) {
        emit_error(r, SL_ECONTEXT, "9000 tokens do not fit the context of 4096 tokens");
    } else {
        r->sink.fn(r->sink.ctx, r->req, &start);
        if (r->req->task == LLM_EMBED) {
            embed(r);
        } else if (r->req->task == LLM_RERANK) {
            rerank(r);
        } else if (strcmp(script, "error") == 0) {
            emit_token(r, 0, 0, false);
            emit_error(r, SL_EINTERNAL, "the engine failed");
        } else {
            generate(r, script, &done.usage);
        }
    }
    cancelled = atomic_load(&r->req->cancelled);
    if (cancelled)
        atomic_fetch_add(&f->cancelled, 1);
    r->sink.fn(r->sink.ctx, r->req, &done);
    atomic_fetch_add(&f->finished, 1);
    sl_free(r);
    atomic_fetch_sub(&f->running, 1);
    return NULL;
}

static sl_status fake_submit(void *ctx, llm_request *req, llm_sink sink, sl_err *err)
{
    const char *script = script_of(req);
    pthread_t thread;
    run *r;

    /* "busy once ..." and "limit once ...": refused the first time and every other one. */
    if (strncmp(script, "busy once", 9) == 0 &&
        atomic_fetch_xor(&((fake_backend *)ctx)->refused, 1) == 0)
        return sl_fail(err, SL_EBUSY, "the queue is full (64 requests)");
    if (strncmp(script, "limit once", 10) == 0 &&
        atomic_fetch_xor(&((fake_backend *)ctx)->refused, 1) == 0)
        return sl_fail(err, SL_ERATE, "too many requests");
    if (strcmp(script, "busy") == 0)
        atomic_fetch_add(&((fake_backend *)ctx)->busy, 1);
    if (strcmp(script, "busy") == 0)
        return sl_fail(err, SL_EBUSY, "the queue is full (64 requests)");
    if (strcmp(script, "context") == 0)
        return sl_fail(err, SL_ECONTEXT,
                       "The prompt has 9000 tokens; the context of this model is 4096 tokens");
    SL_TRY(llm_admit(req, &(llm_demand){ 7, req->max_tokens >= 0 ? req->max_tokens : 5 }, err));
    r = sl_malloc(sizeof *r);
    if (!r)
        return sl_fail(err, SL_ENOMEM, "fake");
    *r = (run){ ctx, req, sink };
    atomic_fetch_add(&r->f->running, 1);
    if (pthread_create(&thread, NULL, run_main, r) != 0)
        return sl_fail(err, SL_ENOMEM, "fake");
    pthread_detach(thread);
    return SL_OK;
}

static void info_generate(void *ctx, llm_model_info *ret)
{
    *ret = (llm_model_info){ .name = "fake",
                             .can_generate = true,
                             .can_judge = true,
                             .context_tokens = 4096,
                             .created_s = 1700000000 };
}

static void info_rerank(void *ctx, llm_model_info *ret)
{
    *ret = (llm_model_info){ .name = "fake-rerank", .can_rerank = true, .context_tokens = 512 };
}

static void info_embed(void *ctx, llm_model_info *ret)
{
    *ret = (llm_model_info){ .name = "fake-embed",
                             .can_embed = true,
                             .context_tokens = 512,
                             .embedding_dim = 8,
                             .created_s = 1700000000 };
}

/* A token per byte, its value; 1 in front when asked. */
static sl_status fake_tokenize(void *ctx, const char *text, size_t len, unsigned flags,
                               int32_t *ids, size_t cap, size_t *ret_count, sl_err *err)
{
    size_t n = 0, extra = flags & LLM_ADD_SPECIAL ? 1 : 0;

    if (extra && n < cap)
        ids[n++] = 1;
    for (size_t i = 0; i < len && n < cap; i++)
        ids[n++] = (unsigned char)text[i];
    *ret_count = len + extra;
    return SL_OK;
}

static sl_status fake_detokenize(void *ctx, const int32_t *ids, size_t count, sl_buf *out,
                                 sl_err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 1 || ids[i] > 255)
            return sl_fail(err, SL_EINVAL, "token id %d is outside the vocabulary of 256", ids[i]);
        if (ids[i] == 1)
            sl_buf_puts(out, "<s>");
        else
            sl_buf_putc(out, (char)ids[i]);
    }
    return sl_buf_ok(out, "text", err);
}

/* "role:content;" per message, and "assistant:" where the answer is to begin. */
static sl_status fake_render(void *ctx, const llm_request *req, sl_buf *out, sl_err *err)
{
    size_t count = json_array_size(req->messages);

    for (size_t i = 0; i < count; i++) {
        const json_t *msg = json_array_get(req->messages, i);

        sl_buf_printf(out, "%s:%s%s", json_string_value(json_object_get(msg, "role")),
                      json_string_value(json_object_get(msg, "content")),
                      req->continue_final && i + 1 == count ? "" : ";");
    }
    if (!req->continue_final && !req->no_generation_prompt)
        sl_buf_puts(out, "assistant:");
    return sl_buf_ok(out, "messages", err);
}

static sl_status fake_tokenize_request(void *ctx, const llm_request *req, size_t prompt,
                                       int32_t *ids, size_t cap, size_t *ret_count, sl_err *err)
{
    sl_status status = SL_OK;
    sl_buf text;

    sl_buf_init(&text, SL_MIB);
    if (req->task == LLM_CHAT)
        status = fake_render(ctx, req, &text, err);
    else
        sl_buf_put(&text, req->prompts[prompt].text, req->prompts[prompt].text_len);
    if (status == SL_OK)
        status = fake_tokenize(ctx, sl_buf_str(&text), text.len,
                               req->no_special ? 0 : LLM_ADD_SPECIAL, ids, cap, ret_count, err);
    sl_buf_deinit(&text);
    return status;
}

const llm_backend_ops fake_ops = { .submit = fake_submit,
                                   .info = info_generate,
                                   .tokenize = fake_tokenize,
                                   .render = fake_render,
                                   .detokenize = fake_detokenize,
                                   .tokenize_request = fake_tokenize_request };
static const llm_backend_ops fake_embed_ops = { .submit = fake_submit, .info = info_embed };
static const llm_backend_ops fake_rerank_ops = { .submit = fake_submit, .info = info_rerank };

void fake_chain(fake_backend *f, llm_chain *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->routes[0] = (llm_route){ .name = "fake", .backend = { &fake_ops, f } };
    ret->routes[1] = (llm_route){ .name = "fake-embed", .backend = { &fake_embed_ops, f } };
    ret->routes[2] = (llm_route){ .name = "gpt-4o", .backend = { &fake_ops, f }, .is_alias = true };
    ret->routes[3] = (llm_route){ .name = "fake-rerank", .backend = { &fake_rerank_ops, f } };
    ret->route_count = 4;
}

bool fake_wait_idle(fake_backend *f)
{
    int64_t end_ns = sl_clock_mono_ns() + 5000000000;

    while (atomic_load(&f->running) > 0 && sl_clock_mono_ns() < end_ns)
        nap();
    return atomic_load(&f->running) == 0;
}

/* ---- documents ----------------------------------------------------------------------------- */

static sl_status docs_add(void *ctx, const char *collection, const char *name, sl_span text,
                          int64_t *ret_chunks, sl_err *err)
{
    *ret_chunks = 1 + (int64_t)text.len / 100;
    return SL_OK;
}

static sl_status docs_remove(void *ctx, const char *collection, const char *name, sl_err *err)
{
    return strcmp(name, "none") == 0 ? sl_fail(err, SL_ENOTFOUND, "no document \"none\"") : SL_OK;
}

static sl_status docs_list(void *ctx, const char *collection, json_t **ret, sl_err *err)
{
    *ret = json_pack("[{s:s,s:i,s:i,s:i}]", "name", "a.md", "bytes", 10, "chunks", 1, "updated", 1);
    return SL_OK;
}

static sl_status docs_query(void *ctx, const llm_docs_query *q, const llm_docs_sink *sink,
                            sl_err *err)
{
    llm_passage p = { .number = 1,
                      .document = "a.md",
                      .title = "A",
                      .text = "A passage.",
                      .begin = 0,
                      .end = 10,
                      .score = 0.9,
                      .heading = "A > B" };
    llm_usage usage = { .prompt_tokens = 20, .output_tokens = 3 };

    if (strcmp(q->question, "nothing") == 0)
        return sl_fail(err, SL_ENOTFOUND, "no such collection");
    sink->on_passages(sink->ctx, &p, 1);
    for (int i = 0; strcmp(q->question, "slow") == 0 && i < 100000; i++) {
        sink->on_delta(sink->ctx, "x", 1);
        nap();
        if (q->cancelled && atomic_load(q->cancelled)) {
            atomic_fetch_add(&((fake_backend *)ctx)->cancelled, 1);
            break;
        }
    }
    sink->on_delta(sink->ctx, "It is so [1].", 13);
    sink->on_citation(sink->ctx, &p);
    sink->on_done(sink->ctx, SL_OK, NULL, &usage);
    return SL_OK;
}

static json_t *document_json(const char *name, const char *collection, size_t bytes)
{
    return json_pack(
        "{s:s,s:s,s:s,s:s,s:n,s:I,s:I,s:s,s:i,s:s,s:n,s:s,s:{},s:n,s:i,s:i,s:n,s:i,s:i}", "id",
        "doc_1", "name", name, "collection_id", collection ? collection : "vs_default", "status",
        "completed", "error", "bytes", (json_int_t)bytes, "chunks", (json_int_t)(1 + bytes / 100),
        "type", "text/plain", "pages", 0, "title", name, "source", "trust", "untrusted",
        "attributes", "access", "created_at", 1, "updated_at", 1, "batch_id", "chunk_tokens", 180,
        "overlap_tokens", 30);
}

static sl_status document_add(void *ctx, const llm_document_spec *s, json_t **ret, sl_err *err)
{
    if (!sl_utf8_valid((const char *)s->bytes.ptr, s->bytes.len))
        return sl_fail(err, SL_EINVAL, "the document is not UTF-8");
    *ret = document_json(s->name, s->collection, s->bytes.len);
    return SL_OK;
}

static sl_status document_submit(void *ctx, const llm_document_spec *s, const char *batch,
                                 json_t **ret, sl_err *err)
{
    return document_add(ctx, s, ret, err);
}

static sl_status document_get(void *ctx, const llm_caller *who, const char *collection,
                              const char *document, json_t **ret, sl_err *err)
{
    if (strcmp(document, "a.md") != 0)
        return sl_fail(err, SL_ENOTFOUND, "there is no document '%.100s'", document);
    *ret = document_json(document, collection, 10);
    return SL_OK;
}

static sl_status document_list(void *ctx, const llm_caller *who, const char *collection,
                               const llm_docs_page *page, json_t **ret, sl_err *err)
{
    *ret = json_pack("{s:[o],s:b}", "data", document_json("a.md", collection, 10), "has_more", 0);
    return SL_OK;
}

static sl_status document_text(void *ctx, const llm_caller *who, const char *collection,
                               const char *document, sl_buf *out, sl_err *err)
{
    if (strcmp(document, "a.md") != 0)
        return sl_fail(err, SL_ENOTFOUND, "there is no document '%.100s'", document);
    sl_buf_puts(out, "A passage.");
    return SL_OK;
}

static sl_status document_remove(void *ctx, const llm_caller *who, const char *collection,
                                 const char *document, sl_err *err)
{
    return docs_remove(ctx, collection, document, err);
}

const llm_docs_ops fake_docs_ops = { .add = docs_add,
                                     .remove = docs_remove,
                                     .list = docs_list,
                                     .query = docs_query,
                                     .document_add = document_add,
                                     .document_submit = document_submit,
                                     .document_get = document_get,
                                     .document_list = document_list,
                                     .document_text = document_text,
                                     .document_remove = document_remove };
