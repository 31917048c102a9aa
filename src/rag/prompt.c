/* prompt.c - the request that a small chat model gets.
 *
 * Retrieved text and the question are data: nothing in them may look like a control token, like the
 * end of their passage or like a marker. The prompt is short because models of 100 million
 * parameters follow short ones only. */
#include "rag/rag_int.h"

#define ARENA_BYTES  (4 * SL_MIB)
#define PROMPT_BYTES (4 * SL_MIB)
#define TAG_BYTES    64 /* no vocabulary has a longer control token */
#define MARGIN       16 /* tokens; joints and what a template adds that render does not show */
#define CUT_MIN      64 /* bytes of a passage that are worth a prompt */

#define FREQUENCY_PENALTY 0.2f /* greedy small models repeat themselves for ever without */

/* A model that goes on with a question or a passage of its own has ended its answer. */
static const char *stops[] = { "\nQuestion:", "\nUsing the passages" };

static const char system_text[] =
    "You answer questions about the passages that the user gives. After each statement write the "
    "number of its passage, like [1].";

/* ---- foreign text -------------------------------------------------------------------------- */

/* "<...>" without spaces: the spelling of control tokens such as <|im_start|>, </s>, <bos>. */
static bool is_tag(const char *text, size_t len)
{
    for (size_t i = 1; i < len && i < TAG_BYTES; i++) {
        if (text[i] == '>')
            return true;
        if (text[i] == ' ' || text[i] == '\n' || text[i] == '\t')
            return false;
    }
    return false;
}

/* "[INST]", "[/INST]", "[CLS]": the other spelling. */
static bool is_bracket_tag(const char *text, size_t len)
{
    size_t i = len > 1 && text[1] == '/' ? 2 : 1;
    size_t begin = i;

    while (i < len && i < TAG_BYTES && ((text[i] >= 'A' && text[i] <= 'Z') || text[i] == '_'))
        i++;
    return i > begin && i < len && text[i] == ']';
}

/* "[12]" and "[1, 2]": the length, or 0. */
static size_t marker_len(const char *text, size_t len)
{
    size_t i = 1;
    bool has_digit = false;

    for (; i < len && i < TAG_BYTES; i++) {
        bool is_digit = text[i] >= '0' && text[i] <= '9';

        if (!is_digit && text[i] != ',' && text[i] != ' ' && text[i] != ';')
            break;
        has_digit = has_digit || is_digit;
    }
    return has_digit && i < len && text[i] == ']' ? i + 1 : 0;
}

void prompt_put_data(sl_buf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        const char *p = text + i;
        size_t rest = len - i, n;

        if ((*p == '<' && is_tag(p, rest)) || (*p == '[' && is_bracket_tag(p, rest))) {
            sl_buf_putc(out, *p);
            sl_buf_putc(out, ' ');
            i++;
        } else if (*p == '[' && (n = marker_len(p, rest)) > 0) {
            sl_buf_putc(out, '(');
            sl_buf_put(out, p + 1, n - 2);
            sl_buf_putc(out, ')');
            i += n;
        } else if (rest >= 3 && memcmp(p, "\"\"\"", 3) == 0) {
            sl_buf_puts(out, "'''");
            i += 3;
        } else {
            sl_buf_putc(out, *p);
            i++;
        }
    }
}

/* ---- the request --------------------------------------------------------------------------- */

typedef struct plan {
    size_t used;      /* passages */
    size_t first_len; /* bytes of the first one */
    bool is_merged;   /* instructions inside the user's message: some templates know no system */
} plan;

static void put_user(sl_buf *out, const llm_docs_query *q, const rag_hits *hits, const plan *p)
{
    if (p->is_merged)
        sl_buf_printf(out, "%s\n\n", system_text);
    /* The best passage stands next to the question: small models read that most faithfully. */
    for (size_t i = p->used; i-- > 0;) {
        const rag_hit *h = &hits->items[i];

        /* Neither title nor heading: small models recite those instead of answering. */
        sl_buf_printf(out, "[%zu] ", i + 1);
        prompt_put_data(out, h->text, i == 0 ? p->first_len : strlen(h->text));
        sl_buf_puts(out, "\n\n");
    }
    sl_buf_puts(out, "Using the passages above, answer in one or two sentences: ");
    prompt_put_data(out, q->question, strlen(q->question));
}

