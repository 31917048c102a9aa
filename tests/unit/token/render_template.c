/* render_template.c - renders templates for template_vs_jinja2.py.
 *
 * Reads one JSON object a line, {"template": ..., "vars": {...}, "now": seconds}, and answers each
 * with one line: {"out": ...} or {"error": ..., "status": n}. One process serves thousands of
 * cases. */
#include <stdio.h>
#include <stdlib.h>

#include "token/token.h"

static json_t *render(const json_t *job)
{
    const json_t *text = json_object_get(job, "template");
    token_template *t = NULL;
    sl_err err = { 0 };
    json_t *answer;
    sl_buf out;
    sl_status st;

    sl_buf_init(&out, (size_t)64 << 20);
    st = token_template_parse(json_string_value(text), json_string_length(text), &t, &err);
    if (st == SL_OK)
        st = token_template_render(t, json_object_get(job, "vars"),
                                   json_integer_value(json_object_get(job, "now")), &out, &err);
    if (st == SL_OK)
        answer = json_pack("{s:s%}", "out", sl_buf_str(&out), out.len);
    else
        answer = json_pack("{s:s,s:i}", "error", err.text, "status", (int)st);
    if (!answer)
        answer = json_pack("{s:s,s:i}", "error", "output is not UTF-8", "status", 0);
    token_template_destroy(t);
    sl_buf_deinit(&out);
    return answer;
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;

    while (getline(&line, &cap, stdin) > 0) {
        json_t *job = json_loads(line, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
        json_t *answer = render(job);

        json_dumpf(answer, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
        putchar('\n');
        fflush(stdout);
        json_decref(answer);
        json_decref(job);
    }
    free(line);
    return 0;
}
