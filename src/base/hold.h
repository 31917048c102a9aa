/* hold.h - who uses a data directory: servers share it, what replaces it must be alone. */
#ifndef SL_BASE_HOLD_H
#define SL_BASE_HOLD_H

#include <stdbool.h>

#include "base/status.h"

/* The file in the directory that is locked; it has no content. */
#define SL_HOLD_FILE "sluice.lock"

/* Holds the directory, with others or alone, until *ret_fd is closed or the process ends. Sharing
 * makes a missing directory. Never waits.
 *
 * SL_EBUSY: somebody holds it in a way that excludes this one. SL_EIO: it cannot be written. */
SL_NODISCARD sl_status sl_dir_hold(const char *dir, bool alone, int *ret_fd, sl_err *err);

#endif
