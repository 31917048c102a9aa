/* test_recipe.c - Modelfiles, Go templates, and the defaults that made models bring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "app/defaults.h"
#include "app/gotemplate.h"
#include "app/recipe.h"
#include "token/token.h"

/* ---- Modelfiles ---------------------------------------------------------------------------- */

static modelfile read_file(const char *text)
{
    modelfile f = { 0 };
    sl_err err = { 0 };

    if (modelfile_parse(text, strlen(text), &f, &err) != SL_OK)
        fail_msg("%s: %s", text, err.text);
    return f;
}

static void refuse_file(const char *text, const char *why)
{
    modelfile f = { 0 };
    sl_err err = { 0 };

    assert_int_equal(modelfile_parse(text, strlen(text), &f, &err), SL_EINVAL);
    if (!strstr(err.text, why))
        fail_msg("%s: '%s' does not say '%s'", text, err.text, why);
}

static void test_modelfile(void **state)
{
    modelfile f = read_file("# a comment\n\nfrom smollm2:latest  \r\nPARAMETER temperature 0.5\n"
                            "Parameter stop \"<|a b|>\"\nPARAMETER stop two\nPARAMETER num_ctx 99\n"
                            "SYSTEM \"\"\"\nYou are\n\"good\"\"\"\"\nTEMPLATE \"x{{ y }}\"\n"
                            "MESSAGE user Hi there\nMESSAGE assistant \"\"\"Hello\n\"\"\"\n"
                            "LICENSE one\nLICENSE two");
    json_t *stops = json_object_get(f.parameters, "stop");

    assert_string_equal(f.from, "smollm2:latest");
    assert_string_equal(f.system, "\nYou are\n\"good\"");
    assert_string_equal(f.template_text, "x{{ y }}");
    assert_float_equal(json_number_value(json_object_get(f.parameters, "temperature")), 0.5, 0);
    assert_int_equal(json_array_size(stops), 2);
    assert_string_equal(json_string_value(json_array_get(stops, 0)), "<|a b|>");
    assert_int_equal(json_integer_value(json_object_get(f.parameters, "num_ctx")), 99);
    assert_int_equal(json_array_size(f.messages), 2);
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(f.messages, 1), "content")), "Hello\n");
    assert_int_equal(json_array_size(f.licenses), 2);
    modelfile_deinit(&f);
}

static void test_modelfile_refused(void **state)
{
    refuse_file("", "no FROM");
    refuse_file("SYSTEM x\n", "no FROM");
    refuse_file("FROM a\n\nNOPE x\n", "line 3");
    refuse_file("FROM a\nADAPTER x\n", "ADAPTER");
    refuse_file("FROM a\nREQUIRES 0.1\n", "REQUIRES");
    refuse_file("FROM a\nPARAMETER nope 1\n", "nope");
    refuse_file("FROM a\nPARAMETER temperature hot\n", "line 2");
    refuse_file("FROM a\nPARAMETER top_k 1.5\n", "integer");
    refuse_file("FROM a\nPARAMETER top_p 2\n", "0 to 1");
    refuse_file("FROM a\nSYSTEM \"\"\"x\n", "closing");
    refuse_file("FROM a\nSYSTEM \"x\nLICENSE y\"", "closing");
    refuse_file("FROM a\nSYSTEM \"x\" y\n", "behind");
    refuse_file("FROM a\nMESSAGE boss x\n", "role");
    refuse_file("FROM\n", "no value");
    refuse_file("FROM a\xff\n", "UTF-8");
}

