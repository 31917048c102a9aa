/* duration.h - spans of time as people write them. */
#ifndef SL_BASE_DURATION_H
#define SL_BASE_DURATION_H

#include <stdbool.h>
#include <stdint.h>

/* "5m", "1h30m", "1.5s", "-1m", "0" to nanoseconds; units ns, us, ms, s, m, h. Negative ones become
 * -1, those beyond 292 years INT64_MAX. False: it is none. */
bool sl_duration_parse(const char *text, int64_t *ret_ns);
/* The same bounds for a number. */
int64_t sl_duration_ns(double ns);

#endif
