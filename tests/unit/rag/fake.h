/* fake.h - a chain for the tests of documents: an embedder that hashes words and a chat model that
 * says what it is told. */
#ifndef TESTS_UNIT_RAG_FAKE_H
#define TESTS_UNIT_RAG_FAKE_H

#include <pthread.h>
#include <stdatomic.h>

#include "rag/rag.h"

#define FAKE_DIM 256

typedef struct fake {
    llm_chain chain;
    const char *embed_name;  /* default "bag" */
    const char *const *says; /* deltas of the chat model, NULL-terminated */
    bool hangs;              /* the chat model waits to be cancelled */
    bool fails;              /* the chat model fails after its first delta */
    bool refuses;            /* submit says SL_EBUSY */
    bool no_system;          /* render refuses system messages */
    int64_t context;         /* of the chat model; 0: 2048 */
    const char *breaks_on;   /* the embedder fails a request that has this word */
    atomic_int embedded;     /* texts */
    atomic_int asked;        /* chat requests */
    pthread_mutex_t lock;
    char prompt[65536]; /* under lock: the last chat request's messages, joined */
    pthread_t threads[4096];
    atomic_int thread_count;
} fake;

void fake_init(fake *f);
void fake_deinit(fake *f); /* joins what it started */
/* Waits for the threads of all requests so far; no request may run meanwhile. */
void fake_join(fake *f);

/* A directory of a test under `root`, removed by fake_place_remove, and the path of a database in
 * it: DIR/file. False: it cannot be made. */
typedef struct fake_place {
    char dir[64], path[128];
} fake_place;
bool fake_place_make(fake_place *p, const char *root, const char *file);
int fake_place_remove(const fake_place *p); /* 0: it is gone */
/* The documents over f's chain in path; fails the test when they cannot be opened. */
rag *fake_open(fake *f, const char *path, int ingest_workers);

/* The same numbers in every run; one thread. */
uint32_t fake_random(void);
void fake_random_vector(float *v, size_t dim); /* of length 1 */

/* Whitespace-separated words and single CJK characters. */
size_t fake_tokens(const char *text, size_t len);

#endif
