/* identity.h - what the configuration says about keys, issuers and sessions, made into the gate. */
#ifndef SL_APP_IDENTITY_H
#define SL_APP_IDENTITY_H

#include "access/access.h"
#include "app/config.h"

/* Opens the accounts of the data directory. offline: for a command, without threads and gate. */
SL_NODISCARD sl_status identity_open(const config *c, bool offline, access_control **ret,
                                     sl_err *err);

#endif
