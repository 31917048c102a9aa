/* rag.c - the document routes: add, list, remove, and questions with citations.
 *
 * All of them run on the api's worker pool, because the document service blocks. A question that
 * streams begins its stream with the passages; whatever fails before them is a plain HTTP error. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "api/api_int.h"
#include "api/fields.h"

#define NAME_BYTES_MAX  512
#define TOP_K_MAX       100
#define ANSWER_MAX      (16 * SL_MIB)
#define DEFAULT_NAME    "default"
#define NO_DOCS_MESSAGE "This server runs without a document service"

/* ---- adding -------------------------------------------------------------------------------- */

typedef struct adding {
    api *a;
    const char *collection; /* NULL: default */
    char collection_field[128];
    sl_buf out; /* JSON of the documents added, comma-joined */
    int count;
    openai_error error;
} adding;

static bool is_sane_name(const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < ' ')
            return false;
    return len > 0 && len <= NAME_BYTES_MAX && sl_utf8_valid(name, len);
}

static sl_status add_document(adding *w, const char *name, sl_span text, sl_err *err)
{
    const llm_docs *docs = &w->a->options.docs;
    int64_t chunks = 0;

    if (!is_sane_name(name))
        return sl_fail(err, SL_EINVAL, "a document needs a name of 1 to %d bytes", NAME_BYTES_MAX);
    if (!sl_utf8_valid((const char *)text.ptr, text.len))
        return sl_fail(err, SL_EINVAL, "document \"%.100s\" is not UTF-8 text", name);
    SL_TRY(docs->ops->add(docs->ctx, w->collection, name, text, &chunks, err));
    sl_buf_puts(&w->out, w->count++ ? "," : "");
    sl_buf_puts(&w->out, "{\"object\":\"rag.document\",\"name\":");
    sl_buf_put_json(&w->out, name, strlen(name));
    sl_buf_puts(&w->out, ",\"collection\":");
    sl_buf_put_json(&w->out, w->collection ? w->collection : DEFAULT_NAME,
                    strlen(w->collection ? w->collection : DEFAULT_NAME));
    sl_buf_printf(&w->out, ",\"bytes\":%zu,\"chunks\":%lld}", text.len, (long long)chunks);
    return SL_OK;
}

static sl_status find_collection(void *ctx, const http_part *part, sl_err *err)
{
    adding *w = ctx;

    if (strcmp(part->name, "collection") == 0 && part->body.len < sizeof w->collection_field) {
        memcpy(w->collection_field, part->body.ptr, part->body.len);
        w->collection_field[part->body.len] = '\0';
        w->collection = w->collection_field;
    }
    return SL_OK;
}

static sl_status add_part(void *ctx, const http_part *part, sl_err *err)
{
    if (!part->filename[0])
        return SL_OK;
    return add_document(ctx, part->filename, part->body, err);
}

static sl_status add_json(adding *w, sl_span body, sl_err *err)
{
    const char *name = NULL, *collection = NULL;
    json_t *root = NULL;
    const json_t *text;
    sl_status status;

    status = parse_object((const char *)body.ptr, body.len, &root, &w->error);
    if (status == SL_OK)
        status = take_str(root, field(root, "name") ? "name" : "document", &name, &w->error);
    if (status == SL_OK)
        status = take_str(root, "collection", &collection, &w->error);
    text = field(root, field(root, "text") ? "text" : "content");
    if (status == SL_OK && !name)
        status = openai_refuse(&w->error, "name", "missing_required_parameter",
                               "Missing required parameter: 'name'");
    if (status == SL_OK && !json_is_string(text))
        status = openai_refuse(&w->error, "text", "missing_required_parameter",
                               "Missing required parameter: 'text' (a string)");
    if (status != SL_OK) {
        sl_fail(err, status, "%s", w->error.message);
    } else {
        w->collection = collection ? collection : w->collection;
        status = add_document(w, name,
                              sl_span_of(json_string_value(text), json_string_length(text)), err);
        w->collection = NULL; /* its text goes with the tree */
    }
    json_decref(root);
    return status;
}

