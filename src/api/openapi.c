/* openapi.c - tables to OpenAPI 3.1. Written as text in one pass: the document is a list of lists.
 */
#include "api/openapi.h"

#include <ctype.h>
#include <stdio.h>

#include "llm/llm.h"

#define BODIES_MAX 128

typedef struct writer {
    sl_buf *out;
    const body_schema *bodies[BODIES_MAX]; /* named by a route so far */
    size_t body_count;
} writer;

static void put_str(sl_buf *out, const char *text)
{
    sl_buf_put_json(out, text, strlen(text));
}

/* ---- bodies -------------------------------------------------------------------------------- */

static const char *support_name(field_support s)
{
    static const char *const names[] = { "works", "no-effect", "refused", "refused" };

    return names[s];
}

static void put_number_schema(sl_buf *out, const field_rule *r)
{
    bool is_int = r->kind == FIELD_INT;

    sl_buf_printf(out, "{\"type\":[\"%s\",\"null\"]", is_int ? "integer" : "number");
    /* Bounds beyond what JSON readers count exactly say nothing. */
    if (r->min > -9e15)
        sl_buf_printf(out, ",\"minimum\":%.16g", r->min);
    if (r->max < 9e15)
        sl_buf_printf(out, ",\"maximum\":%.16g", r->max);
    sl_buf_putc(out, '}');
}

static void put_value_schema(sl_buf *out, const field_rule *r)
{
    switch (r->kind) {
    case FIELD_BOOL:
        sl_buf_puts(out, "{\"type\":[\"boolean\",\"null\"]}");
        break;
    case FIELD_INT:
    case FIELD_NUM:
        put_number_schema(out, r);
        break;
    case FIELD_STR:
        sl_buf_puts(out, "{\"type\":[\"string\",\"null\"]");
        if (r->max > 0)
            sl_buf_printf(out, ",\"maxLength\":%.0f", r->max);
        sl_buf_putc(out, '}');
        break;
    default:
        if (r->body)
            sl_buf_printf(out,
                          "{\"anyOf\":[{\"$ref\":\"#/components/schemas/%s\"},{\"type\":"
                          "\"null\"}]}",
                          r->body->name);
        else if (r->json_schema)
            sl_buf_printf(out, "{\"anyOf\":[%s,{\"type\":\"null\"}]}", r->json_schema);
        else
            sl_buf_puts(out, "{}");
    }
}

/* {"allOf":[schema],"description":...}: descriptions beside a schema of any shape. */
static void put_property(sl_buf *out, const field_rule *r)
{
    put_str(out, r->name);
    sl_buf_puts(out, ":{\"allOf\":[");
    if (r->support == FIELD_REFUSED)
        sl_buf_puts(out, "{\"type\":\"null\"}");
    else if (r->support == FIELD_REFUSED_TRUE)
        sl_buf_puts(out, "{\"enum\":[false,null,0,\"\"]}");
    else if (r->support == FIELD_NO_EFFECT)
        sl_buf_puts(out, "{}");
    else
        put_value_schema(out, r);
    sl_buf_printf(out, "],\"x-support\":\"%s\"", support_name(r->support));
    if (r->help) {
        sl_buf_puts(out, ",\"description\":");
        put_str(out, r->help);
    }
    sl_buf_putc(out, '}');
}

static void put_properties(sl_buf *out, const body_schema *s, bool *first)
{
    if (s->base)
        put_properties(out, s->base, first);
    for (size_t i = 0; i < s->count; i++) {
        sl_buf_puts(out, *first ? "" : ",");
        *first = false;
        put_property(out, &s->rules[i]);
    }
}

static void put_required(sl_buf *out, const body_schema *s, bool *first)
{
    if (s->base)
        put_required(out, s->base, first);
    for (size_t i = 0; i < s->count; i++) {
        if (!s->rules[i].required)
            continue;
        sl_buf_puts(out, *first ? ",\"required\":[" : ",");
        *first = false;
        put_str(out, s->rules[i].name);
    }
}

