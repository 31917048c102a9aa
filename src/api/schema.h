/* schema.h - the fields of JSON bodies as tables: one table checks a body, fills a request, and is
 * what the OpenAPI document and the pages of docs/ say about it.
 *
 * Numbers, booleans and strings go by themselves to the member that their rule names; what needs
 * more has a function. A field that is absent or null leaves its member as it is. */
#ifndef SL_API_SCHEMA_H
#define SL_API_SCHEMA_H

#include <stddef.h>

#include "api/encoder.h"

typedef enum field_kind {
    FIELD_BOOL,
    FIELD_INT,   /* to int32_t, uint32_t or int64_t */
    FIELD_NUM,   /* to float or double */
    FIELD_STR,   /* to const char *, copied to the request's arena */
    FIELD_OTHER, /* any JSON: `take` reads it, `json_schema` describes it */
} field_kind;

typedef enum field_support {
    FIELD_WORKS,
    FIELD_NO_EFFECT,    /* accepted, also in other types; changes nothing here */
    FIELD_REFUSED,      /* cannot be honoured: refused by name when present */
    FIELD_REFUSED_TRUE, /* the same when true, or neither false, 0, "", [] nor {} */
} field_support;

typedef struct field_rule field_rule;
typedef struct body_schema body_schema;

/* Where values go. */
typedef struct field_target {
    llm_request *req; /* may be NULL where no rule points to it */
    void *call;       /* the dialect's own struct */
    sl_arena *arena;  /* strings; NULL: the request's */
} field_target;

typedef sl_status (*field_take_fn)(const json_t *v, const field_rule *rule, const field_target *to,
                                   openai_error *err);

struct field_rule {
    const char *name;
    field_kind kind;
    field_support support;
    bool required;
    bool in_request; /* `at` is in llm_request; else in the call */
    uint16_t at, width;
    uint32_t gives;  /* LLM_GIVEN_* that `take` sets; those of `at` are known */
    double min, max; /* FIELD_INT, FIELD_NUM; STR: bytes at most max, 0: any */
    field_take_fn take;
    const body_schema *body; /* FIELD_OTHER: an object by this table; `take` reads it with it */
    const char *json_schema; /* FIELD_OTHER: a JSON Schema as text; NULL: anything */
    const char *help;        /* one line; NULL: the name says it */
};

/* Where a rule's value goes: IN_REQUEST(sampling.top_p), IN_CALL(openai_call, stream). */
#define IN_REQUEST(member)                                                                         \
    .in_request = true, .at = offsetof(llm_request, member),                                       \
    .width = sizeof(((llm_request *)0)->member)
#define IN_CALL(type, member) .at = offsetof(type, member), .width = sizeof(((type *)0)->member)

struct body_schema {
    const char *name; /* "ChatCompletionRequest" */
    const field_rule *rules;
    size_t count;
    const body_schema *base; /* more rules, read first; or NULL */
    bool is_closed;          /* unknown fields are refused; else ignored */
};

/* Reads all fields, in the tables' order. SL_EINVAL (SL_ENOMEM when the request gets too large):
 * *err names the field. */
sl_status body_read(const body_schema *s, const json_t *root, const field_target *to,
                    openai_error *err);
/* Puts "outer." before the field that *err names, for bodies within bodies. Returns status. */
sl_status body_nest(sl_status status, const char *outer, openai_error *err);

#endif
