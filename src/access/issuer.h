/* issuer.h - an issuer from the inside: shared by issuer.c and token.c. Internal to the room. */
#ifndef SL_ACCESS_ISSUER_H
#define SL_ACCESS_ISSUER_H

#include "access/access_int.h"

#define ISSUER_ALGORITHMS_MAX 16

struct issuer {
    sl_arena arena; /* all texts */
    const char *name, *audience, *url, *file, *role;
    const jwt_algorithm *algorithms[ISSUER_ALGORITHMS_MAX];
    size_t algorithm_count;
    access_claims claims;
    access_role_map *roles; /* [role_count] */
    size_t role_count;
    int leeway_s, refresh_s, floor_s;
    bool is_self;

    pthread_mutex_t mutex; /* all below */
    keyset *keys;          /* NULL: not fetched yet */
    int64_t generation;    /* raised with each new set */
    int64_t tried_ms;      /* monotonic; 0: never */
    bool wanted, fetching;
};

/* The present key set, a reference; NULL: none yet. */
keyset *issuer_keys(issuer *i, int64_t *ret_generation);
/* A token's key is unknown: asks for a fetch if the last try is long enough ago. True when keys are
 * on their way, so that it is worth to try again. */
bool issuer_want_keys(access_control *a, issuer *i);

#endif