static void put_body(sl_buf *out, const body_schema *s)
{
    bool first = true;

    put_str(out, s->name);
    sl_buf_puts(out, ":{\"type\":\"object\",\"properties\":{");
    put_properties(out, s, &first);
    sl_buf_putc(out, '}');
    first = true;
    put_required(out, s, &first);
    sl_buf_puts(out, first ? "" : "]");
    sl_buf_printf(out, ",\"additionalProperties\":%s}", s->is_closed ? "false" : "true");
}

static void name_body(writer *w, const body_schema *s);

/* The bodies within a body: a few levels, as the tables are written. */
static void name_inner(writer *w, const body_schema *s)
{
    for (; s; s = s->base)
        for (size_t i = 0; i < s->count; i++)
            if (s->rules[i].body)
                name_body(w, s->rules[i].body);
}

static void name_body(writer *w, const body_schema *s)
{
    for (size_t i = 0; i < w->body_count; i++)
        if (w->bodies[i] == s)
            return;
    SL_ASSERT(w->body_count < BODIES_MAX);
    w->bodies[w->body_count++] = s;
    name_inner(w, s);
}

/* ---- operations ---------------------------------------------------------------------------- */

/* "/v1/models/{model...}" as OpenAPI writes it: "/v1/models/{model}". */
static void put_path(sl_buf *out, const char *pattern)
{
    sl_buf_putc(out, '"');
    for (const char *p = pattern; *p; p++) {
        if (strncmp(p, "...}", 4) == 0)
            p += 3;
        sl_buf_putc(out, *p);
    }
    sl_buf_putc(out, '"');
}

static void put_parameters(sl_buf *out, const char *pattern)
{
    const char *open = pattern;
    bool first = true;

    while ((open = strchr(open, '{'))) {
        size_t len = strcspn(++open, ".}");

        sl_buf_printf(out,
                      "%s{\"name\":\"%.*s\",\"in\":\"path\",\"required\":true,"
                      "\"schema\":{\"type\":\"string\",\"minLength\":1}}",
                      first ? ",\"parameters\":[" : ",", (int)len, open);
        first = false;
    }
    sl_buf_puts(out, first ? "" : "]");
}

static void put_good_answer(sl_buf *out, const api_endpoint *e)
{
    const char *type = e->answer ? e->answer : "application/json";

    sl_buf_puts(out, "\"200\":{\"description\":\"The answer\",\"content\":{");
    put_str(out, type);
    sl_buf_puts(out, ":{\"schema\":{}}");
    if (e->streams && strcmp(type, "application/x-ndjson") != 0)
        sl_buf_puts(out, ",\"text/event-stream\":{\"schema\":{}}");
    sl_buf_puts(out, "}}");
}

/* What can go wrong at a route of this kind; the body is the dialect's error. */
static void put_failures(sl_buf *out, const api_endpoint *e, const api_dialect *d)
{
    static const struct {
        int status;
        const char *text;
    } failures[] = {
        { 400, "The request is wrong; the error names the field" },
        { 401, "No key, or a wrong one" },
        { 403, "The key may not do this" },
        { 404, "No such model or object" },
        { 409, "It exists, or is in use" },
        { 413, "The body is too large" },
        { 422, "The request is wrong; the error names the field" },
        { 424, "Generation failed" },
        { 429, "A limit of the key is reached; see Retry-After" },
        { 500, "The server failed" },
        { 501, "Not set up on this server" },
        { 503, "Overloaded or starting; see Retry-After" },
        { 529, "Overloaded; see Retry-After" },
    };

    for (size_t i = 0; i < SL_COUNT_OF(failures); i++)
        sl_buf_printf(out,
                      ",\"%d\":{\"description\":\"%s\",\"content\":{\"application/json\":"
                      "{\"schema\":{\"$ref\":\"#/components/schemas/Error_%s\"}}}}",
                      failures[i].status, failures[i].text, d->name);
}

