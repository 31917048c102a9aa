/* log_line.c - the text of a line: JSON or for people, without secrets.
 *
 * The caller of a log line pays for this, so the usual cases take no printf: whole numbers, numbers
 * with three decimals, strings without anything to escape or to hide. */
#include "base/log_int.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HIDDEN "[redacted]"

/* ---- secrets ------------------------------------------------------------------------------- */

/* Fields whose whole value is hidden. */
static bool is_secret_key(const char *key)
{
    static const char *const names[] = {
        "authorization", "api_key", "apikey",        "x-api-key",          "password",
        "passwd",        "secret",  "token",         "access_token",       "refresh_token",
        "cookie",        "jwt",     "client_secret", "proxy-authorization"
    };

    static const bool begins[256] = {
        ['a'] = true, ['A'] = true, ['x'] = true, ['X'] = true, ['p'] = true, ['P'] = true,
        ['s'] = true, ['S'] = true, ['t'] = true, ['T'] = true, ['r'] = true, ['R'] = true,
        ['c'] = true, ['C'] = true, ['j'] = true, ['J'] = true
    };

    if (!begins[(unsigned char)key[0]])
        return false;
    for (size_t i = 0; i < SL_COUNT_OF(names); i++)
        if (strcasecmp(names[i], key) == 0)
            return true;
    return false;
}

static size_t token_len(const char *p)
{
    size_t n = 0;

    while (isalnum((unsigned char)p[n]) || (p[n] && strchr("-_.=+/~", p[n])))
        n++;
    return n;
}

/* "basic knowledge" is none. */
static bool looks_coded(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (isdigit((unsigned char)p[i]) || p[i] == '=')
            return true;
    return false;
}

/* What begins like a secret, and how much of a token must follow for it to be one. */
static const struct {
    const char *prefix;
    size_t shown, rest_min; /* bytes of the prefix that stay; of the token behind it, at least */
} marks[] = {
    { "bearer ", 7, 4 }, { "basic ", 6, 8 }, { "eyJ", 0, 17 }, /* a JSON object in base64 */
    { "sk-", 3, 13 },    { "sk_", 3, 13 },   { "hf_", 3, 17 },
    { "ghp_", 4, 20 },   { "xoxb-", 5, 10 }, { "AKIA", 4, 12 },
};

/* Length of the secret that begins at p, 0: none. *ret_shown: of it, how much may be seen. */
static size_t secret_at(const char *p, size_t *ret_shown)
{
    for (size_t i = 0; i < SL_COUNT_OF(marks); i++) {
        size_t len = strlen(marks[i].prefix), rest;
        bool is_scheme = marks[i].prefix[len - 1] == ' ';

        if ((is_scheme ? strncasecmp : strncmp)(p, marks[i].prefix, len) != 0)
            continue;
        rest = token_len(p + len);
        if (rest < marks[i].rest_min ||
            (strcasecmp(marks[i].prefix, "basic ") == 0 && !looks_coded(p + len, rest)))
            continue;
        *ret_shown = marks[i].shown;
        return len + rest;
    }
    return 0;
}

/* What a byte may mean. */
enum { PLAIN = 0, ESCAPED = 1, BEGINS = 2, SPACE = 4 };
static const unsigned char meanings[256] = {
    [0 ... 0x1f] = ESCAPED, ['"'] = ESCAPED, ['\\'] = ESCAPED, [0x7f ... 0xff] = ESCAPED,
    [' '] = SPACE,          ['b'] = BEGINS,  ['B'] = BEGINS,   ['e'] = BEGINS,
    ['s'] = BEGINS,         ['h'] = BEGINS,  ['g'] = BEGINS,   ['x'] = BEGINS,
    ['A'] = BEGINS,
};

/* The next secret in [text, text + len), of which no byte before is looked at again; NULL: none.
 * *ret_seen: what bytes there were up to it. */
static const char *find_secret(const char *text, size_t len, size_t *ret_len, size_t *ret_shown,
                               unsigned *ret_seen)
{
    unsigned seen = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned m = meanings[(unsigned char)text[i]];

        seen |= m;
        if (SL_LIKELY(!(m & BEGINS)) || (i > 0 && isalnum((unsigned char)text[i - 1])))
            continue;
        *ret_len = secret_at(text + i, ret_shown);
        if (*ret_len) {
            *ret_seen = seen;
            return text + i;
        }
    }
    *ret_seen = seen;
    return NULL;
}

