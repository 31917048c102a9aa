/* json_int.h - what the two files that read a tokenizer.json share. */
#ifndef SL_TOKEN_JSON_INT_H
#define SL_TOKEN_JSON_INT_H

#include "token/token_int.h"

/* A string or boolean of an object, "" or fallback when there is none. o may be NULL. */
const char *json_text(const json_t *o, const char *key);
bool json_flag(const json_t *o, const char *key, bool fallback);

/* Sections; o may be NULL or null. The vocabulary's norm and pretok exist already. */
SL_NODISCARD sl_status json_add_normalizer(token_vocab *v, const json_t *o, int depth, sl_err *err);
SL_NODISCARD sl_status json_add_pretok(token_vocab *v, const json_t *o, int depth, sl_err *err);
SL_NODISCARD sl_status json_add_post(token_vocab *v, const json_t *o, int depth, sl_err *err);

#endif
