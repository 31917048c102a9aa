/* input.h - a batch's input: JSON lines, checked as a whole before any of them runs. */
#ifndef SL_JOBS_INPUT_H
#define SL_JOBS_INPUT_H

#include <jansson.h>

#include "base/buf.h"
#include "base/mem.h"

#define INPUT_PREFIXES        5
#define INPUT_MODEL_BYTES     256
#define INPUT_CUSTOM_ID_BYTES 512

typedef struct input_line {
    size_t at;            /* in the text */
    uint32_t len, number; /* bytes; line of the file, from 1 */
    const char *custom_id;
    bool is_done;                    /* the owner's */
    uint64_t prefix[INPUT_PREFIXES]; /* hashes of longer and longer beginnings of the prompt */
} input_line;

typedef struct input {
    input_line *lines;
    size_t count, cap;
    char url[64];
    char model[INPUT_MODEL_BYTES]; /* "": the lines name none */
    json_t *errors;  /* array of {"code","message","param","line"}; empty: all is well */
    uint32_t *table; /* by custom_id: index + 1, 0 is free */
    size_t table_size;
    size_t input_count; /* texts to embed */
    sl_arena arena;
} input;

/* Reads all of text, which must outlive the lines. url: where every line must go; NULL: where the
 * first one goes. What is wrong with the text is in ret->errors. Only SL_ENOMEM is a failure, and
 * ret is to be released then too. */
SL_NODISCARD sl_status input_scan(sl_span text, const char *url, input *ret, sl_err *err);
void input_deinit(input *in); /* accepts a zeroed one */
/* The line with a custom_id, or NULL. */
input_line *input_find(input *in, const char *custom_id);
/* Puts lines whose prompts begin alike beside each other. input_find works no more. */
void input_order(input *in);
/* The body of a line of a text that was scanned, as compact JSON. */
SL_NODISCARD sl_status input_body(sl_span text, const input_line *line, sl_buf *ret, sl_err *err);

#endif
