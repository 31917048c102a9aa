/* observe.h - the room's door: usage, cost and prices. */
#ifndef SL_OBSERVE_OBSERVE_H
#define SL_OBSERVE_OBSERVE_H

#include "observe/ledger.h"
#include "observe/price.h"

#endif