static bool type_is(const char *type, const char *wanted)
{
    return strncasecmp(type, wanted, strlen(wanted)) == 0;
}

static void run_add(api *a, http_exchange *x)
{
    const char *type = http_header(x, "content-type");
    const char *name = http_query(x, "name");
    adding w = { .a = a, .collection = http_query(x, "collection") };
    sl_err err = { .status = SL_EINTERNAL };
    bool is_list = false;
    sl_status status;

    sl_buf_init(&w.out, SL_MIB);
    type = type ? type : "";
    if (type_is(type, "multipart/form-data")) {
        is_list = true;
        status = http_multipart(type, http_body(x), find_collection, &w, &err);
        if (status == SL_OK)
            status = http_multipart(type, http_body(x), add_part, &w, &err);
        if (status == SL_OK && w.count == 0)
            status = sl_fail(&err, SL_EINVAL, "the form holds no file: send parts named 'file'");
    } else if (name && !type_is(type, "application/json")) {
        status = add_document(&w, name, http_body(x), &err);
    } else if (type_is(type, "text/")) {
        status = sl_fail(&err, SL_EINVAL, "a text body needs its name in the query: ?name=...");
    } else {
        status = add_json(&w, http_body(x), &err);
    }
    if (status == SL_OK) {
        sl_buf body;

        sl_buf_init(&body, 2 * SL_MIB);
        sl_buf_puts(&body, is_list ? "{\"object\":\"list\",\"data\":[" : "");
        sl_buf_put(&body, sl_buf_str(&w.out), w.out.len);
        sl_buf_puts(&body, is_list ? "]}" : "");
        http_respond(x, 200, "application/json", sl_buf_str(&body), body.len);
        sl_buf_deinit(&body);
    } else if (w.error.http) {
        api_respond_error(a, x, &w.error);
    } else {
        err.status = status;
        api_respond_status(a, x, &err);
    }
    sl_buf_deinit(&w.out);
}

/* ---- list and remove ----------------------------------------------------------------------- */

static void run_list(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    sl_err err = { .status = SL_EINTERNAL };
    json_t *list = NULL;
    sl_status status = docs->ops->list(docs->ctx, http_query(x, "collection"), &list, &err);
    json_t *root;
    char *text;

    if (status != SL_OK) {
        err.status = status;
        api_respond_status(a, x, &err);
        return;
    }
    root = json_pack("{s:s, s:o}", "object", "list", "data", list);
    text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    if (text)
        http_respond(x, 200, "application/json", text, strlen(text));
    else
        http_respond_error(x, 503, "server_error", NULL, NULL, "Out of memory");
    free(text);
    json_decref(root);
}

static void run_remove(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    const char *name = http_param(x, "name");
    sl_err err = { .status = SL_EINTERNAL };
    sl_status status = docs->ops->remove(docs->ctx, http_query(x, "collection"), name, &err);
    sl_buf b;

    if (status != SL_OK) {
        err.status = status;
        api_respond_status(a, x, &err);
        return;
    }
    sl_buf_init(&b, 64 * SL_KIB);
    sl_buf_puts(&b, "{\"object\":\"rag.document\",\"name\":");
    sl_buf_put_json(&b, name, strlen(name));
    sl_buf_puts(&b, ",\"deleted\":true}");
    http_respond(x, 200, "application/json", sl_buf_str(&b), b.len);
    sl_buf_deinit(&b);
}

/* ---- questions ----------------------------------------------------------------------------- */

typedef struct question {
    api_note note; /* first: api_request_done reads it */
    api *a;
    http_exchange *x;
    bool stream, streaming;
    char id[48];
    sl_buf answer, passages, citations, record;
    atomic_bool cancelled;
} question;

static void question_destroy(void *user)
{
    question *q = user;

    sl_buf_deinit(&q->answer);
    sl_buf_deinit(&q->passages);
    sl_buf_deinit(&q->citations);
    sl_buf_deinit(&q->record);
    api_content_destroy(q->note.content);
    sl_free(q);
}

static void on_close(void *ctx)
{
    question *q = ctx;

    atomic_store(&q->cancelled, true);
}

