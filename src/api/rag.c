/* rag.c - questions to the documents, answered with citations.
 *
 * All of them run on the api's worker pool, because the document service blocks. A question that
 * streams begins its stream with the passages; whatever fails before them is a plain HTTP error. */
#include <stdio.h>

#include "api/api_int.h"
#include "api/fields.h"
#include "api/grounds.h"

#define TOP_K_MAX       64
#define ANSWER_MAX      (16 * SL_MIB)
#define NO_DOCS_MESSAGE "This server runs without a document service"

/* ---- questions ----------------------------------------------------------------------------- */

typedef struct question {
    api_note note; /* first: api_request_done reads it */
    api *a;
    http_exchange *x;
    bool stream, streaming;
    char id[48];
    sl_buf answer, passages, citations, left_out, record; /* lists without their brackets */
    sl_buf trace;                                         /* JSON */
    const char *rewritten;
    int64_t removed_markers;
    atomic_bool cancelled;
} question;

static void question_destroy(void *user)
{
    question *q = user;

    sl_buf_deinit(&q->answer);
    sl_buf_deinit(&q->passages);
    sl_buf_deinit(&q->citations);
    sl_buf_deinit(&q->left_out);
    sl_buf_deinit(&q->trace);
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

static void add_passage(sl_buf *list, const llm_passage *p)
{
    sl_buf_puts(list, list->len ? "," : "");
    grounds_put_passage(list, p);
}

static void put_list(sl_buf *out, const char *key, const sl_buf *list)
{
    sl_buf_printf(out, "\"%s\":[", key);
    sl_buf_put(out, sl_buf_str(list), list->len);
    sl_buf_putc(out, ']');
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
        add_passage(&q->passages, &passages[i]);
    if (!q->stream)
        return;
    sl_buf_printf(&q->record, "{\"id\":\"%s\",", q->id);
    if (q->rewritten) {
        put_field(&q->record, "question", q->rewritten);
        sl_buf_puts(&q->record, "\"rewritten\":true,");
    }
    put_list(&q->record, "passages", &q->passages);
    sl_buf_putc(&q->record, ',');
    put_list(&q->record, "left_out", &q->left_out);
    sl_buf_putc(&q->record, '}');
    send_record(q, "retrieval");
}

/* Comes before the passages; the text lives until the end of the query. */
static void on_rewrite(void *ctx, const char *text)
{
    question *q = ctx;

    q->rewritten = text;
}

static void on_left_out(void *ctx, const llm_passage *passages, size_t count)
{
    question *q = ctx;

    for (size_t i = 0; i < count; i++)
        add_passage(&q->left_out, &passages[i]);
}

static void on_report(void *ctx, const llm_docs_report *report)
{
    question *q = ctx;

    q->removed_markers = report->removed_markers;
    grounds_put_trace(&q->trace, report);
    api_count_grounds(q->a, q->note.model, report);
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
        add_passage(&q->citations, passage);
        return;
    }
    grounds_put_passage(&q->record, passage);
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

/* What ends both kinds of answers. */
static void put_end(const question *q, const llm_usage *u, sl_buf *out)
{
    sl_buf_printf(out, "\"removed_markers\":%lld,\"trace\":", (long long)q->removed_markers);
    sl_buf_puts(out, q->trace.len ? q->trace.ptr : "null");
    sl_buf_putc(out, ',');
    put_usage(out, u);
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
    sl_buf_putc(&b, ',');
    put_list(&b, "citations", &q->citations);
    sl_buf_putc(&b, ',');
    put_list(&b, "passages", &q->passages);
    sl_buf_putc(&b, ',');
    put_list(&b, "left_out", &q->left_out);
    sl_buf_putc(&b, ',');
    put_end(q, usage, &b);
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
        put_end(q, usage, &q->record);
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
    const char *mode;
    const json_t *messages;
    bool stream;
} query_call;

#define QUERY(member) IN_CALL(query_call, member)

/* A JSON value as it is, of the type that the rule's schema says. */
static sl_status take_tree(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    bool wants_list = strstr(rule->json_schema, "\"array\"") != NULL;

    if (wants_list ? !json_is_array(v) : !json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid type for '%s': expected an %s, but got %s", rule->name,
                             wants_list ? "array" : "object", json_kind(v));
    *(const json_t **)((char *)to->call + rule->at) = v;
    return SL_OK;
}

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
    { .name = "filters",
      .kind = FIELD_OTHER,
      QUERY(query.filters),
      .take = take_tree,
      .json_schema = "{\"type\":\"object\"}",
      .help = "OpenAI's comparison and compound filters over attributes" },
    { .name = "mode",
      .kind = FIELD_STR,
      QUERY(mode),
      .help = "best, lexical, dense, fused or reranked" },
    { .name = "threshold",
      .kind = FIELD_NUM,
      QUERY(query.threshold),
      .min = 0,
      .max = 1,
      .help = "least score of what is relevant; 0: the collection's" },
    { .name = "messages",
      .kind = FIELD_OTHER,
      QUERY(messages),
      .take = take_tree,
      .json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"object\"}}",
      .help = "the conversation before the question; without question the last one asks" },
    { .name = "rewrite",
      .kind = FIELD_BOOL,
      QUERY(query.rewrite),
      .help = "true: a follow-up that needs messages is made to stand alone" },
    { .name = "stream", .kind = FIELD_BOOL, QUERY(stream) },
};
static const body_schema query_body = { .name = "DocumentsQuery",
                                        .rules = query_rules,
                                        .count = SL_COUNT_OF(query_rules) };

