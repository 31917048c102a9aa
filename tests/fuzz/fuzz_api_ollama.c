/* fuzz_api_ollama.c - bodies of Ollama's routes; the first byte picks the route. An accepted
 * request must keep the bounds that the engine relies on, and its answer must be lines of JSON. */
#include "api/ollama.h"
#include "api/ollama_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_answer(const ollama_call *call)
{
    static const float vector[] = { 1, 0 };
    static const int32_t id = 1;
    llm_token token = { .chosen = { 1, -1, "a", 1 } };
    bool embeds = call->req->task == LLM_EMBED;
    llm_event events[] = {
        { .kind = LLM_EV_START, .prompt_ids = &id, .prompt_id_count = 1 },
        { .kind = LLM_EV_DELTA, .text = "a", .text_len = 1, .tokens = &token, .token_count = 1 },
        { .kind = LLM_EV_FINISH, .finish = LLM_FINISH_LENGTH },
        { .kind = LLM_EV_DONE },
    };
    ollama_encoder e;
    sl_buf b;

    SL_ASSERT(ollama_encoder_init(&e, call) == SL_OK);
    sl_buf_init(&b, OPENAI_ANSWER_MAX);
    ollama_encode(&e, &events[0], 1, &b);
    for (size_t i = 0; embeds && i < call->req->prompt_count; i++)
        ollama_encode(&e,
                      &(llm_event){ .kind = LLM_EV_EMBEDDING,
                                    .choice = (uint32_t)i,
                                    .vector = vector,
                                    .vector_len = 2 },
                      1, &b);
    for (size_t i = 1; !embeds && !call->req->load_only && i < 3; i++)
        ollama_encode(&e, &events[i], 1, &b);
    ollama_encode(&e, &events[3], 1, &b);
    SL_ASSERT(!b.failed);
    for (char *line = b.ptr, *end; *line; line = end + (*end != '\0')) {
        json_t *root;

        end = line + strcspn(line, "\n");
        root = json_loadb(line, (size_t)(end - line), 0, NULL);
        SL_ASSERT(root);
        json_decref(root);
    }
    sl_buf_deinit(&b);
    ollama_encoder_deinit(&e);
}

static void check_error(const openai_error *err)
{
    json_t *root;
    sl_buf b;

    SL_ASSERT(err->http >= 400);
    sl_buf_init(&b, 64 * SL_KIB);
    ollama_put_error(&b, err);
    root = json_loadb(sl_buf_str(&b), b.len, 0, NULL);
    SL_ASSERT(json_is_string(json_object_get(root, "error")));
    json_decref(root);
    sl_buf_deinit(&b);
}

static void try_manage(const body_schema *s, const char *body, size_t len)
{
    openai_error err = { 0 };
    ollama_manage m;
    sl_arena arena;

    sl_arena_init(&arena, OPENAI_ARENA_MAX);
    if (ollama_parse_manage(s, body, len, &arena, &m, &err) != SL_OK)
        check_error(&err);
    else
        SL_ASSERT(m.model || m.source);
    ollama_manage_deinit(&m);
    sl_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const body_schema *const manage[] = { &ollama_show_body, &ollama_pull_body,
                                                 &ollama_create_body, &ollama_copy_body,
                                                 &ollama_delete_body };
    unsigned route = size ? data[0] % 9u : 0;
    const char *body = size ? (const char *)data + 1 : "";
    openai_error err = { 0 };
    ollama_call call;

    size = size ? size - 1 : 0;
    if (route >= OLLAMA_KIND_COUNT) {
        try_manage(manage[route - OLLAMA_KIND_COUNT], body, size);
        return 0;
    }
    if (ollama_parse((ollama_kind)route, body, size, &call, &err) != SL_OK) {
        check_error(&err);
        return 0;
    }
    SL_ASSERT(call.req->prompt_count <= SL_PROMPTS_MAX);
    SL_ASSERT(call.req->stop_count <= SL_STOPS_MAX);
    SL_ASSERT(call.req->top_logprobs <= SL_TOP_LOGPROBS_MAX);
    SL_ASSERT(call.req->sampling.temperature >= 0);
    SL_ASSERT(call.req->sampling.top_k >= 0);
    SL_ASSERT(call.req->max_tokens >= -1);
    SL_ASSERT(call.req->context_max >= 0);
    check_answer(&call);
    llm_request_destroy(call.req);
    return 0;
}