static void put_field(sl_buf *out, const char *key, const char *text)
{
    sl_buf_printf(out, "\"%s\":", key);
    sl_buf_put_json(out, text ? text : "", text ? strlen(text) : 0);
    sl_buf_putc(out, ',');
}

static void put_passage(sl_buf *out, const llm_passage *p)
{
    sl_buf_printf(out, "%s{\"number\":%d,", out->len ? "," : "", p->number);
    put_field(out, "document", p->document);
    put_field(out, "title", p->title);
    put_field(out, "heading", p->heading);
    sl_buf_printf(out, "\"start\":%lld,\"end\":%lld,", (long long)p->begin, (long long)p->end);
    put_field(out, "text", p->text);
    sl_buf_printf(out, "\"score\":%.6g}", p->score);
}

/* Writes q->record as one SSE record. */
static void send_record(question *q, const char *event)
{
    sl_buf b;

    if (!q->streaming) {
        q->streaming = true;
        http_stream_begin(q->x, 200, "text/event-stream; charset=utf-8");
    }
    sl_buf_init(&b, ANSWER_MAX);
    sl_buf_printf(&b, "event: %s\ndata: ", event);
    sl_buf_put(&b, sl_buf_str(&q->record), q->record.len);
    sl_buf_puts(&b, "\n\n");
    if (b.failed || !http_stream_write(q->x, b.ptr, b.len))
        atomic_store(&q->cancelled, true);
    sl_buf_deinit(&b);
    sl_buf_clear(&q->record);
}

static void on_passages(void *ctx, const llm_passage *passages, size_t count)
{
    question *q = ctx;

    for (size_t i = 0; i < count; i++)
        put_passage(&q->passages, &passages[i]);
    if (!q->stream)
        return;
    sl_buf_printf(&q->record, "{\"id\":\"%s\",\"passages\":[", q->id);
    sl_buf_put(&q->record, sl_buf_str(&q->passages), q->passages.len);
    sl_buf_puts(&q->record, "]}");
    send_record(q, "retrieval");
}

static const api_meter *meter_of(const question *q)
{
    return api_meter_of(q->a, q->note.model, http_route(q->x));
}

static void on_delta(void *ctx, const char *text, size_t len)
{
    question *q = ctx;

    api_content_answer(q->note.content, text, len);
    if (q->note.ttft_ms < 0) {
        q->note.ttft_ms = (double)(sl_clock_mono_ns() - http_started_ns(q->x)) / 1e6;
        api_meter_first_token(meter_of(q), q->note.ttft_ms / 1e3);
    }
    if (!q->stream) {
        sl_buf_put(&q->answer, text, len);
        return;
    }
    sl_buf_puts(&q->record, "{\"text\":");
    sl_buf_put_json(&q->record, text, len);
    sl_buf_putc(&q->record, '}');
    send_record(q, "delta");
}

static void on_citation(void *ctx, const llm_passage *passage)
{
    question *q = ctx;

    if (!q->stream) {
        put_passage(&q->citations, passage);
        return;
    }
    put_passage(&q->record, passage);
    send_record(q, "citation");
}

static void put_usage(sl_buf *out, const llm_usage *u)
{
    sl_buf_printf(out,
                  "\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,"
                  "\"total_tokens\":%lld}",
                  (long long)u->prompt_tokens, (long long)u->output_tokens,
                  (long long)(u->prompt_tokens + u->output_tokens));
}

static void answer_error(question *q, sl_status status, const sl_err *err)
{
    sl_err copy = { .status = status };
    openai_error e;

    if (err)
        copy = *err;
    copy.status = status;
    if (!q->streaming) {
        api_respond_status(q->a, q->x, &copy);
        return;
    }
    openai_error_from(&copy, LLM_CHAT, &e);
    openai_put_error(&q->record, &e);
    send_record(q, "error");
    http_stream_end(q->x);
}

