/* weights.h - a model's tensors in the layout the kernels want.
 *
 * Loading checks every shape against the architecture table, so that a forward pass needs no
 * checks. Matrices are packed into panels by all threads of the team, and the mapped pages of the
 * file are let go a few MiB at a time as they are packed, so that loading takes little more memory
 * than the loaded model. Immutable once loaded. */
#ifndef SL_ENGINE_WEIGHTS_H
#define SL_ENGINE_WEIGHTS_H

#include "engine/team.h"
#include "kernels/kernels.h"
#include "model/model.h"

/* y = W x + bias. */
typedef struct weight {
    kernels_fmt fmt;
    int rows, cols;
    int panels; /* rows / 32, rounded up */
    size_t panel_bytes;
    uint8_t *data; /* [panels][panel_bytes] in the slab; NULL: the model has no such matrix */
    float *bias;   /* [panels * 32], or NULL */
} weight;

typedef struct weights_layer {
    float *attn_norm, *attn_norm_b; /* [dim]; biases in encoders only. Encoders: after attention */
    float *ffn_norm, *ffn_norm_b;   /* [dim]; encoders: after the FFN */
    float *post_attn_norm, *post_ffn_norm; /* [dim], or NULL */
    float *q_norm, *k_norm;                /* [head_dim], or NULL */
    weight q, k, v, o, gate, up, down;     /* gate: only where the FFN has one */
} weights_layer;

typedef struct weights {
    model_params params;
    const tensor_info *embed; /* [vocab, dim] in the file: rows are read on demand */
    float *position;          /* encoders: [context, dim]; NULL where positions are rotations */
    float *types;             /* encoders: [type_vocab, dim], at most two rows; or NULL */
    float *embed_norm, *embed_norm_b;
    float *pooler, *pooler_b; /* rank heads: [dim, dim], [dim], before the tanh; or NULL */
    float *rank, *rank_b;     /* rank heads: [dim], [1]; rank_b may be NULL */
    float *out_norm;          /* [dim] */
    float *rope_freqs;        /* [rope_dim / 2] divisors, or NULL */
    weight head;              /* [vocab, dim]; tied models: packed from the embeddings;
                          none where pool is not NONE */
    weights_layer *layers;
    uint8_t *slab; /* all matrices, in the order of their use; huge pages where there are some */
    size_t slab_bytes, slab_used;
    size_t cols_max; /* of any matrix */
    size_t bytes;    /* everything used here */
} weights;

/* m must outlive *ret. SL_EFORMAT names a tensor that is missing or of the wrong shape. */
SL_NODISCARD sl_status weights_load(const model_file *m, team *t, weights **ret, sl_err *err);
void weights_destroy(weights *w); /* accepts NULL */

#endif