/* What /api/show tells makes the same model again. */
static void test_round_trip(void **state)
{
    json_t *manifest = json_pack("{s:s, s:s, s:{s:f, s:[s,s], s:i}, s:s, s:[{s:s, s:s}], s:[s]}",
                                 "name", "mine", "base", "smollm2", "parameters", "temperature",
                                 0.25, "stop", "a\nb", "c", "top_k", 7, "system", "say \"hi\"",
                                 "messages", "role", "user", "content", "x", "license", "MIT");
    modelfile f;
    sl_buf text;

    sl_buf_init(&text, 1 << 20);
    recipe_put_modelfile(manifest, "{{ .Prompt }}\n", &text);
    f = read_file(text.ptr);
    assert_string_equal(f.from, "smollm2");
    assert_string_equal(f.template_text, "{{ .Prompt }}\n");
    assert_string_equal(f.system, "say \"hi\"");
    assert_true(json_equal(f.parameters, json_object_get(manifest, "parameters")));
    assert_true(json_equal(f.messages, json_object_get(manifest, "messages")));
    assert_true(json_equal(f.licenses, json_object_get(manifest, "license")));
    modelfile_deinit(&f);
    sl_buf_deinit(&text);
    json_decref(manifest);
}

static void test_names(void **state)
{
    char name[129];

    assert_int_equal(recipe_name("smollm2:latest", name, NULL), SL_OK);
    assert_string_equal(name, "smollm2");
    assert_int_equal(recipe_name("a:v1", name, NULL), SL_OK);
    assert_string_equal(name, "a:v1");
    assert_int_equal(recipe_name("../a", name, NULL), SL_EINVAL);
    assert_int_equal(recipe_name("", name, NULL), SL_EINVAL);
    assert_int_equal(recipe_name("hf.co/a/b:Q4_0:latest", name, NULL), SL_OK);
    assert_string_equal(name, "hf.co/a/b:Q4_0");
    assert_int_equal(recipe_name("a/../b", name, NULL), SL_EINVAL);
    assert_int_equal(recipe_name("/etc/passwd", name, NULL), SL_EINVAL);
    assert_int_equal(recipe_name("a//b", name, NULL), SL_EINVAL);
    assert_int_equal(recipe_name("a/.b", name, NULL), SL_EINVAL);
    assert_int_equal(recipe_name("a/", name, NULL), SL_EINVAL);
    assert_int_equal(recipe_name("a+b", name, NULL), SL_EINVAL);
}

/* ---- templates ----------------------------------------------------------------------------- */

static void render(const char *go, const char *messages, const char *want)
{
    json_t *vars = json_object();
    token_template *t = NULL;
    sl_err err = { 0 };
    sl_buf jinja, out;

    sl_buf_init(&jinja, 1 << 20);
    sl_buf_init(&out, 1 << 20);
    json_object_set_new(vars, "messages", json_loads(messages, 0, NULL));
    json_object_set_new(vars, "tools", json_null());
    if (gotemplate_to_jinja(go, strlen(go), &jinja, &err) != SL_OK ||
        token_template_parse(sl_buf_str(&jinja), jinja.len, &t, &err) != SL_OK ||
        token_template_render(t, vars, 0, &out, &err) != SL_OK)
        fail_msg("%s: %s\n%s", go, err.text, sl_buf_str(&jinja));
    if (strcmp(sl_buf_str(&out), want) != 0)
        fail_msg("%s\n%s\ngave  '%s'\nnot   '%s'", go, jinja.ptr, sl_buf_str(&out), want);
    token_template_destroy(t);
    json_decref(vars);
    sl_buf_deinit(&jinja);
    sl_buf_deinit(&out);
}

#define S "{\"role\":\"system\",\"content\":\"S\"}"
#define U "{\"role\":\"user\",\"content\":\"U\"}"
#define A "{\"role\":\"assistant\",\"content\":\"A\"}"
#define V "{\"role\":\"user\",\"content\":\"V\"}"