static void answer_whole(question *q, const llm_usage *usage)
{
    sl_buf b;

    sl_buf_init(&b, 4 * ANSWER_MAX);
    sl_buf_printf(&b, "{\"id\":\"%s\",\"object\":\"rag.answer\",\"created\":%lld,", q->id,
                  (long long)(sl_clock_wall_ms() / 1000));
    put_field(&b, "model", q->note.model);
    sl_buf_puts(&b, "\"answer\":");
    sl_buf_put_json(&b, sl_buf_str(&q->answer), q->answer.len);
    sl_buf_puts(&b, ",\"citations\":[");
    sl_buf_put(&b, sl_buf_str(&q->citations), q->citations.len);
    sl_buf_puts(&b, "],\"passages\":[");
    sl_buf_put(&b, sl_buf_str(&q->passages), q->passages.len);
    sl_buf_puts(&b, "],");
    put_usage(&b, usage);
    sl_buf_putc(&b, '}');
    if (b.failed)
        http_respond_error(q->x, 500, "server_error", NULL, NULL, "The answer is too large");
    else
        http_respond(q->x, 200, "application/json", sl_buf_str(&b), b.len);
    sl_buf_deinit(&b);
}

static void on_done(void *ctx, sl_status status, const sl_err *err, const llm_usage *usage)
{
    question *q = ctx;
    llm_usage none = { 0 };

    usage = usage ? usage : &none;
    q->note.prompt_tokens = usage->prompt_tokens;
    q->note.output_tokens = usage->output_tokens;
    api_meter_done(meter_of(q),
                   status != SL_OK              ? API_OUTCOME_FAILED
                   : atomic_load(&q->cancelled) ? API_OUTCOME_CANCELLED
                                                : API_OUTCOME_OK,
                   usage, 1, (double)(sl_clock_mono_ns() - http_started_ns(q->x)) / 1e9);
    if (status != SL_OK) {
        answer_error(q, status, err);
    } else if (q->stream) {
        sl_buf_printf(&q->record, "{\"id\":\"%s\",", q->id);
        put_field(&q->record, "model", q->note.model);
        put_usage(&q->record, usage);
        sl_buf_putc(&q->record, '}');
        send_record(q, "done");
        http_stream_end(q->x);
    } else {
        answer_whole(q, usage);
    }
}

typedef struct query_call {
    llm_docs_query query;
    const char *other_name; /* of the question */
    bool stream;
} query_call;

#define QUERY(member) IN_CALL(query_call, member)

static const field_rule query_rules[] = {
    { .name = "question",
      .kind = FIELD_STR,
      QUERY(query.question),
      .help = "required, here or as query" },
    { .name = "query", .kind = FIELD_STR, QUERY(other_name), .help = "another name of question" },
    { .name = "collection", .kind = FIELD_STR, QUERY(query.collection), .help = "\"default\"" },
    { .name = "model", .kind = FIELD_STR, QUERY(query.model), .help = "which answers" },
    { .name = "top_k",
      .kind = FIELD_INT,
      QUERY(query.top_k),
      .min = 1,
      .max = TOP_K_MAX,
      .help = "passages shown to the model" },
    { .name = "max_tokens",
      .kind = FIELD_INT,
      QUERY(query.max_tokens),
      .min = 1,
      .max = INT32_MAX },
    { .name = "temperature", .kind = FIELD_NUM, QUERY(query.temperature), .min = 0, .max = 2 },
    { .name = "search_only",
      .kind = FIELD_BOOL,
      QUERY(query.search_only),
      .help = "passages without an answer" },
    { .name = "stream", .kind = FIELD_BOOL, QUERY(stream) },
};
static const body_schema query_body = { .name = "DocumentsQuery",
                                        .rules = query_rules,
                                        .count = SL_COUNT_OF(query_rules) };

static sl_status parse_query(const json_t *root, sl_arena *arena, query_call *ret,
                             openai_error *err)
{
    SL_TRY(body_read(&query_body, root, &(field_target){ .call = ret, .arena = arena }, err));
    if (!ret->query.question)
        ret->query.question = ret->other_name;
    if (!ret->query.question || !ret->query.question[0])
        return openai_refuse(err, "question", "missing_required_parameter",
                             "Missing required parameter: 'question'");
    return SL_OK;
}

