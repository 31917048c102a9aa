/* token.h - tokenizers, streaming detokenizer and chat templates.
 *
 * A vocabulary and a parsed template are immutable once built and may be shared between threads;
 * a decoder and a token_ids belong to one caller. All inputs are bytes from outside: nothing here
 * asserts on them. */
#ifndef SL_TOKEN_TOKEN_H
#define SL_TOKEN_TOKEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "model/model.h"

typedef struct token_vocab token_vocab;

/* From the metadata of a GGUF file (tokenizer.ggml.*). dir is needed during the call only. An
 * unknown pre-tokenizer name gets the default rule and a loud warning. */
SL_NODISCARD sl_status token_vocab_from_gguf(const gguf_dir *dir, token_vocab **ret, sl_err *err);
/* From a Hugging Face tokenizer.json; tokenizer_config may be {NULL, 0}. */
SL_NODISCARD sl_status token_vocab_from_json(sl_span tokenizer_json, sl_span tokenizer_config,
                                             token_vocab **ret, sl_err *err);
void token_vocab_destroy(token_vocab *v); /* accepts NULL */

enum {
    TOKEN_ADD_SPECIAL = 1,   /* BOS, EOS, CLS, SEP as the vocabulary says */
    TOKEN_PARSE_SPECIAL = 2, /* control tokens spelled in the text become their ids */
};

/* A growing list of ids; start from zero, release with token_ids_deinit. */
typedef struct token_ids {
    int32_t *ids;
    size_t count, cap;
} token_ids;
void token_ids_deinit(token_ids *t);

/* Appends the ids of text to out. Invalid UTF-8 and NUL are allowed. On failure out may have
 * grown. */
SL_NODISCARD sl_status token_encode(const token_vocab *v, const char *text, size_t len,
                                    unsigned flags, token_ids *out, sl_err *err);

size_t token_count(const token_vocab *v);
/* Bytes of a token as they appear in text; a control token gives its spelling only if
 * show_special. Points into the vocabulary. Empty for a bad id. */
sl_span token_bytes(const token_vocab *v, int32_t id, bool show_special);
/* The raw spelling in the vocabulary. */
sl_span token_spelling(const token_vocab *v, int32_t id);
/* -1 when absent. */
int32_t token_find(const token_vocab *v, const char *spelling, size_t len);
bool token_is_control(const token_vocab *v, int32_t id);
/* Member of the end-of-generation set. */
bool token_is_eog(const token_vocab *v, int32_t id);
int32_t token_bos(const token_vocab *v); /* -1: none */
int32_t token_eos(const token_vocab *v); /* -1: none */
bool token_adds_bos(const token_vocab *v);
const char *token_kind(const token_vocab *v); /* "bpe", "spm", "wpm" */
const char *token_pre(const token_vocab *v);  /* pre-tokenizer name, or "" */

/* Streaming detokenizer. Never emits half a UTF-8 character: incomplete bytes are held back,
 * invalid ones become U+FFFD once they can no longer be completed. */
typedef struct token_decoder {
    const token_vocab *v;
    uint8_t held[4]; /* the start of a character */
    uint8_t held_len;
    bool at_start;     /* nothing was emitted: a space prefix is dropped */
    bool show_special; /* control tokens show their spelling */
    bool joins;        /* WordPiece: the next piece is glued */
} token_decoder;

void token_decoder_init(token_decoder *d, const token_vocab *v, bool at_start, bool show_special);
void token_decoder_push(token_decoder *d, int32_t id, sl_buf *out);
void token_decoder_finish(token_decoder *d, sl_buf *out);

/* Chat templates: a Jinja2 subset as the templates of models use. */
typedef struct token_template token_template;

/* err names line and column. */
SL_NODISCARD sl_status token_template_parse(const char *text, size_t len, token_template **ret,
                                            sl_err *err);
void token_template_destroy(token_template *t); /* accepts NULL */
/* vars: a JSON object (messages, tools, add_generation_prompt, ...). now_s: wall clock for
 * strftime_now. SL_EINVAL with the message for raise_exception and for errors of the template,
 * SL_ELIMIT past SL_TEMPLATE_*. */
SL_NODISCARD sl_status token_template_render(const token_template *t, const json_t *vars,
                                             int64_t now_s, sl_buf *out, sl_err *err);

#endif
