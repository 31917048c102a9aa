/* modelfile.c - reads Modelfiles: instructions of one line each, or with a text between triple
 * quotes, and comments. */
#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "app/defaults.h"
#include "app/recipe.h"

#define MODELFILE_BYTES_MAX (4 * SL_MIB)

typedef struct reader {
    const char *at, *end;
    int line;
    modelfile *f;
    sl_err *err;
} reader;

static sl_status refuse(const reader *r, const char *what, const char *detail)
{
    return sl_fail(r->err, SL_EINVAL, "Modelfile line %d: %s%.120s", r->line, what, detail);
}

static void skip_blanks(reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t'))
        r->at++;
}

/* To the next instruction: over empty lines and comments. */
static void skip_lines(reader *r)
{
    bool comment = false;

    for (; r->at < r->end; r->at++) {
        if (*r->at == '\n') {
            r->line++;
            comment = false;
        } else if (*r->at == '#') {
            comment = true;
        } else if (!comment && !isspace((unsigned char)*r->at)) {
            return;
        }
    }
}

/* A word into out; empty when there is none. */
static void read_word(reader *r, char *out, size_t bytes)
{
    size_t n = 0;

    skip_blanks(r);
    while (r->at < r->end && !isspace((unsigned char)*r->at)) {
        if (n + 1 < bytes)
            out[n++] = *r->at;
        r->at++;
    }
    out[n] = '\0';
}

static sl_status keep_text(reader *r, const char *text, size_t len, const char **ret)
{
    if (!sl_utf8_valid(text, len) || memchr(text, '\0', len))
        return refuse(r, "the text is not UTF-8", "");
    *ret = sl_arena_strndup(&r->f->arena, text, len);
    return *ret ? SL_OK : sl_fail(r->err, SL_ENOMEM, "out of memory");
}

/* The text up to a closing quote. */
static sl_status read_quoted(reader *r, const char *quote, const char **ret)
{
    size_t len = strlen(quote);
    const char *from = r->at + len, *to = from, *newline;
    sl_status status;

    while (to < r->end && ((size_t)(r->end - to) < len || memcmp(to, quote, len) != 0)) {
        if (len == 1 && *to == '\n')
            break;
        to++;
    }
    if ((size_t)(r->end - to) < len || memcmp(to, quote, len) != 0)
        return refuse(r, "no closing ", quote);
    while (len == 3 && to + 3 < r->end && to[3] == '"')
        to++; /* a text that itself ends in a quote */
    status = keep_text(r, from, (size_t)(to - from), ret);
    while ((newline = memchr(from, '\n', (size_t)(to - from))) != NULL) {
        r->line++;
        from = newline + 1;
    }
    r->at = to + len;
    skip_blanks(r);
    if (status == SL_OK && r->at < r->end && *r->at != '\n' && *r->at != '\r')
        return refuse(r, "text behind the closing ", quote);
    return status;
}

/* What is left of the instruction. */
static sl_status read_value(reader *r, const char **ret)
{
    const char *from, *to;

    skip_blanks(r);
    if (r->end - r->at >= 3 && memcmp(r->at, "\"\"\"", 3) == 0)
        return read_quoted(r, "\"\"\"", ret);
    if (r->at < r->end && *r->at == '"')
        return read_quoted(r, "\"", ret);
    from = to = r->at;
    while (to < r->end && *to != '\n')
        to++;
    r->at = to;
    while (to > from && isspace((unsigned char)to[-1]))
        to--;
    if (to == from)
        return refuse(r, "the instruction has no value", "");
    return keep_text(r, from, (size_t)(to - from), ret);
}

