/* test_engine.c - the team of compute threads, messages that the model is to go on with, the cache
 * of callers' templates. */
#include "engine/templates.h"
#include "tests_engine.h"

#include "engine/engine_int.h"

typedef struct counting {
    team *t;
    int phase[8];
} counting;

static void count_phases(void *ctx, int member, int count)
{
    counting *c = ctx;

    for (int p = 0; p < 50; p++) {
        c->phase[member] = p;
        team_barrier(c->t);
        for (int m = 0; m < count; m++)
            assert_int_equal(c->phase[m], p);
        team_barrier(c->t);
    }
}

static void test_team(void **state)
{
    sl_err err;

    (void)state;
    for (int count = 1; count <= 5; count += 2) {
        counting c = { 0 };

        assert_int_equal(team_create(count, &c.t, &err), SL_OK);
        for (int i = 0; i < 20; i++)
            team_run(c.t, count_phases, &c);
        team_destroy(c.t);
    }
    assert_int_equal(team_create(0, NULL, &err), SL_EINVAL);
}

/* ---- continue_final ------------------------------------------------------------------------ */

#define CHATML                                                                                     \
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"                    \
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
#define TRIMMED "{% for m in messages %}[{{ m.content | trim }}]{% endfor %}"

/* What the template makes of the messages; NULL: refused with SL_EINVAL. */
static void continues(const char *template_text, const char *messages, const char *want)
{
    static engine e; /* a model that has a template and nothing else */
    llm_request *req = llm_request_create(LLM_CHAT, SL_MIB);
    json_t *before;
    sl_err err = { 0 };
    sl_status status;
    sl_buf out;

    e = (engine){ .bos = "", .eos = "" };
    assert_int_equal(token_template_parse(template_text, strlen(template_text), &e.chat, &err),
                     SL_OK);
    req->messages = json_loads(messages, 0, NULL);
    req->continue_final = true;
    before = json_deep_copy(req->messages);
    sl_buf_init(&out, SL_MIB);
    sl_buf_puts(&out, "> ");
    status = engine_render(&e, req, &out, &err);
    assert_int_equal(status, want ? SL_OK : SL_EINVAL);
    if (want)
        assert_string_equal(sl_buf_str(&out) + 2, want);
    assert_true(json_equal(req->messages, before)); /* the caller's stay as they are */
    sl_buf_deinit(&out);
    json_decref(before);
    token_template_destroy(e.chat);
    llm_request_destroy(req);
}

#define TURNS(text)                                                                                \
    "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"" text "\"}]"

static void test_continue_final(void **state)
{
    (void)state;
    continues(CHATML, TURNS("so"), "<|user|>a<|end|><|assistant|>so");
    continues(CHATML, TURNS("so "), "<|user|>a<|end|><|assistant|>so ");
    continues(CHATML, TURNS(""), "<|user|>a<|end|><|assistant|>");
    continues(CHATML, TURNS("a<|end|>a"), "<|user|>a<|end|><|assistant|>a<|end|>a");
    continues(CHATML, TURNS("x<|sluice-continue|> y"),
              "<|user|>a<|end|><|assistant|>x<|sluice-continue|> y");
    continues(CHATML, "[{\"role\":\"user\",\"content\":\"b\"}]", "<|user|>b");
    continues(TRIMMED, TURNS("so"), "[a][so");
    continues(TRIMMED, TURNS(" so \\n"), "[a][so"); /* the template would have cut it off */
    continues("{{ messages[0].content }}", TURNS("so"), NULL);
    continues(CHATML, "[{\"role\":\"assistant\",\"content\":null}]", NULL);
    continues(CHATML, "[]", NULL);
}

/* ---- templates ------------------------------------------------------------------------------- */

static void test_templates(void **state)
{
    template_cache *c = template_cache_create();
    kept_template *first, *again, *other;
    char text[64];
    sl_buf out;
    sl_err err;

    (void)state;
    assert_int_equal(template_acquire(c, "{{ 'a' }}", &first, &err), SL_OK);
    assert_int_equal(template_acquire(c, "{{ 'a' }}", &again, &err), SL_OK);
    assert_ptr_equal(first, again);
    template_release(c, again);
    for (int i = 0; i < 40; i++) { /* pushes the first one out while it is in use */
        snprintf(text, sizeof text, "{{ %d }}", i);
        assert_int_equal(template_acquire(c, text, &other, &err), SL_OK);
        template_release(c, other);
    }
    sl_buf_init(&out, 1000);
    json_t *vars = json_object();

    assert_int_equal(token_template_render(template_of(first), vars, 0, &out, &err), SL_OK);
    assert_string_equal(sl_buf_str(&out), "a");
    template_release(c, first);
    assert_int_equal(template_acquire(c, "{{ x", &first, &err), SL_EINVAL);
    assert_non_null(strstr(err.text, "chat_template: "));
    assert_non_null(strstr(err.text, "line 1"));
    /* One that would take long is stopped soon. */
    assert_int_equal(template_acquire(c,
                                      "{% for i in range(3000) %}{% for j in range(3000) %}"
                                      "{% endfor %}{% endfor %}",
                                      &first, &err),
                     SL_OK);
    assert_int_equal(token_template_render(template_of(first), vars, 0, &out, &err), SL_ELIMIT);
    template_release(c, first);
    json_decref(vars);
    sl_buf_deinit(&out);
    template_cache_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_team),
                                        cmocka_unit_test(test_continue_final),
                                        cmocka_unit_test(test_templates) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