static void put_operation(writer *w, const api_endpoints *t, const api_endpoint *e)
{
    sl_buf *out = w->out;

    sl_buf_putc(out, '"');
    for (const char *m = e->method; *m; m++)
        sl_buf_putc(out, (char)tolower((unsigned char)*m));
    sl_buf_puts(out, "\":{\"tags\":[");
    put_str(out, t->title);
    sl_buf_puts(out, "],\"summary\":");
    put_str(out, e->summary);
    if (e->permission) {
        sl_buf_puts(out, ",\"security\":[{\"bearer\":[]},{\"apiKey\":[]}],\"x-permission\":");
        put_str(out, llm_permission_name(__builtin_ctz(e->permission)));
    } else {
        sl_buf_puts(out, ",\"security\":[]");
    }
    put_parameters(out, e->pattern);
    if (e->body) {
        name_body(w, e->body);
        sl_buf_printf(out,
                      ",\"requestBody\":{\"required\":true,\"content\":{\"application/json\":"
                      "{\"schema\":{\"$ref\":\"#/components/schemas/%s\"}}}}",
                      e->body->name);
    }
    sl_buf_puts(out, ",\"responses\":{");
    put_good_answer(out, e);
    put_failures(out, e, t->dialect);
    sl_buf_puts(out, "}}");
}

/* All operations of one path, of whichever table; each path stands where it is first met. */
static void put_path_item(writer *w, const api_endpoints *const *tables, size_t table_count,
                          const char *pattern)
{
    bool first = true;

    put_path(w->out, pattern);
    sl_buf_puts(w->out, ":{");
    for (size_t t = 0; t < table_count; t++)
        for (size_t i = 0; i < tables[t]->count; i++) {
            const api_endpoint *e = &tables[t]->list[i];

            if (strcmp(e->pattern, pattern) != 0)
                continue;
            sl_buf_puts(w->out, first ? "" : ",");
            first = false;
            put_operation(w, tables[t], e);
        }
    sl_buf_putc(w->out, '}');
}

static bool is_first(const api_endpoints *const *tables, size_t t, size_t i)
{
    const char *pattern = tables[t]->list[i].pattern;

    for (size_t tt = 0; tt <= t; tt++)
        for (size_t k = 0; k < (tt == t ? i : tables[tt]->count); k++)
            if (strcmp(tables[tt]->list[k].pattern, pattern) == 0)
                return false;
    return true;
}

static void put_paths(writer *w, const api_endpoints *const *tables, size_t table_count)
{
    bool first = true;

    sl_buf_puts(w->out, "\"paths\":{");
    for (size_t t = 0; t < table_count; t++)
        for (size_t i = 0; i < tables[t]->count; i++) {
            if (!is_first(tables, t, i))
                continue;
            sl_buf_puts(w->out, first ? "" : ",");
            first = false;
            put_path_item(w, tables, table_count, tables[t]->list[i].pattern);
        }
    sl_buf_putc(w->out, '}');
}

static void put_components(writer *w, const api_endpoints *const *tables, size_t table_count)
{
    sl_buf_puts(w->out,
                "\"components\":{\"securitySchemes\":{\"bearer\":{\"type\":\"http\",\"scheme\":"
                "\"bearer\"},\"apiKey\":{\"type\":\"apiKey\",\"in\":\"header\",\"name\":"
                "\"x-api-key\"}},\"schemas\":{");
    for (size_t t = 0; t < table_count; t++) {
        bool seen = false;

        for (size_t k = 0; k < t; k++)
            seen = seen || tables[k]->dialect == tables[t]->dialect;
        if (!seen)
            sl_buf_printf(w->out, "\"Error_%s\":{\"type\":\"object\"},", tables[t]->dialect->name);
    }
    for (size_t i = 0; i < w->body_count; i++) {
        sl_buf_puts(w->out, i ? "," : "");
        put_body(w->out, w->bodies[i]);
    }
    sl_buf_puts(w->out, "}}");
}

void openapi_write(const api_endpoints *const *tables, size_t table_count, const char *version,
                   sl_buf *out)
{
    writer w = { .out = out };

    sl_buf_puts(out, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"Sluice\",\"license\":{\"name\":"
                     "\"Apache-2.0\",\"identifier\":\"Apache-2.0\"},\"version\":");
    put_str(out, version);
    sl_buf_puts(out, "},\"servers\":[{\"url\":\"/\"}],");
    put_paths(&w, tables, table_count);
    sl_buf_putc(out, ',');
    put_components(&w, tables, table_count);
    sl_buf_putc(out, '}');
}
