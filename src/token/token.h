/* token.h - text to token ids and back, and chat templates. The room's only door.
 *
 * A vocabulary is immutable once built and may be shared between threads. */
#ifndef SL_TOKEN_TOKEN_H
#define SL_TOKEN_TOKEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "model/model.h"

typedef struct token_vocab token_vocab;

/* From the metadata of a GGUF file (tokenizer.ggml.*); dir need not outlive the call. An unknown
 * pre-tokenizer falls back to the default rule with a loud warning that names it. */
SL_NODISCARD sl_status token_vocab_from_gguf(const gguf_dir *dir, token_vocab **ret, sl_err *err);
/* From a Hugging Face tokenizer.json and, optionally, tokenizer_config.json ({NULL, 0}: none). */
SL_NODISCARD sl_status token_vocab_from_json(sl_span tokenizer_json, sl_span tokenizer_config,
                                             token_vocab **ret, sl_err *err);
void token_vocab_destroy(token_vocab *v); /* accepts NULL */

enum {
    TOKEN_ADD_SPECIAL = 1,   /* BOS, EOS, CLS, SEP as the vocabulary says */
    TOKEN_PARSE_SPECIAL = 2, /* control tokens spelled in the text become their ids; user-defined
                                tokens always do */
};

/* A growing list of ids; zero-initialise, release with token_ids_deinit. */
typedef struct token_ids {
    int32_t *ids;
    size_t count, cap;
} token_ids;

void token_ids_deinit(token_ids *ids);

/* Appends the ids of text (any bytes, invalid UTF-8 and NUL included) to out. */
SL_NODISCARD sl_status token_encode(const token_vocab *v, const char *text, size_t len,
                                    unsigned flags, token_ids *out, sl_err *err);

size_t token_count(const token_vocab *v);
/* The bytes a token stands for in text: byte-level decoded, U+2581 as a space, <0xHH> as the byte.
 * Control tokens stand for nothing, or for their spelling if show_special. In the vocabulary. */
sl_span token_bytes(const token_vocab *v, int32_t id, bool show_special);
sl_span token_spelling(const token_vocab *v, int32_t id);
int32_t token_find(const token_vocab *v, const char *spelling, size_t len); /* -1 when absent */
bool token_is_control(const token_vocab *v, int32_t id);
bool token_is_eog(const token_vocab *v, int32_t id); /* ends generation */
int32_t token_bos(const token_vocab *v);             /* -1 when there is none */
int32_t token_eos(const token_vocab *v);
bool token_adds_bos(const token_vocab *v);
const char *token_kind(const token_vocab *v); /* "bpe", "spm", "wpm", "unigram" */
const char *token_pre(const token_vocab *v);  /* pre-tokenizer's name, or "" */

/* Turns a stream of ids into text that never ends inside a UTF-8 character: incomplete bytes are
 * held back, and become U+FFFD once they can no longer be completed. */
typedef struct token_decoder {
    const token_vocab *vocab;
    bool at_start, show_special;
    char held[8];
    size_t held_len;
} token_decoder;

/* at_start: the ids begin a text, so a space that the vocabulary itself prefixed is dropped. */
void token_decoder_init(token_decoder *d, const token_vocab *v, bool at_start, bool show_special);
void token_decoder_push(token_decoder *d, int32_t id, sl_buf *out);
void token_decoder_finish(token_decoder *d, sl_buf *out);

/* A parsed chat template (a Jinja subset); immutable and shareable. */
typedef struct token_template token_template;

/* err: line and column. */
SL_NODISCARD sl_status token_template_parse(const char *text, size_t len, token_template **ret,
                                            sl_err *err);
void token_template_destroy(token_template *t); /* accepts NULL */
/* Lets it take no more than so many steps, for templates of strangers; before it is shared. */
void token_template_bound(token_template *t, int64_t steps_max);
/* vars: an object (messages, tools, add_generation_prompt, bos_token, ...). now_s: seconds since
 * 1970, for strftime_now. SL_EINVAL carries the message of raise_exception; SL_ELIMIT: past a bound
 * of base/limits.h. */
SL_NODISCARD sl_status token_template_render(const token_template *t, const json_t *vars,
                                             int64_t now_s, sl_buf *out, sl_err *err);

#endif
