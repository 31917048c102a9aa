/* judge.c - documents scored by a model that generates: it is asked whether the document answers
 * the query, and the odds of its next token being yes against no are the score.
 *
 * The question is that of the Qwen3 rerankers (Zhang et al. 2025), which were trained for it;
 * others understand it. docs/rerank.md shows it. */
#include "engine/engine_int.h"

#include <math.h>

#define QUESTION                                                                                   \
    "Judge whether the Document meets the requirements based on the Query and the Instruct "       \
    "provided. Note that the answer can only be \"yes\" or \"no\"."
#define INSTRUCT                                                                                   \
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"     \
    "<Query>: "

/* The token that a word is, -1 where it is none or several. */
static int32_t word_token(const engine *e, const char *word)
{
    token_ids ids = { 0 };
    sl_err err;
    int32_t id = -1;

    if (token_encode(e->vocab, word, strlen(word), 0, &ids, &err) == SL_OK && ids.count == 1 &&
        token_bytes(e->vocab, ids.ids[0], false).len >= strlen(word))
        id = ids.ids[0];
    token_ids_deinit(&ids);
    return id;
}

void judge_init(engine *e)
{
    static const char *const yes[JUDGE_WORDS] = { "yes", "Yes", " yes", " Yes" };
    static const char *const no[JUDGE_WORDS] = { "no", "No", " no", " No" };

    for (int i = 0; i < JUDGE_WORDS; i++) {
        e->yes[i] = word_token(e, yes[i]);
        e->no[i] = word_token(e, no[i]);
        for (int j = 0; j < i; j++) { /* vocabularies that put the space in front themselves */
            e->yes[i] = e->yes[j] == e->yes[i] ? -1 : e->yes[i];
            e->no[i] = e->no[j] == e->no[i] ? -1 : e->no[i];
        }
    }
}

static bool has_words(const int32_t *words)
{
    for (int i = 0; i < JUDGE_WORDS; i++)
        if (words[i] >= 0)
            return true;
    return false;
}

/* log of the sum of e^logit over the words. */
static double log_sum(const int32_t *words, const float *logits)
{
    double max = -INFINITY, sum = 0;

    for (int i = 0; i < JUDGE_WORDS; i++)
        if (words[i] >= 0)
            max = SL_MAX(max, (double)logits[words[i]]);
    for (int i = 0; i < JUDGE_WORDS; i++)
        if (words[i] >= 0)
            sum += exp((double)logits[words[i]] - max);
    return max + log(sum);
}

float judge_logit(const engine *e, const float *logits)
{
    return (float)(log_sum(e->yes, logits) - log_sum(e->no, logits));
}

/* The question about the first len bytes of a document; NULL: out of memory, or no UTF-8. */
static json_t *messages_of(const llm_prompt *query, const llm_prompt *document, size_t len)
{
    json_t *list = NULL, *user = NULL;
    sl_buf text;

    sl_buf_init(&text, SL_TEMPLATE_OUTPUT_BYTES_MAX);
    sl_buf_puts(&text, INSTRUCT);
    sl_buf_put(&text, query->text, query->text_len);
    sl_buf_puts(&text, "\n<Document>: ");
    sl_buf_put(&text, document->text, len);
    if (!text.failed)
        user = json_stringn(sl_buf_str(&text), text.len);
    sl_buf_deinit(&text);
    if (user)
        list = json_pack("[{s:s, s:s}, {s:s, s:o}]", "role", "system", "content", QUESTION, "role",
                         "user", "content", user);
    return list;
}

static sl_status ask(const engine *e, const llm_prompt *query, const llm_prompt *document,
                     size_t len, token_ids *out, sl_err *err)
{
    llm_request as = { .task = LLM_CHAT,
                       .messages = messages_of(query, document, len),
                       .template_vars = json_pack("{s:b}", "enable_thinking", 0) };
    sl_status status = SL_OK;

    if (!as.messages || !as.template_vars)
        status = sl_fail(err, SL_EINVAL, "query or document is no UTF-8 text");
    if (status == SL_OK)
        status = chat_ids(e, &as, out, err);
    json_decref(as.messages);
    json_decref(as.template_vars);
    return status;
}

sl_status judge_ids(const engine *e, const llm_request *req, size_t at, token_ids *out, sl_err *err)
{
    const llm_prompt *query = &req->prompts[req->paired ? 2 * at : 0];
    const llm_prompt *document = &req->prompts[req->paired ? 2 * at + 1 : at + 1];
    size_t len = document->text_len, max = (size_t)e->o.context_max;

    if (!has_words(e->yes) || !has_words(e->no))
        return sl_fail(err, SL_ENOTSUP, "The model '%s' has no tokens for yes and no to judge by",
                       e->name);
    if (!query->text || !document->text)
        return sl_fail(err, SL_EINVAL, "queries and documents to score must be texts");
    if (req->context_max > 0)
        max = SL_MIN(max, (size_t)req->context_max);
    SL_TRY(ask(e, query, document, len, out, err));
    while (req->truncate && out->count > max && len > 0) {
        /* A little more than the share that is too much, until it fits. */
        len = SL_MIN(len - 1, (size_t)((double)len * (double)max / (double)out->count * 0.95));
        while (len > 0 && ((unsigned char)document->text[len] & 0xc0) == 0x80)
            len--;
        SL_TRY(ask(e, query, document, len, out, err));
    }
    return SL_OK;
}
