/* json_guard.c - counts what a JSON body holds before it is parsed.
 *
 * A small body can name many values, and each costs the parser a hundred bytes; a deep one costs it
 * stack. One walk over the bytes bounds both. It does not judge the syntax: whatever is no JSON is
 * the parser's to refuse, and a miscount there only refuses it earlier. */
#include "api/fields.h"

#include "base/limits.h"

static sl_status refuse_limit(openai_error *err, const char *what, size_t max, size_t at)
{
    return openai_refuse(err, NULL, "json_too_large",
                         "The body's JSON has %s than %zu, the server's limit (byte %zu)", what,
                         max, at);
}

/* The byte behind the string that begins at body[at], its quote included. */
static size_t string_end(const char *body, size_t len, size_t at)
{
    for (at++; at < len && body[at] != '"'; at++)
        if (body[at] == '\\')
            at++;
    return at < len ? at + 1 : len;
}

sl_status json_guard(const char *body, size_t len, openai_error *err)
{
    size_t depth = 0, values = 1; /* each value but the first follows [ , or : */

    for (size_t i = 0; i < len;) {
        char c = body[i];

        if (c == '"') {
            size_t end = string_end(body, len, i);

            if (end - i > SL_JSON_STRING_BYTES_MAX)
                return refuse_limit(err, "a longer string", SL_JSON_STRING_BYTES_MAX, i);
            i = end;
            continue;
        }
        depth += c == '[' || c == '{';
        if (depth > SL_JSON_DEPTH_MAX)
            return refuse_limit(err, "deeper nesting", SL_JSON_DEPTH_MAX, i);
        if ((c == ']' || c == '}') && depth > 0)
            depth--;
        values += c == ',' || c == '[' || c == ':';
        if (values > SL_JSON_VALUES_MAX)
            return refuse_limit(err, "more values", SL_JSON_VALUES_MAX, i);
        i++;
    }
    return SL_OK;
}