static void test_old_templates(void **state)
{
    const char *chatml = "{{ if .System }}<s>system\n{{ .System }}</s>\n{{ end }}"
                         "{{ if .Prompt }}<s>user\n{{ .Prompt }}</s>\n{{ end }}<s>assistant\n"
                         "{{ .Response }}</s>\n";

    assert_true(gotemplate_is(chatml));
    render(chatml, "[" U "]", "<s>user\nU</s>\n<s>assistant\n");
    render(chatml, "[" S "," U "]", "<s>system\nS</s>\n<s>user\nU</s>\n<s>assistant\n");
    render(chatml, "[" S "," U "," A "," V "]",
           "<s>system\nS</s>\n<s>user\nU</s>\n<s>assistant\nA</s>\n<s>user\nV</s>\n<s>assistant\n");
    /* An answer to be continued stands last, without its end. */
    render(chatml, "[" U "," A "]", "<s>user\nU</s>\n<s>assistant\nA");
    /* Without .Response it comes at the end. */
    render("[INST] {{ .System }} {{ .Prompt }} [/INST]", "[" U "," A "," V "]",
           "[INST]  U [/INST]A[INST]  V [/INST]");
    /* The cut also reaches what stands behind the block that .Response is in. */
    render("{{ if .Prompt }}{{ .Prompt }}:{{ if true }}{{ .Response }}!{{ else }}?{{ end }};{{ end "
           "}}.",
           "[" U "," A "," V "]", "U:A!;.V:");
    render("{{- if .First }}\n  BOS {{ end }}\n\t{{- .Prompt }} {{ .Response -}}\n /",
           "[" U "," A "," V "]", "\n  BOS U A/V ");
}

static void test_new_templates(void **state)
{
    const char *t =
        "{{- if .System }}sys {{ .System }}\n{{ end }}\n"
        "{{- range $i, $_ := .Messages }}\n"
        "{{- $last := eq (len (slice $.Messages $i)) 1 -}}\n"
        "{{- if eq .Role \"user\" \"tool\" }}<u>{{ .Content }}{{ if $last }}<a>{{ end }}\n"
        "{{- else if eq .Role \"assistant\" }}<a>{{ .Content }}"
        "{{ if not $last }}</a>\n{{ end }}{{ end }}\n"
        "{{- end }}";

    render(t, "[" S "," U "," A "," V "]", "sys S\n<u>U<a>A</a>\n<u>V<a>");
    render(t, "[" U "," A "]", "<u>U<a>A");
    render("{{ range .Messages }}{{ .Role | json }}{{ else }}none{{ end }}", "[" U "," A "]",
           "\"user\"\"assistant\"");
    render("{{ range .Messages }}x{{ else }}none{{ end }}", "[]", "none");
    render("{{ $n := 0 }}{{ range $m := .Messages }}{{ $n = $m.Content }}{{ end }}{{ $n }}",
           "[" U "," V "]", "V");
    render("{{ with (index .Messages 0) }}{{ .Content }}{{ else }}-{{ end }}"
           "{{/* says 'nothing' }} */}}{{ (index .Messages 0).Role }}",
           "[" U "]", "Uuser");
    render("{{ if and (eq (index .Messages 0).Role \"user\") (gt (len .Messages) 0) }}yes{{ end }}"
           "{{ if or .Tools .System }}no{{ end }}{{ `it's \\n` }}",
           "[" U "]", "yesit's \\n");
}

static void refuse_template(const char *go, const char *why)
{
    sl_err err = { 0 };
    sl_buf jinja;

    sl_buf_init(&jinja, 1 << 20);
    assert_int_equal(gotemplate_to_jinja(go, strlen(go), &jinja, &err), SL_EINVAL);
    if (!strstr(err.text, why))
        fail_msg("%s: '%s' does not say '%s'", go, err.text, why);
    sl_buf_deinit(&jinja);
}