/* The conversation into chat->messages, checked as that of a chat. The last user message is the
 * question where there is no other. */
static sl_status parse_messages(query_call *c, llm_request *chat, openai_error *err)
{
    size_t count = json_array_size(c->messages);
    const json_t *last;
    const char *role;

    if (count == 0)
        return SL_OK;
    SL_TRY(openai_take_messages(c->messages, chat, err));
    c->query.messages = chat->messages;
    last = json_array_get(chat->messages, count - 1);
    role = json_string_value(json_object_get(last, "role"));
    if (c->query.question || !role || strcmp(role, "user") != 0)
        return SL_OK;
    c->query.question =
        sl_arena_strndup(&chat->arena, json_string_value(json_object_get(last, "content")),
                         json_string_length(json_object_get(last, "content")));
    if (!c->query.question || json_array_remove(chat->messages, count - 1) != 0)
        return refuse_size(err);
    return SL_OK;
}

/* Texts are in the arena of chat. */
static sl_status parse_query(const json_t *root, llm_request *chat, query_call *ret,
                             openai_error *err)
{
    ret->query.rewrite = true;
    SL_TRY(
        body_read(&query_body, root, &(field_target){ .call = ret, .arena = &chat->arena }, err));
    if (!ret->query.question)
        ret->query.question = ret->other_name;
    if (ret->mode && !grounds_mode(ret->mode, &ret->query.mode))
        return openai_refuse(err, "mode", "invalid_value",
                             "Invalid 'mode': expected best, lexical, dense, fused or reranked");
    SL_TRY(parse_messages(ret, chat, err));
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
    sl_buf_init(&q->left_out, ANSWER_MAX);
    sl_buf_init(&q->trace, ANSWER_MAX);
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
    const llm_docs_sink sink = { .on_passages = on_passages,
                                 .on_delta = on_delta,
                                 .on_citation = on_citation,
                                 .on_done = on_done,
                                 .ctx = q,
                                 .on_rewrite = on_rewrite,
                                 .on_left_out = on_left_out,
                                 .on_report = on_report };
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
    llm_request *chat = llm_request_create(LLM_CHAT, OPENAI_ARENA_MAX);
    sl_span body = http_body(x);
    openai_error error = { 0 };
    query_call call = { 0 };
    json_t *root = NULL;
    question *q = chat ? question_create(a, x) : NULL;

    if (!q) {
        llm_request_destroy(chat);
        http_respond_error(x, 503, "server_error", NULL, NULL, "Out of memory");
        return;
    }
    if (parse_object((const char *)body.ptr, body.len, &root, &error) == SL_OK &&
        parse_query(root, chat, &call, &error) == SL_OK)
        ask(q, &call);
    else
        api_respond_error(a, x, &error);
    json_decref(root);
    llm_request_destroy(chat);
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

static void on_query(api *a, http_exchange *x)
{
    run_later(a, x, run_query);
}

static const api_endpoint endpoints[] = {
    { "POST", "/v1/rag/query", on_query, LLM_MAY_DOCS_READ, "Ask the documents", &query_body,
      .streams = true },
};
const api_endpoints rag_endpoints = { &openai_dialect, "Questions to documents", endpoints,
                                      SL_COUNT_OF(endpoints) };