static sl_status make_request(const llm_docs_query *q, const rag_hits *hits, const plan *p,
                              llm_request **ret, sl_err *err)
{
    llm_request *req = llm_request_create(LLM_CHAT, ARENA_BYTES);
    json_t *user = NULL;
    sl_buf text;

    sl_buf_init(&text, PROMPT_BYTES);
    put_user(&text, q, hits, p);
    if (req && !text.failed)
        user = json_stringn(sl_buf_str(&text), text.len);
    sl_buf_deinit(&text);
    if (user && p->is_merged)
        req->messages = json_pack("[{s:s, s:o}]", "role", "user", "content", user);
    else if (user)
        req->messages = json_pack("[{s:s, s:s}, {s:s, s:o}]", "role", "system", "content",
                                  system_text, "role", "user", "content", user);
    if (req && req->messages && q->model)
        req->model = sl_arena_strndup(&req->arena, q->model, strlen(q->model));
    if (!req || !req->messages || (q->model && !req->model)) {
        llm_request_destroy(req);
        return sl_fail(err, SL_ENOMEM, "out of memory for the prompt");
    }
    req->caller = llm_caller_ref(q->caller);
    req->trace = q->trace;
    req->route = q->route ? q->route : "";
    if (q->request_id)
        snprintf(req->id, sizeof req->id, "%s", q->request_id);
    req->max_tokens = q->max_tokens;
    req->sampling.temperature = q->temperature;
    req->sampling.frequency_penalty = FREQUENCY_PENALTY;
    req->stops = stops;
    req->stop_count = SL_COUNT_OF(stops);
    *ret = req;
    return SL_OK;
}

/* ---- fitting ------------------------------------------------------------------------------- */

/* The text that the model will read, or the messages' texts when the backend cannot render. */
static sl_status render(const llm_backend *b, const llm_request *req, sl_buf *out, sl_err *err)
{
    size_t i;
    json_t *m;

    if (b->ops->render)
        return b->ops->render(b->ctx, req, out, err);
    json_array_foreach(req->messages, i, m)
        sl_buf_puts(out, json_string_value(json_object_get(m, "content")));
    return SL_OK;
}

static sl_status count_request(const llm_backend *b, const llm_request *req, size_t *ret,
                               sl_err *err)
{
    sl_buf text;
    sl_status status;

    sl_buf_init(&text, PROMPT_BYTES);
    status = render(b, req, &text, err);
    if (status == SL_OK)
        status = sl_buf_ok(&text, "prompt", err);
    if (status == SL_OK)
        status = rag_count_tokens(b, sl_buf_str(&text), text.len, ret, err);
    sl_buf_deinit(&text);
    return status;
}

/* A shorter beginning of the passage, whole sentences while there are several. */
static size_t shorten(const char *text, size_t len)
{
    size_t want = len * 3 / 4, best = 0;

    for (size_t at = 0, end; at < want; at = end) {
        end = chunk_sentence_end(text, len, at);
        if (end > want)
            break;
        best = end;
    }
    return best ? best : sl_utf8_complete(text, want);
}

/* Makes the plan smaller by one step; false when nothing is left to give up. */
static bool give_up_some(const rag_hits *hits, plan *p)
{
    if (p->used > 1) {
        p->used--;
        return true;
    }
    if (p->first_len < CUT_MIN)
        return false;
    p->first_len = shorten(hits->items[0].text, p->first_len);
    return true;
}

sl_status prompt_build(const llm_backend *b, const llm_docs_query *q, const rag_hits *hits,
                       llm_request **ret, size_t *ret_used, sl_err *err)
{
    plan p = { .used = hits->count, .first_len = strlen(hits->items[0].text) };
    llm_model_info info = { 0 };
    size_t room, tokens = 0;

    b->ops->info(b->ctx, &info);
    room = info.context_tokens > 0 ? (size_t)info.context_tokens : SIZE_MAX / 2;
    room -= SL_MIN((size_t)q->max_tokens, room / 2);
    do {
        llm_request *req = NULL;
        sl_status status = make_request(q, hits, &p, &req, err);

        if (status == SL_OK)
            status = count_request(b, req, &tokens, err);
        if (status == SL_OK && tokens + MARGIN <= room) {
            *ret = req;
            *ret_used = p.used;
            return SL_OK;
        }
        llm_request_destroy(req);
        if (status != SL_OK && p.is_merged)
            return status;
        if (status != SL_OK) {
            p.is_merged = true; /* perhaps the template knows no system message */
            continue;
        }
        if (!give_up_some(hits, &p))
            break;
    } while (true);
    return sl_fail(err, SL_ECONTEXT,
                   "the question and one passage have %zu tokens; the context of '%s' is %lld",
                   tokens, info.name, (long long)info.context_tokens);
}