static void test_templates_refused(void **state)
{
    refuse_template("a\n{{ .Nope }}", "line 2");
    refuse_template("{{ if .System }}", "no end");
    refuse_template("{{ end }}", "end");
    refuse_template("{{ .System", "not closed");
    refuse_template("{{ define \"x\" }}{{ end }}", "define");
    refuse_template("{{ printf \"%d\" 1 }}", "printf");
    refuse_template("{{ . }}", "unknown variable");
    refuse_template("{{ $ }}", "no value");
    refuse_template("{{ (.System }}", "parenthesis");
    refuse_template("{{ .System .Prompt }}", "behind");
    assert_false(gotemplate_is("{% for m in messages %}{{ m.content }}{% endfor %}"));
    assert_false(gotemplate_is("{{ messages[0].content }}"));
    assert_true(gotemplate_is("{{- range .Messages }}{{ end }}"));
}

/* ---- defaults ------------------------------------------------------------------------------ */

static llm_request *request(const char *messages)
{
    llm_request *req = llm_request_create(LLM_CHAT, 1 << 20);

    assert_non_null(req);
    req->messages = json_loads(messages, 0, NULL);
    return req;
}

static const char *content_of(const llm_request *req, size_t i)
{
    return json_string_value(json_object_get(json_array_get(req->messages, i), "content"));
}

static void test_defaults(void **state)
{
    json_t *manifest = json_pack(
        "{s:{s:f, s:i, s:[s], s:i, s:i, s:i, s:i}, s:s, s:[o], s:s}", "parameters", "temperature",
        0.25, "top_k", 7, "stop", "X", "seed", 5, "num_predict", 9, "num_ctx", 77, "repeat_last_n",
        3, "system", "S", "messages", json_loads(A, 0, NULL), "template", "{{ .Prompt }}");
    model_defaults *d = model_defaults_create(manifest);
    llm_request *req = request("[" U "]");

    assert_non_null(d);
    assert_int_equal(model_defaults_apply(d, req, NULL), SL_OK);
    assert_float_equal(req->sampling.temperature, 0.25, 0);
    assert_int_equal(req->sampling.top_k, 7);
    assert_int_equal(req->sampling.penalty_last_n, 3);
    assert_true(req->sampling.has_seed && req->sampling.seed == 5);
    assert_int_equal(req->max_tokens, 9);
    assert_int_equal(req->context_max, 77);
    assert_string_equal(req->stops[0], "X");
    assert_int_equal(json_array_size(req->messages), 3);
    assert_string_equal(content_of(req, 0), "S");
    assert_string_equal(content_of(req, 1), "A");
    assert_string_equal(content_of(req, 2), "U");
    assert_non_null(strstr(req->chat_template, "{% for turn in"));
    llm_request_destroy(req);

    /* What the caller chose stays, also where it is the neutral value. */
    req = request("[" S "," U "]");
    req->given = LLM_GIVEN_TEMPERATURE | LLM_GIVEN_STOP;
    req->sampling.top_k = 4;
    req->max_tokens = 2;
    req->chat_template = "{{ mine }}";
    assert_int_equal(model_defaults_apply(d, req, NULL), SL_OK);
    assert_float_equal(req->sampling.temperature, 1, 0);
    assert_int_equal(req->sampling.top_k, 4);
    assert_int_equal(req->max_tokens, 2);
    assert_int_equal(req->stop_count, 0);
    assert_int_equal(json_array_size(req->messages), 3);
    assert_string_equal(content_of(req, 1), "A");
    assert_string_equal(req->chat_template, "{{ mine }}");
    llm_request_destroy(req);

    /* A dialect's own neutral values are not choices. */
    req = request("[" U "]");
    req->sampling.temperature = req->dialect.temperature = 0.8f;
    assert_int_equal(model_defaults_apply(d, req, NULL), SL_OK);
    assert_float_equal(req->sampling.temperature, 0.25, 0);
    llm_request_destroy(req);
    model_defaults_unref(d);
    json_decref(manifest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modelfile),         cmocka_unit_test(test_modelfile_refused),
        cmocka_unit_test(test_round_trip),        cmocka_unit_test(test_names),
        cmocka_unit_test(test_old_templates),     cmocka_unit_test(test_new_templates),
        cmocka_unit_test(test_templates_refused), cmocka_unit_test(test_defaults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
