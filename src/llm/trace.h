/* trace.h - the trace that a request belongs to, as W3C's traceparent says. Included by llm.h. */
#ifndef SL_LLM_TRACE_H
#define SL_LLM_TRACE_H

#include <stdbool.h>

typedef struct llm_trace {
    char id[33];     /* 32 lower-case hex digits; "": none */
    char parent[17]; /* the caller's span */
    bool is_sampled;
} llm_trace;

/* Reads a traceparent header, NULL when absent. False, with *ret empty, when it is none: version
 * ff, no hex, or all zeros. Later versions are read as far as they are known. */
bool llm_trace_parse(const char *header, llm_trace *ret);

#endif
