/* openai_rules.h - short forms of rules for the tables of OpenAI's bodies. Internal to the room. */
#ifndef SL_API_OPENAI_RULES_H
#define SL_API_OPENAI_RULES_H

#include "api/schema.h"

#define OPENAI_TOKENS_MAX ((int64_t)1 << 31)

#define NUMBER(field_name, member, lo, hi, text)                                                   \
    {                                                                                              \
        .name = field_name, .kind = FIELD_NUM, IN_REQUEST(sampling.member), .min = lo, .max = hi,  \
        .help = text                                                                               \
    }
#define REFUSED(field_name, text)                                                                  \
    {                                                                                              \
        .name = field_name, .kind = FIELD_OTHER, .support = FIELD_REFUSED, .help = text            \
    }
#define REFUSED_TRUE(field_name, text)                                                             \
    {                                                                                              \
        .name = field_name, .kind = FIELD_BOOL, .support = FIELD_REFUSED_TRUE, .help = text        \
    }
#define NO_EFFECT(field_name, text)                                                                \
    {                                                                                              \
        .name = field_name, .kind = FIELD_OTHER, .support = FIELD_NO_EFFECT, .help = text          \
    }

/* Model, sampling, and what is forbidden or ends the text; `call` must begin with an openai_call.
 */
extern const body_schema openai_sampling_body;
/* Those and n, streams, and what is told of tokens. */
extern const body_schema openai_generation_body;

#endif
