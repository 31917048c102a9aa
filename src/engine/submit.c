/* submit.c - from a request to a job: prompts become tokens, limits are checked, memory is taken.
 * Runs on the caller's thread, so that the engine thread never tokenizes. */
#include "engine/engine_int.h"

#include "base/os.h"

#define DRAFT_SIZE_FIRST 4    /* tokens guessed at first */
#define SEQS_PER_JOB_MAX 2048 /* OpenAI's bound on embedding inputs; n times prompts too */

static bool begins_with(const char *text, size_t len, const char *prefix)
{
    size_t n = strlen(prefix);

    return n > 0 && len >= n && memcmp(text, prefix, n) == 0;
}

/* Tokens that prompt and output of a choice may have together. */
static int context_of(const engine *e, const llm_request *req)
{
    int max = e->enc ? e->w->params.context : e->o.context_max;

    return req->context_max > 0 ? SL_MIN(max, req->context_max) : max;
}

static sl_status take_ids(const engine *e, const int32_t *ids, size_t count, token_ids *out,
                          sl_err *err)
{
    int vocab = e->w ? e->w->params.vocab : (int)token_count(e->vocab);

    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return sl_fail(err, SL_EINVAL, "token id %d is outside the vocabulary of %d", ids[i],
                           vocab);
    if (!sl_grow((void **)&out->ids, &out->cap, count, sizeof *out->ids, SL_MODEL_CONTEXT_MAX))
        return sl_fail(err, SL_ENOMEM, "out of memory");
    memcpy(out->ids, ids, count * sizeof *out->ids);
    out->count = count;
    return SL_OK;
}

/* The tokens of a chat request: its messages through the template. */
sl_status chat_ids(const engine *e, const llm_request *req, token_ids *out, sl_err *err)
{
    unsigned flags = TOKEN_PARSE_SPECIAL;
    sl_buf text;
    sl_status status = SL_OK;

    sl_buf_init(&text, SL_TEMPLATE_OUTPUT_BYTES_MAX);
    out->count = 0;
    if (req->context_id_count > 0)
        status = take_ids(e, req->context_ids, req->context_id_count, out, err);
    if (status == SL_OK)
        status = engine_render(e, req, &text, err);
    /* Most templates write the BOS token themselves. */
    if (out->count == 0 && !begins_with(sl_buf_str(&text), text.len, e->bos))
        flags |= TOKEN_ADD_SPECIAL;
    if (status == SL_OK)
        status = token_encode(e->vocab, sl_buf_str(&text), text.len, flags, out, err);
    sl_buf_deinit(&text);
    return status;
}

static sl_status tokenize_prompt(const engine *e, const llm_request *req, const llm_prompt *p,
                                 token_ids *out, sl_err *err)
{
    if (p->text)
        return prefix_encode(
            e, req, p, req->no_special ? 0 : TOKEN_ADD_SPECIAL | TOKEN_PARSE_SPECIAL, out, err);
    return take_ids(e, p->ids, p->id_count, out, err);
}

/* ---- prompts that do not fit ----------------------------------------------------------------- */

/* Tokens a cut prompt may have: the context less what the answer needs, a quarter at most. */
static size_t room_of(const engine *e, const llm_request *req)
{
    int max = context_of(e, req);
    int64_t output = req->max_tokens < 0 ? max / 4 : SL_MIN(req->max_tokens, (int64_t)max / 4);

    return (size_t)SL_MAX(max - (e->enc ? 0 : (int)output), 1);
}

/* Leaves out the `drop` oldest messages that are no system messages. NULL: out of memory. */
static json_t *without_oldest(const json_t *messages, size_t drop)
{
    json_t *kept = json_array();

    for (size_t i = 0; kept && i < json_array_size(messages); i++) {
        json_t *m = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(m, "role"));

        if (drop > 0 && (!role || strcmp(role, "system") != 0)) {
            drop--;
            continue;
        }
        if (json_array_append(kept, m) != 0) {
            json_decref(kept);
            return NULL;
        }
    }
    return kept;
}

/* Tries the request without so many of its oldest messages. */
static sl_status try_without(const engine *e, llm_request *req, size_t drop, token_ids *out,
                             sl_err *err)
{
    json_t *all = req->messages;
    sl_status status;

    req->messages = without_oldest(all, drop);
    status = req->messages ? chat_ids(e, req, out, err) : sl_fail(err, SL_ENOMEM, "out of memory");
    json_decref(req->messages);
    req->messages = all;
    return status;
}

/* As few of the oldest messages go as must; the last one stays. What then still does not fit is
 * refused as it would be. */
