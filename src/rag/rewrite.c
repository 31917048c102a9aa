/* rewrite.c - follow-ups: a question that leans on the conversation, made to stand alone.
 *
 * Only questions that look as if they needed it are rewritten, since a small model spoils what was
 * fine. What comes out is used when it is one line that has a word of the conversation; else the
 * question is searched for as it is, with the one before in front of it. */
#include <strings.h>

#include "rag/answer_int.h"

#define ARENA_BYTES   (4 * SL_MIB)
#define PROMPT_BYTES  (1 * SL_MIB)
#define TURNS_MAX     4   /* messages that are shown */
#define TURN_BYTES    600 /* of each of them */
#define ANSWER_TOKENS 64
#define ANSWER_BYTES  600
#define SHORT_WORDS   3 /* so few words are half a question */
#define SHORT_CJK     8

/* The whole prompt: the conversation stands between the two. */
static const char prompt_head[] = "Conversation:\n";
static const char prompt_tail[] =
    "\nWrite the last question again so that it can be understood without the conversation: put "
    "the names in that it refers to. Write only the question.\nLast question: ";

/* ---- whether ------------------------------------------------------------------------------- */

/* Words that point back, each with a space on both sides. */
static const char pointers[] =
    " it its it's they them their theirs this that these those he she him her his hers there then "
    "one ones both else also instead former latter same such so "
    "er sie es ihn ihm ihr ihre deren dessen das dies diese dieser dieses davon dazu damit dafür "
    "darin dort dann auch sonst "
    "il elle ils elles ce cela ça celui celle ceux y en lui leur eux aussi "
    "eso esto ese esa ellos ellas lo la también allí él ella su sus "
    "esso essa essi questo questa quello quella ciò anche lì "
    "isso isto ele ela eles elas também lá "
    "dat dit die deze hij zij ze daar ook "
    "to ten ta tego tam też on ona oni "
    "bu o onlar orada da "
    "nó đó này ấy vậy họ "
    "den det de där också han hon "
    "это он она они там тоже его её их ";

static const char *const cjk_pointers[] = {
    "它",   "他",   "她",   "这",   "那",   "其",   "此",   "呢",   "這", "それ", "これ",
    "あれ", "その", "この", "あの", "そこ", "ここ", "그것", "이것", "그", "저것"
};

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_mark(char c)
{
    return (unsigned char)c < 0x80 && strchr(".,;:!?\"()[]", c) && c;
}

static bool is_pointer(const char *word, size_t len)
{
    char key[40];

    if (len + 2 >= sizeof key)
        return false;
    key[0] = ' ';
    for (size_t i = 0; i < len; i++)
        key[i + 1] = (char)(word[i] >= 'A' && word[i] <= 'Z' ? word[i] + 32 : word[i]);
    key[len + 1] = ' ';
    key[len + 2] = '\0';
    return strstr(pointers, key) != NULL;
}

static bool has_cjk(const char *text, size_t *ret_count)
{
    uint32_t cp = 0;

    *ret_count = 0;
    for (size_t at = 0, n, len = strlen(text); at < len; at += n) {
        n = sl_utf8_decode(text + at, len - at, &cp);
        n = n ? n : 1;
        *ret_count += n > 1 && ((cp >= 0x3040 && cp <= 0x9fff) || (cp >= 0xac00 && cp <= 0xd7af));
    }
    return *ret_count > 0;
}

bool rewrite_is_needed(const char *question)
{
    size_t words = 0, cjk;

    if (has_cjk(question, &cjk)) {
        for (size_t i = 0; i < SL_COUNT_OF(cjk_pointers); i++)
            if (strstr(question, cjk_pointers[i]))
                return true;
        return cjk <= SHORT_CJK;
    }
    for (const char *p = question; *p;) {
        const char *begin;

        while (*p && (is_space(*p) || is_mark(*p)))
            p++;
        for (begin = p; *p && !is_space(*p) && !is_mark(*p);)
            p++;
        words += p > begin;
        if (p > begin && is_pointer(begin, (size_t)(p - begin)))
            return true;
    }
    return words <= SHORT_WORDS;
}

/* ---- the prompt ----------------------------------------------------------------------------- */

static const char *text_of(const json_t *message)
{
    const char *text = json_string_value(json_object_get(message, "content"));

    return text ? text : "";
}

static bool is_from(const json_t *message, const char *role)
{
    const char *is = json_string_value(json_object_get(message, "role"));

    return is && strcmp(is, role) == 0;
}

