/* watch.h - what the configuration says about logs and metrics, made into what base and api take.
 */
#ifndef SL_APP_WATCH_H
#define SL_APP_WATCH_H

#include "app/config.h"

#include "api/api.h"

/* Levels of the log, also while serving. SL_EINVAL: nothing was changed. */
SL_NODISCARD sl_status watch_set_levels(const config *c, sl_err *err);
SL_NODISCARD sl_status watch_content(const config *c, api_log_content *ret, sl_err *err);
/* metrics.compat as API_COMPAT_*. SL_EINVAL names the word and those there are. */
SL_NODISCARD sl_status watch_compat(const config *c, unsigned *ret, sl_err *err);

#endif