static sl_status cut_chat(const engine *e, llm_request *req, token_ids *ids, sl_err *err)
{
    size_t room = room_of(e, req), low = 1, high = 0;

    for (size_t i = 0; i < json_array_size(req->messages); i++) {
        const char *role =
            json_string_value(json_object_get(json_array_get(req->messages, i), "role"));

        high += !role || strcmp(role, "system") != 0;
    }
    if (high < 2)
        return SL_OK;
    high--;
    while (low < high) {
        size_t mid = low + (high - low) / 2;

        SL_TRY(try_without(e, req, mid, ids, err));
        if (ids->count <= room)
            high = mid;
        else
            low = mid + 1;
    }
    return try_without(e, req, low, ids, err);
}

/* Encoders see the beginning, with the token that ends every text; decoders the end, with the
 * token that begins it. */
static void cut_ids(const engine *e, const llm_request *req, token_ids *ids)
{
    size_t room = room_of(e, req), gone = ids->count - room;

    if (e->enc)
        ids->ids[room - 1] = ids->ids[ids->count - 1];
    else
        memmove(ids->ids + 1, ids->ids + 1 + gone, (room - 1) * sizeof *ids->ids);
    ids->count = room;
}

static sl_status cut_prompt(const engine *e, llm_request *req, token_ids *ids, sl_err *err)
{
    if (!req->truncate || ids->count <= (size_t)context_of(e, req))
        return SL_OK;
    if (req->task == LLM_CHAT)
        return cut_chat(e, req, ids, err);
    cut_ids(e, req, ids);
    return SL_OK;
}

/* Drops the beginning of a prompt that is to be shorter. */
static void truncate_ids(const engine *e, const llm_request *req, token_ids *ids)
{
    int64_t keep = req->truncate_prompt_tokens;

    if (keep < 0)
        keep = SL_MAX(e->o.context_max - SL_MAX(req->max_tokens, 1), 1);
    if (keep == 0 || (uint64_t)keep >= ids->count)
        return;
    memmove(ids->ids, ids->ids + ids->count - (size_t)keep, (size_t)keep * sizeof *ids->ids);
    ids->count = (size_t)keep;
}

sl_status job_prompt_ids(const engine *e, const llm_request *req, size_t prompt, token_ids *out,
                         sl_err *err)
{
    if (req->task == LLM_CHAT)
        SL_TRY(chat_ids(e, req, out, err));
    else
        SL_TRY(tokenize_prompt(e, req, &req->prompts[prompt], out, err));
    truncate_ids(e, req, out);
    return SL_OK;
}

static sl_status check_sampling(const engine *e, const llm_request *req, sl_err *err)
{
    const llm_sampling *o = &req->sampling;
    int vocab = e->w->params.vocab;

    for (size_t i = 0; i < o->bias_count; i++)
        if (o->bias[i].token < 0 || o->bias[i].token >= vocab)
            return sl_fail(err, SL_EINVAL,
                           "logit_bias: token id %d is outside the vocabulary of %d",
                           o->bias[i].token, vocab);
    for (size_t i = 0; i < o->allowed_count; i++)
        if (o->allowed[i] < 0 || o->allowed[i] >= vocab)
            return sl_fail(err, SL_EINVAL,
                           "allowed_token_ids: token id %d is outside the vocabulary of %d",
                           o->allowed[i], vocab);
    return SL_OK;
}

/* ---- bad words ------------------------------------------------------------------------------- */

/* The tokens of a word, behind a space or not, as a run in the request's arena. */
static sl_status encode_word(const engine *e, llm_request *req, const char *word, bool spaced,
                             llm_token_run *ret, sl_err *err)
{
    token_ids ids = { 0 };
    int32_t *own = NULL;
    sl_status status;
    sl_buf text;

    word += strspn(word, " \t\r\n");
    sl_buf_init(&text, SL_STOP_BYTES_MAX + 2);
    sl_buf_puts(&text, spaced ? " " : "");
    sl_buf_puts(&text, word);
    status = sl_buf_ok(&text, "bad word", err);
    if (status == SL_OK)
        status =
            token_encode(e->vocab, sl_buf_str(&text), text.len, TOKEN_PARSE_SPECIAL, &ids, err);
    if (status == SL_OK && ids.count == 0)
        status = sl_fail(err, SL_EINVAL, "bad_words: '%s' has no tokens", word);
    if (status == SL_OK && !(own = sl_arena_alloc(&req->arena, ids.count * sizeof *own)))
        status = sl_fail(err, SL_ENOMEM, "request too large");
    if (status == SL_OK) {
        memcpy(own, ids.ids, ids.count * sizeof *own);
        *ret = (llm_token_run){ own, ids.count };
    }
    token_ids_deinit(&ids);
    sl_buf_deinit(&text);
    return status;
}

