/* openai_int.h - what the files that write OpenAI's answers share. */
#ifndef SL_API_OPENAI_INT_H
#define SL_API_OPENAI_INT_H

#include "api/openai.h"

struct openai_choice {
    sl_buf text;             /* collected answer, or the JSON of one embedding */
    sl_buf tokens;           /* chat: logprob items; completions: the quoted tokens */
    sl_buf probs;            /* completions: token_logprobs */
    sl_buf tops;             /* completions: top_logprobs */
    sl_buf offsets;          /* completions: text_offset */
    sl_buf ids;              /* token_ids */
    sl_buf prompt_ids;       /* of a prompt's first choice: its prompt_token_ids */
    sl_buf prompt_probs;     /* the same: its prompt_logprobs */
    int64_t chars;           /* code points of the tokens so far */
    int64_t token_count;     /* generated, as far as told */
    double logprob_sum;      /* of those */
    sl_buf annotations, rag; /* chats over documents: an array; ,"rag":{...} */
    sl_buf stop_reason;      /* the stop string or token that ended it, as JSON; empty: none */
    llm_finish finish;
    bool prompt_told; /* in a stream: its prompt's ids */
    bool told;        /* as one of the best */
};

/* Gathers the logprobs of an event's tokens in c. */
void openai_add_probs(const openai_encoder *e, openai_choice *c, const llm_event *ev);
/* Gathers a prompt's ids or logprobs. */
void openai_add_prompt(openai_choice *c, const llm_event *ev);
/* {"token","logprob","bytes","top_logprobs"} of a token. */
void openai_put_prob(sl_buf *out, const llm_token *t, bool as_id);

static inline void openai_put_comma(sl_buf *b)
{
    if (b->len > 0)
        sl_buf_putc(b, ',');
}

#endif
