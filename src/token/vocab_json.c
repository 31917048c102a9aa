/* vocab_json.c - a vocabulary from a Hugging Face tokenizer.json. */
#include "token/token_int.h"

sl_status token_vocab_from_json(sl_span tokenizer_json, sl_span tokenizer_config, token_vocab **ret,
                                sl_err *err)
{
    (void)tokenizer_json, (void)tokenizer_config, (void)ret;
    return sl_fail(err, SL_ENOTSUP, "tokenizer.json is not supported yet");
}
