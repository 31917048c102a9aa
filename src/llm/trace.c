/* trace.c - "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01". */
#include "llm/trace.h"

#include <string.h>

/* n lower-case hex digits at p, not all 0 unless that may be, to out and a NUL. */
static bool take_hex(const char *p, size_t n, bool may_be_zero, char *out)
{
    bool zero = true;

    for (size_t i = 0; i < n; i++) {
        if (!p[i] || !strchr("0123456789abcdef", p[i]))
            return false;
        zero = zero && p[i] == '0';
    }
    memcpy(out, p, n);
    out[n] = '\0';
    return may_be_zero || !zero;
}

bool llm_trace_parse(const char *header, llm_trace *ret)
{
    llm_trace t = { .id = "" };
    char version[3], flags[3];

    *ret = t;
    if (!header || strlen(header) < 55 || header[2] != '-' || header[35] != '-' ||
        header[52] != '-')
        return false;
    if (!take_hex(header, 2, true, version) || !take_hex(header + 3, 32, false, t.id) ||
        !take_hex(header + 36, 16, false, t.parent) || !take_hex(header + 53, 2, true, flags))
        return false;
    if (strcmp(version, "ff") == 0 || (strcmp(version, "00") == 0 && header[55]) ||
        (header[55] && header[55] != '-'))
        return false;
    t.is_sampled = strchr("13579bdf", flags[1]) != NULL;
    *ret = t;
    return true;
}