static void put_turns(sl_buf *out, const json_t *messages)
{
    size_t count = json_array_size(messages);

    for (size_t i = count > TURNS_MAX ? count - TURNS_MAX : 0; i < count; i++) {
        const json_t *m = json_array_get(messages, i);
        const char *text = text_of(m);
        size_t len = strlen(text);

        if (!is_from(m, "user") && !is_from(m, "assistant"))
            continue;
        sl_buf_puts(out, is_from(m, "user") ? "Question: " : "Answer: ");
        prompt_put_data(out, text, len > TURN_BYTES ? sl_utf8_complete(text, TURN_BYTES) : len);
        sl_buf_putc(out, '\n');
    }
}

static llm_request *make_request(const llm_docs_query *q)
{
    llm_request *req = llm_request_create(LLM_CHAT, ARENA_BYTES);
    sl_buf text;

    sl_buf_init(&text, PROMPT_BYTES);
    sl_buf_puts(&text, prompt_head);
    put_turns(&text, q->messages);
    sl_buf_puts(&text, prompt_tail);
    prompt_put_data(&text, q->question, strlen(q->question));
    if (req && !text.failed)
        req->messages = json_pack("[{s:s, s:s}]", "role", "user", "content", sl_buf_str(&text));
    sl_buf_deinit(&text);
    if (req && q->model)
        req->model = sl_arena_strndup(&req->arena, q->model, strlen(q->model));
    if (!req || !req->messages || !req->model) {
        llm_request_destroy(req);
        return NULL;
    }
    req->caller = llm_caller_ref(q->caller);
    req->trace = q->trace;
    req->route = q->route ? q->route : "";
    req->max_tokens = ANSWER_TOKENS;
    req->sampling.temperature = 0;
    return req;
}

/* ---- the result ----------------------------------------------------------------------------- */

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    (void)req;
    if (ev->kind == LLM_EV_DELTA && ev->choice == 0)
        sl_buf_put(ctx, ev->text, ev->text_len);
}

/* The first line without the quotes and labels that models put around it; false when it is none. */
static bool tidy_up(const sl_buf *said, char *out, size_t size)
{
    static const char *const labels[] = { "Last question:", "Question:", "Rewritten question:" };
    const char *p = sl_buf_str(said);
    size_t len;

    while (is_space(*p))
        p++;
    for (size_t i = 0; i < SL_COUNT_OF(labels); i++)
        if (strncasecmp(p, labels[i], strlen(labels[i])) == 0)
            p += strlen(labels[i]);
    while (is_space(*p) || *p == '"' || *p == '*')
        p++;
    len = strcspn(p, "\r\n");
    while (len > 0 && (is_space(p[len - 1]) || p[len - 1] == '"' || p[len - 1] == '*'))
        len--;
    if (len == 0 || len >= size)
        return false;
    memcpy(out, p, len);
    out[len] = '\0';
    return true;
}

/* The question with the one before in front of it: what can be said without understanding. */
static char *join_last(const llm_docs_query *q)
{
    const char *last = "";
    sl_buf both;
    char *text;

    for (size_t i = json_array_size(q->messages); i-- > 0 && !last[0];)
        if (is_from(json_array_get(q->messages, i), "user"))
            last = text_of(json_array_get(q->messages, i));
    if (!last[0])
        return NULL;
    sl_buf_init(&both, RAG_QUESTION_BYTES_MAX);
    sl_buf_printf(&both, "%s %s", last, q->question);
    text = sl_buf_steal(&both);
    sl_buf_deinit(&both);
    return text;
}

sl_status rewrite_question(const rag *r, const llm_docs_query *q, char **ret, sl_err *err)
{
    llm_request *req = make_request(q);
    char line[ANSWER_BYTES];
    sl_buf said, turns;
    sl_status status;

    *ret = NULL;
    if (!req)
        return sl_fail(err, SL_ENOMEM, "out of memory for the prompt");
    sl_buf_init(&said, PROMPT_BYTES);
    sl_buf_init(&turns, PROMPT_BYTES);
    status = rag_run(r, req, on_event, &said, q->cancelled, NULL, err);
    put_turns(&turns, q->messages);
    if (status == SL_OK && tidy_up(&said, line, sizeof line) && strcmp(line, q->question) != 0 &&
        cite_overlap(line, strlen(line), sl_buf_str(&turns), turns.len) > 0)
        *ret = sl_strdup(line);
    if (status == SL_OK && !*ret)
        *ret = join_last(q);
    sl_buf_deinit(&said);
    sl_buf_deinit(&turns);
    return status;
}
