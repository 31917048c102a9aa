/* price.c - the price table. */
#include "observe/price.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DAY_MS ((int64_t)86400000)

static bool fits(const price *p, const char *model, int64_t day)
{
    size_t len = strlen(p->model);
    bool is_prefix = len > 0 && p->model[len - 1] == '*';

    if ((p->from_day && day < p->from_day) || (p->until_day && day >= p->until_day))
        return false;
    return is_prefix ? strncmp(p->model, model, len - 1) == 0 : strcmp(p->model, model) == 0;
}

int64_t price_cost_nusd(const price_table *t, const char *model, const llm_tokens *tokens,
                        int64_t now_ms)
{
    for (size_t i = 0; i < t->count; i++) {
        const price *p = &t->rows[i];

        /* A dollar per million tokens is a thousand billionths per token. */
        if (fits(p, model, now_ms / DAY_MS))
            return llround(1000.0 * (p->input * (double)tokens->fresh +
                                     p->cached_input * (double)tokens->cached +
                                     p->output * (double)(tokens->output + tokens->reasoning)));
    }
    return 0;
}

sl_status price_day(const char *text, int64_t *ret, sl_err *err)
{
    struct tm tm = { 0 };
    const char *end = strptime(text, "%Y-%m-%d", &tm);
    int day = tm.tm_mday;
    time_t seconds = end && !*end ? timegm(&tm) : -1;

    if (seconds < 0 || tm.tm_mday != day) /* the 30th of February became the 2nd of March */
        return sl_fail(err, SL_EINVAL, "'%.40s' is not a date; write 2026-01-31", text);
    *ret = (int64_t)seconds / 86400;
    return SL_OK;
}
