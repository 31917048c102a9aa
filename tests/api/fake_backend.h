/* fake_backend.h - a scripted model and document store for tests of the HTTP layers.
 *
 * The last message (or prompt) says what happens: "slow" gives a token every 5 ms, "hang" nothing
 * until cancelled, "error" fails after one token, "early" fails before the first event, "busy" and
 * "context" fail at submit, "busy once ..." and "limit once ..." every other time, "stop" ends with
 * the first stop string. "SAY text" anywhere gives that text in small pieces, {1} in it as [1];
 * "TELL" anywhere all messages as the model got them. Anything else gives max_tokens (at most 5 by
 * default) words. */
#ifndef FAKE_BACKEND_H
#define FAKE_BACKEND_H

#include "llm/llm.h"

typedef struct fake_backend {
    atomic_int running, cancelled, finished, busy;
    atomic_int refused; /* 1: of a script that refuses every other time, the next passes */
} fake_backend;

extern const llm_backend_ops fake_ops;
extern const llm_docs_ops fake_docs_ops;

/* A chain with a generating model "fake" and an embedding model "fake-embed". */
void fake_chain(fake_backend *f, llm_chain *ret);
/* Waits until no request runs; false after 5 s. */
bool fake_wait_idle(fake_backend *f);

#endif