static question *question_create(api *a, http_exchange *x)
{
    question *q = sl_calloc(1, sizeof *q);

    if (!q)
        return NULL;
    q->a = a;
    q->x = x;
    q->note.ttft_ms = -1;
    atomic_init(&q->cancelled, false);
    sl_buf_init(&q->answer, ANSWER_MAX);
    sl_buf_init(&q->passages, ANSWER_MAX);
    sl_buf_init(&q->citations, ANSWER_MAX);
    sl_buf_init(&q->record, ANSWER_MAX);
    sl_random_id(q->id, sizeof q->id, "rag-", 12);
    http_set_user(x, q, question_destroy);
    return q;
}

/* The name that answer and metrics carry; "" when there is no such model: labels must not come from
 * callers. */
static void note_model(question *q, const char *model)
{
    const llm_backend *b = llm_chain_find(q->a->options.chain, model, LLM_CHAT);
    llm_model_info info = { 0 };

    if (b)
        b->ops->info(b->ctx, &info);
    snprintf(q->note.model, sizeof q->note.model, "%s", b && model && *model ? model : info.name);
}

static void ask(question *q, query_call *call)
{
    const llm_docs *docs = &q->a->options.docs;
    const llm_docs_sink sink = { on_passages, on_delta, on_citation, on_done, q };
    sl_err err = { .status = SL_EINTERNAL };
    sl_status status;

    q->stream = call->stream;
    note_model(q, call->query.model);
    call->query.cancelled = &q->cancelled;
    call->query.caller = api_caller(q->x);
    call->query.request_id = http_request_id(q->x);
    call->query.trace = *api_trace(q->x);
    call->query.route = http_route(q->x);
    q->note.content = api_content_create(q->a->options.log_content);
    api_content_ask_text(q->note.content, call->query.question);
    http_on_close(q->x, on_close, q);
    status = docs->ops->query(docs->ctx, &call->query, &sink, &err);
    if (status != SL_OK)
        answer_error(q, status, &err);
}

static void run_query(api *a, http_exchange *x)
{
    sl_span body = http_body(x);
    openai_error error = { 0 };
    query_call call = { 0 };
    json_t *root = NULL;
    question *q = question_create(a, x);
    sl_arena arena;

    if (!q) {
        http_respond_error(x, 503, "server_error", NULL, NULL, "Out of memory");
        return;
    }
    sl_arena_init(&arena, OPENAI_ARENA_MAX);
    if (parse_object((const char *)body.ptr, body.len, &root, &error) == SL_OK &&
        parse_query(root, &arena, &call, &error) == SL_OK)
        ask(q, &call);
    else
        api_respond_error(a, x, &error);
    json_decref(root);
    sl_arena_deinit(&arena);
}

/* ---- routes -------------------------------------------------------------------------------- */

static void run_later(api *a, http_exchange *x, api_task_fn fn)
{
    if (a->options.docs.ops)
        api_run_later(a, x, fn);
    else
        http_respond_error(x, 501, "invalid_request_error", NULL, "not_implemented",
                           NO_DOCS_MESSAGE);
}

static void on_add(api *a, http_exchange *x)
{
    run_later(a, x, run_add);
}

static void on_list(api *a, http_exchange *x)
{
    run_later(a, x, run_list);
}

static void on_remove(api *a, http_exchange *x)
{
    run_later(a, x, run_remove);
}

static void on_query(api *a, http_exchange *x)
{
    run_later(a, x, run_query);
}

static const api_endpoint endpoints[] = {
    { "POST", "/v1/rag/documents", on_add, LLM_MAY_DOCS_WRITE, "Add or replace a document" },
    { "GET", "/v1/rag/documents", on_list, LLM_MAY_DOCS_READ, "The documents there are" },
    { "DELETE", "/v1/rag/documents/{name...}", on_remove, LLM_MAY_DOCS_WRITE, "Remove a document" },
    { "POST", "/v1/rag/query", on_query, LLM_MAY_DOCS_READ, "Ask the documents", &query_body,
      .streams = true },
};
const api_endpoints rag_endpoints = { &openai_dialect, "Documents", endpoints,
                                      SL_COUNT_OF(endpoints) };