/* ---- values -------------------------------------------------------------------------------- */

static void put_quoted(sl_buf *out, const char *text, size_t len)
{
    sl_buf_putc(out, '"');
    sl_buf_put(out, text, len);
    sl_buf_putc(out, '"');
}

/* Words stand bare, everything else, control bytes above all, as JSON. */
static void put_word(sl_buf *out, const char *text, size_t len, unsigned seen, bool is_json)
{
    if (seen & ESCAPED)
        sl_buf_put_json(out, text, len);
    else if (is_json || len == 0 || (seen & SPACE))
        put_quoted(out, text, len);
    else
        sl_buf_put(out, text, len);
}

/* The text without its secrets, and no more than a line shows. */
static void put_cut(sl_buf *out, const char *text, size_t len, bool is_json)
{
    size_t cut = SL_MIN(len, (size_t)LOG_VALUE_BYTES_MAX), secret, shown;
    unsigned seen, all = 0;
    sl_buf b;

    cut = cut < len ? sl_utf8_complete(text, cut) : len;
    sl_buf_init(&b, LOG_LINE_BYTES_MAX);
    for (const char *p = text; p < text + cut;) {
        const char *at = find_secret(p, (size_t)(text + cut - p), &secret, &shown, &seen);

        all |= seen;
        sl_buf_put(&b, p, (size_t)((at ? at + shown : text + cut) - p));
        if (!at)
            break;
        sl_buf_puts(&b, HIDDEN);
        p = at + secret;
    }
    if (cut < len)
        sl_buf_printf(&b, "... (%zu bytes more)", len - cut);
    put_word(out, sl_buf_str(&b), b.len, cut < len ? all | SPACE : all, is_json);
    sl_buf_deinit(&b);
}

static void put_str(sl_buf *out, const char *text, bool is_json)
{
    size_t len = strlen(text), secret, shown;
    unsigned seen;

    if (SL_LIKELY(len <= LOG_VALUE_BYTES_MAX && !find_secret(text, len, &secret, &shown, &seen)))
        put_word(out, text, len, seen, is_json);
    else
        put_cut(out, text, len, is_json);
}

/* Whole numbers as they are, others with up to three decimals or, below 1, six; tiny ones with six
 * digits. */
static void put_num(sl_buf *out, double v)
{
    double size = fabs(v);
    int64_t scale = size < 1 ? 1000000 : 1000, parts;

    if (!isfinite(v)) {
        sl_buf_puts(out, "null");
    } else if (size >= 1e15 || (size < 1e-3 && size != 0)) {
        sl_buf_printf(out, "%.6g", v);
    } else if (size == rint(size)) {
        sl_buf_put_int(out, (int64_t)v);
    } else {
        parts = (int64_t)rint(size * (double)scale);
        sl_buf_puts(out, v < 0 ? "-" : "");
        sl_buf_put_int(out, parts / scale);
        parts %= scale;
        if (parts > 0)
            sl_buf_putc(out, '.');
        for (; parts > 0; parts %= scale) {
            scale /= 10;
            sl_buf_putc(out, (char)('0' + parts / scale));
        }
    }
}

void log_put_time(char out[24], int64_t ms)
{
    /* Days to a date by eras of 400 years that begin in March. */
    int64_t days = ms / 86400000, of_day = ms % 86400000;
    int64_t z = days + 719468, era = z / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    int64_t month = mp < 10 ? mp + 3 : mp - 9;
    const int64_t parts[] = { yoe + era * 400 + (month <= 2),
                              month,
                              doy - (153 * mp + 2) / 5 + 1,
                              of_day / 3600000,
                              of_day / 60000 % 60,
                              of_day / 1000 % 60,
                              of_day % 1000 };
    static const struct {
        int at, digits;
    } places[] = { { 0, 4 }, { 5, 2 }, { 8, 2 }, { 11, 2 }, { 14, 2 }, { 17, 2 }, { 20, 3 } };

    memcpy(out, "0000-00-00T00:00:00.000Z", 24);
    for (size_t i = 0; i < SL_COUNT_OF(places); i++) {
        int64_t v = parts[i];

        for (int k = places[i].digits - 1; k >= 0; k--, v /= 10)
            out[places[i].at + k] = (char)('0' + v % 10);
    }
}