/* Both spellings of each word, as in vLLM: that behind a space counts only when it is another
 * token of a word of as many. */
static sl_status encode_bad_words(const engine *e, llm_request *req, sl_err *err)
{
    llm_sampling *o = &req->sampling;

    o->banned_count = 0;
    if (req->bad_word_count == 0)
        return SL_OK;
    o->banned = sl_arena_alloc(&req->arena, 2 * req->bad_word_count * sizeof *o->banned);
    if (!o->banned)
        return sl_fail(err, SL_ENOMEM, "request too large");
    for (size_t i = 0; i < req->bad_word_count; i++) {
        llm_token_run plain, spaced;

        SL_TRY(encode_word(e, req, req->bad_words[i], false, &plain, err));
        SL_TRY(encode_word(e, req, req->bad_words[i], true, &spaced, err));
        o->banned[o->banned_count++] = plain;
        if (spaced.count == plain.count && spaced.ids[0] != plain.ids[0])
            o->banned[o->banned_count++] = spaced;
    }
    return SL_OK;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

/* FNV-1a over the tokens up to each block's end: tells prompts apart that begin differently. */
static void hash_blocks(const int32_t *tokens, int blocks, uint64_t *ret)
{
    uint64_t h = 0xcbf29ce484222325ULL;

    for (int b = 0; b < blocks; b++) {
        for (int i = 0; i < SL_KV_BLOCK_TOKENS; i++)
            h = (h ^ (uint32_t)tokens[b * SL_KV_BLOCK_TOKENS + i]) * 0x100000001b3ULL;
        ret[b] = h;
    }
}

/* Room for the prompt and what may be generated. */
static sl_status seq_init(engine *e, seq *s, job *j, uint32_t choice, const token_ids *prompt,
                          sl_err *err)
{
    const llm_request *req = j->req;
    int64_t context = context_of(e, req);
    int64_t cap, max = req->max_tokens < 0 ? context : req->max_tokens;
    int prompt_count = (int)prompt->count;

    s->job = j;
    s->choice = choice;
    cap = seq_has_result(s) ? prompt_count : SL_MIN((int64_t)prompt_count + max, context);
    s->cap = (int)cap;
    s->prompt_count = s->count = prompt_count;
    sl_buf_init(&s->text, SL_TEMPLATE_OUTPUT_BYTES_MAX);
    s->tokens = sl_calloc((size_t)cap, sizeof *s->tokens);
    if (!s->tokens)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    memcpy(s->tokens, prompt->ids, prompt->count * sizeof *s->tokens);
    s->second = prompt_count;
    if (e->enc || req->task == LLM_EMBED) {
        s->vector = sl_calloc((size_t)encoder_width(e->w), sizeof *s->vector);
        if (!s->vector)
            return sl_fail(err, SL_ENOMEM, "out of memory");
    }
    if (e->enc)
        return SL_OK;
    s->tells_probs = req->prompt_probs && choice % req->n == 0;
    s->tells_ids = req->prompt_ids && choice % req->n == 0;
    s->needs_echo = req->echo || s->tells_probs;
    s->draft_size = DRAFT_SIZE_FIRST;
    s->rng = sampler_seed(req->sampling.seed, choice);
    s->vocab = e->vocab;
    token_decoder_init(&s->decoder, e->vocab, false, req->show_special);
    s->block_hashes =
        sl_calloc((size_t)prompt_count / SL_KV_BLOCK_TOKENS + 1, sizeof *s->block_hashes);
    if (!s->block_hashes)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    hash_blocks(s->tokens, prompt_count / SL_KV_BLOCK_TOKENS, s->block_hashes);
    return kv_seq_init(&s->kv, s->cap, 0, err);
}

static sl_status check_length(const engine *e, const llm_request *req, size_t count, sl_err *err)
{
    int max = context_of(e, req);

    if (count == 0)
        return sl_fail(err, SL_EINVAL, "the prompt is empty: it has no tokens");
    if (count > (size_t)max)
        return sl_fail(
            err, SL_ECONTEXT,
            "This model's maximum context length is %d tokens, but the prompt has %zu. Please "
            "shorten it.",
            max, count);
    return SL_OK;
}

static sl_status add_prompt(engine *e, job *j, size_t prompt, uint32_t n, const token_ids *ids,
                            sl_err *err)
{
    SL_TRY(check_length(e, j->req, ids->count, err));
    j->usage.prompt_tokens += (int64_t)ids->count;
    for (uint32_t i = 0; i < n; i++) {
        seq *s = &j->seqs[j->seq_count++];

        SL_TRY(seq_init(e, s, j, (uint32_t)prompt * n + i, ids, err));
    }
    return SL_OK;
}

/* A document and the query before it. */
static sl_status add_pair(engine *e, job *j, size_t at, sl_err *err)
{
    token_ids ids = { 0 };
    int second = 0;
    sl_status status =
        e->enc ? pair_ids(e, j->req, at, &ids, &second, err) : judge_ids(e, j->req, at, &ids, err);

    if (status == SL_OK)
        status = add_prompt(e, j, at, 1, &ids, err);
    if (status == SL_OK && e->enc)
        j->seqs[j->seq_count - 1].second = second;
    token_ids_deinit(&ids);
    return status;
}

static sl_status add_prompts(engine *e, job *j, sl_err *err)
{
    llm_request *req = j->req;
    bool pairs = req->task == LLM_RERANK;
    size_t prompts = req->task == LLM_CHAT ? 1 : req->prompt_count - pairs;
    uint32_t n = req->task == LLM_EMBED || pairs ? 1 : req->n;
    sl_status status = SL_OK;

    if (pairs && (req->prompt_count < 2 || (req->paired && req->prompt_count % 2)))
        return sl_fail(err, SL_EINVAL, "there are no documents to score");
    if (req->paired)
        prompts = req->prompt_count / 2;
    if (prompts == 0 || n == 0 || prompts > SEQS_PER_JOB_MAX / n)
        return sl_fail(err, SL_EINVAL, "%zu prompts with n = %u: their product must be 1 to %d",
                       prompts, n, SEQS_PER_JOB_MAX);
    j->seqs = sl_calloc(prompts * n, sizeof *j->seqs);
    if (!j->seqs)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    for (size_t p = 0; p < prompts && status == SL_OK; p++) {
        token_ids ids = { 0 };

        if (pairs) {
            status = add_pair(e, j, p, err);
            continue;
        }
        status = job_prompt_ids(e, req, p, &ids, err);
        if (status == SL_OK)
            status = cut_prompt(e, req, &ids, err);
        if (status == SL_OK)
            status = add_prompt(e, j, p, n, &ids, err);
        token_ids_deinit(&ids);
    }
    return status;
}

static sl_status check_task(const engine *e, const llm_request *req, sl_err *err)
{
    model_pool pool = e->w->params.pool;
    bool can = req->task == LLM_RERANK  ? pool == MODEL_POOL_RANK || pool == MODEL_POOL_NONE
               : req->task == LLM_EMBED ? pool != MODEL_POOL_RANK && pool != MODEL_POOL_NONE
                                        : pool == MODEL_POOL_NONE;

    if (can)
        return SL_OK;
    return sl_fail(err, SL_EINVAL, "The model '%s' cannot %s", e->name,
                   req->task == LLM_RERANK  ? "score documents"
                   : req->task == LLM_EMBED ? "make embeddings"
                                            : "generate text");
}

sl_status job_create(engine *e, llm_request *req, llm_sink sink, job **ret, sl_err *err)
{
    job *j;
    sl_status status;

    SL_TRY(check_task(e, req, err));
    SL_TRY(check_sampling(e, req, err));
    SL_TRY(encode_bad_words(e, req, err));
    if (!req->sampling.has_seed)
        sl_random_bytes(&req->sampling.seed, sizeof req->sampling.seed);
    j = sl_calloc(1, sizeof *j);
    if (!j)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    j->req = req;
    j->sink = sink;
    j->submitted_ns = sl_clock_mono_ns();
    status = add_prompts(e, j, err);
    if (status == SL_OK)
        *ret = j;
    else
        job_destroy(e, j);
    return status;
}

int64_t job_output_max(const job *j)
{
    int64_t sum = 0;

    for (int i = 0; i < j->seq_count; i++)
        sum += j->seqs[i].cap - j->seqs[i].prompt_count;
    return sum;
}

void job_destroy(engine *e, job *j)
{
    for (int i = 0; j->seqs && i < j->seq_count; i++) {
        seq *s = &j->seqs[i];

        if (e->pool)
            kv_seq_deinit(e->pool, &s->kv);
        sl_free(s->tokens);
        sl_free(s->block_hashes);
        sl_free(s->pending);
        sl_free(s->vector);
        sl_buf_deinit(&s->text);
    }
    sl_free(j->seqs);
    sl_free(j);
}
