/* encoder.h - the forward pass of BERT-like encoders, and the pooled embedding of a text
 * (Devlin et al. 2018; pooling as in Sentence-BERT), or the score of a pair of texts (a
 * cross-encoder: Nogueira and Cho 2019).
 *
 * Not thread-safe; the caller becomes member 0 of the team. A text's vector does not depend on the
 * other texts of its batch. */
#ifndef SL_ENGINE_ENCODER_H
#define SL_ENGINE_ENCODER_H

#include "engine/weights.h"

typedef struct encoder encoder;

typedef struct encoder_text {
    const int32_t *ids; /* with [CLS] and [SEP] */
    int count;          /* 1 .. context of the model */
    int second;         /* of a pair: where the second text begins; else count */
    float *out;         /* [encoder_width()] */
} encoder_text;

/* w, t and k are borrowed. A batch holds at most tokens_max tokens (at least the context). */
SL_NODISCARD sl_status encoder_create(const weights *w, team *t, const kernels *k, int tokens_max,
                                      encoder **ret, sl_err *err);
void encoder_destroy(encoder *e); /* accepts NULL */

/* Numbers that the model makes of a text: its dimension, or 1 for one that scores pairs. */
int encoder_width(const weights *w);

/* The counts sum to at most tokens_max; ids are below the vocabulary size. */
void encoder_run(encoder *e, const encoder_text *texts, int text_count);
/* The same, but calls pace before each of the short units that the work is made of; it may block:
 * meanwhile the team is at rest. */
void encoder_run_paced(encoder *e, const encoder_text *texts, int text_count,
                       void (*pace)(void *ctx), void *ctx);

#endif