static sl_status read_parameter(reader *r)
{
    modelfile *f = r->f;
    json_t *value = NULL, *have;
    const char *text;
    char name[64];
    sl_status status;

    read_word(r, name, sizeof name);
    SL_TRY(read_value(r, &text));
    status = model_parameter_parse(name, text, &value, r->err);
    if (status != SL_OK)
        return sl_err_prefix(r->err, SL_EINVAL, "Modelfile line %d", r->line);
    if (!f->parameters)
        f->parameters = json_object();
    have = json_object_get(f->parameters, name);
    if (!model_parameter_is_list(name))
        return json_object_set_new(f->parameters, name, value) == 0
                   ? SL_OK
                   : sl_fail(r->err, SL_ENOMEM, "out of memory");
    if (!have) {
        json_object_set_new(f->parameters, name, json_array());
        have = json_object_get(f->parameters, name);
    }
    if (json_array_size(have) >= SL_STOPS_MAX) {
        json_decref(value);
        return refuse(r, "too many texts of the parameter ", name);
    }
    return json_array_append_new(have, value) == 0 ? SL_OK
                                                   : sl_fail(r->err, SL_ENOMEM, "out of memory");
}

static sl_status read_message(reader *r)
{
    modelfile *f = r->f;
    const char *text;
    char role[32];

    read_word(r, role, sizeof role);
    if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0)
        return refuse(r, "MESSAGE needs a role, system, user or assistant, not ", role);
    SL_TRY(read_value(r, &text));
    if (!f->messages)
        f->messages = json_array();
    return json_array_append_new(f->messages,
                                 json_pack("{s:s, s:s}", "role", role, "content", text)) == 0
               ? SL_OK
               : sl_fail(r->err, SL_ENOMEM, "out of memory");
}

static sl_status read_license(reader *r)
{
    modelfile *f = r->f;
    const char *text;

    SL_TRY(read_value(r, &text));
    if (!f->licenses)
        f->licenses = json_array();
    return json_array_append_new(f->licenses, json_string(text)) == 0
               ? SL_OK
               : sl_fail(r->err, SL_ENOMEM, "out of memory");
}

static sl_status read_instruction(reader *r)
{
    modelfile *f = r->f;
    char word[32];

    read_word(r, word, sizeof word);
    if (strcasecmp(word, "FROM") == 0)
        return read_value(r, &f->from);
    if (strcasecmp(word, "TEMPLATE") == 0)
        return read_value(r, &f->template_text);
    if (strcasecmp(word, "SYSTEM") == 0)
        return read_value(r, &f->system);
    if (strcasecmp(word, "PARAMETER") == 0)
        return read_parameter(r);
    if (strcasecmp(word, "MESSAGE") == 0)
        return read_message(r);
    if (strcasecmp(word, "LICENSE") == 0)
        return read_license(r);
    if (strcasecmp(word, "ADAPTER") == 0)
        return refuse(r, "ADAPTER is not supported: adapters cannot be loaded yet", "");
    if (strcasecmp(word, "REQUIRES") == 0)
        return refuse(r, "REQUIRES is not supported: versions of Ollama mean nothing here", "");
    return refuse(r, "not an instruction: ", word);
}

sl_status modelfile_parse(const char *text, size_t len, modelfile *ret, sl_err *err)
{
    modelfile f = { 0 };
    reader r = { .at = text, .end = text + len, .line = 1, .f = &f, .err = err };
    sl_status status = SL_OK;

    if (len > MODELFILE_BYTES_MAX)
        return sl_fail(err, SL_ELIMIT, "the Modelfile has %zu bytes; at most %zu are read", len,
                       MODELFILE_BYTES_MAX);
    sl_arena_init(&f.arena, 2 * MODELFILE_BYTES_MAX);
    for (skip_lines(&r); r.at < r.end && status == SL_OK; skip_lines(&r))
        status = read_instruction(&r);
    if (status == SL_OK && !f.from)
        status = sl_fail(err, SL_EINVAL, "the Modelfile has no FROM");
    if (status == SL_OK)
        *ret = f;
    else
        modelfile_deinit(&f);
    return status;
}

void modelfile_deinit(modelfile *f)
{
    json_decref(f->parameters);
    json_decref(f->messages);
    json_decref(f->licenses);
    sl_arena_deinit(&f->arena);
}