/* ---- lines --------------------------------------------------------------------------------- */

static const char *const colours[SL_LOG_LEVEL_COUNT] = { "\x1b[36m", "\x1b[32m", "\x1b[33m",
                                                         "\x1b[31m" };
#define DIM   "\x1b[2m"
#define BOLD  "\x1b[1m"
#define RESET "\x1b[0m"

static void put_head(sl_buf *out, const log_style *style, const log_record *r)
{
    static const char *const padded[SL_LOG_LEVEL_COUNT] = { "debug", "info ", "warn ", "error" };
    char time[24];

    log_put_time(time, r->time_ms);
    switch (style->format) {
    case SL_LOG_PLAIN:
        sl_buf_puts(out, log_level_names[r->level]);
        sl_buf_puts(out, ": ");
        sl_buf_puts(out, r->event);
        break;
    case SL_LOG_TEXT:
        sl_buf_puts(out, style->colour ? DIM : "");
        sl_buf_put(out, time, sizeof time);
        sl_buf_puts(out, style->colour ? RESET " " : " ");
        sl_buf_puts(out, style->colour ? colours[r->level] : "");
        sl_buf_puts(out, padded[r->level]);
        sl_buf_puts(out, style->colour ? RESET " " BOLD : " ");
        sl_buf_puts(out, r->event);
        sl_buf_puts(out, style->colour ? RESET : "");
        break;
    default:
        sl_buf_puts(out, "{\"time\":\"");
        sl_buf_put(out, time, sizeof time);
        sl_buf_puts(out, "\",\"level\":\"");
        sl_buf_puts(out, log_level_names[r->level]);
        sl_buf_puts(out, "\",\"event\":");
        put_quoted(out, r->event, strlen(r->event)); /* a name of ours */
    }
}

/* As it is, for somebody at a terminal. */
static void put_sentence(sl_buf *out, const char *text)
{
    size_t len = strlen(text), secret, shown;
    unsigned seen;

    if (find_secret(text, len, &secret, &shown, &seen))
        put_cut(out, text, len, false);
    else
        sl_buf_put(out, text, len);
}

static void put_field(sl_buf *out, const log_style *style, const sl_log_field *f)
{
    bool is_json = style->format == SL_LOG_JSON;

    if (is_json) {
        sl_buf_puts(out, ",\"");
        sl_buf_puts(out, f->key);
        sl_buf_puts(out, "\":");
    } else {
        sl_buf_puts(out, style->colour ? " " DIM : " ");
        sl_buf_puts(out, f->key);
        sl_buf_puts(out, style->colour ? "=" RESET : "=");
    }
    if (!f->str)
        put_num(out, f->num);
    else if (is_secret_key(f->key))
        put_word(out, HIDDEN, sizeof HIDDEN - 1, PLAIN, is_json);
    else if (style->format == SL_LOG_PLAIN)
        put_sentence(out, f->str);
    else
        put_str(out, f->str, is_json);
}

static bool has_key(const sl_log_field *fields, int count, const char *key)
{
    for (int i = 0; i < count; i++)
        if (fields[i].key == key || strcmp(fields[i].key, key) == 0)
            return true;
    return false;
}

/* Fields of scopes that neither the line nor a scope inside has. */
static void put_scopes(sl_buf *out, const log_style *style, const log_record *r)
{
    for (const sl_log_scope *s = r->scope; s; s = s->outer)
        for (int i = 0; i < s->count; i++) {
            bool is_told = has_key(r->fields, r->count, s->fields[i].key);

            for (const sl_log_scope *in = r->scope; in != s && !is_told; in = in->outer)
                is_told = has_key(in->fields, in->count, s->fields[i].key);
            if (!is_told)
                put_field(out, style, &s->fields[i]);
        }
}

void log_put_line(sl_buf *out, const log_style *style, const log_record *r)
{
    put_head(out, style, r);
    for (int i = 0; i < r->count; i++)
        put_field(out, style, &r->fields[i]);
    put_scopes(out, style, r);
    sl_buf_puts(out, style->format == SL_LOG_JSON ? "}\n" : "\n");
}
