/* duration.c - spans of time as people write them. */
#include "base/duration.h"

#include <stdlib.h>
#include <string.h>

#include "base/attr.h"

/* Nanoseconds of the unit at text; *ret_len: its bytes, 0: there is none. */
static double unit_ns(const char *text, size_t *ret_len)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = { { "ns", 1 },  { "us", 1e3 }, { "\xc2\xb5s", 1e3 }, { "ms", 1e6 },
                  { "s", 1e9 }, { "m", 60e9 }, { "h", 3600e9 } };

    for (size_t i = 0; i < SL_COUNT_OF(units); i++) {
        *ret_len = strlen(units[i].name);
        if (strncmp(text, units[i].name, *ret_len) == 0)
            return units[i].ns;
    }
    *ret_len = 0;
    return 0;
}

int64_t sl_duration_ns(double ns)
{
    if (ns < 0)
        return -1;
    return ns > 9e18 ? INT64_MAX : (int64_t)ns;
}

bool sl_duration_parse(const char *text, int64_t *ret_ns)
{
    bool negative = *text == '-';
    double sum = 0;

    text += *text == '-' || *text == '+';
    if (strcmp(text, "0") == 0) {
        *ret_ns = 0;
        return true;
    }
    do {
        size_t digits = strspn(text, "0123456789."), len = 0;
        char number[32], *end;
        double v, unit;

        if (digits == 0 || digits >= sizeof number)
            return false;
        memcpy(number, text, digits);
        number[digits] = '\0';
        v = strtod(number, &end);
        unit = unit_ns(text + digits, &len);
        if (*end || len == 0)
            return false;
        sum += v * unit;
        text += digits + len;
    } while (*text);
    *ret_ns = sl_duration_ns(negative && sum > 0 ? -1 : sum);
    return true;
}
