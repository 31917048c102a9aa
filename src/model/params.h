/* params.h - the architecture table: what a forward pass must know of a model, in one struct.
 *
 * The decoder reads nothing else: a new architecture is a row in params.c, not a branch there. */
#ifndef SL_MODEL_PARAMS_H
#define SL_MODEL_PARAMS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/gguf.h"

typedef enum model_arch {
    MODEL_LLAMA,
    MODEL_QWEN2,
    MODEL_QWEN3,
    MODEL_GEMMA3,
    MODEL_BERT,       /* encoders from here on */
    MODEL_NOMIC_BERT, /* rotary positions, a gated FFN, no biases */
    MODEL_ARCH_COUNT
} model_arch;

static inline bool model_arch_encodes(model_arch arch)
{
    return arch >= MODEL_BERT;
}

typedef enum model_rope {
    MODEL_ROPE_NONE,
    MODEL_ROPE_NORM, /* rotates neighbours (2i, 2i+1) */
    MODEL_ROPE_NEOX, /* rotates (i, i + rot/2) */
} model_rope;

typedef enum model_act { MODEL_SILU, MODEL_GELU_TANH, MODEL_GELU_ERF } model_act;

typedef enum model_pool {
    MODEL_POOL_NONE,
    MODEL_POOL_MEAN,
    MODEL_POOL_CLS,
    MODEL_POOL_LAST,
    MODEL_POOL_RANK /* a classification head makes one number of the first token's state */
} model_pool;

/* Whose names the tensors of an encoder carry in the Hugging Face layout. */
typedef enum model_prefix { MODEL_PREFIX_BERT, MODEL_PREFIX_ROBERTA } model_prefix;

typedef struct model_params {
    model_arch arch;
    char arch_name[32];
    char name[128]; /* general.name or directory name; may be empty */

    int32_t layers, dim, heads, kv_heads, head_dim, ff_dim, vocab, context;
    float norm_eps;

    model_rope rope;
    int32_t rope_dim;                 /* dimensions rotated, from the head's start */
    float rope_base, rope_base_local; /* local: layers with a sliding window */
    float rope_scale; /* linear scaling: positions are divided by it (global layers) */
    /* llama3-style frequency scaling from a Hugging Face config; factor 0 = none. GGUF files carry
     * the same as a rope_freqs tensor. */
    float rope_l3_factor, rope_l3_low, rope_l3_high;
    int32_t rope_l3_context;

    bool qk_norm;       /* RMSNorm per head on q and k before RoPE */
    bool post_norm;     /* RMSNorm after attention and after the FFN, before the residual (gemma) */
    bool norm_plus_one; /* norm weights are stored less 1 (gemma from Hugging Face) */
    model_act act;
    float embed_scale;                 /* token embeddings times this */
    float attn_scale;                  /* scores times this */
    float attn_softcap, logit_softcap; /* 0: none */
    int32_t window, window_pattern;    /* every window_pattern-th layer is global, the rest see
                                          window tokens; window 0: all global */
    bool hf_names;                     /* tensors carry Hugging Face names */

    /* encoders, and decoders that embed (pool is not NONE) */
    model_pool pool;
    bool pool_normalize;
    int32_t
        type_vocab; /* kinds of tokens: of a pair, the second text's are 1 where there are two */
    int32_t position_skip; /* rows of the position table before that of the first token */
    bool pair_sep_twice;   /* between the texts of a pair stand two separators (RoBERTa) */
    model_prefix prefix;
} model_params;

/* True when layer sees only the last p->window tokens. */
static inline bool model_layer_is_local(const model_params *p, int32_t layer)
{
    return p->window > 0 && p->window_pattern > 0 && (layer + 1) % p->window_pattern != 0;
}

/* From GGUF metadata. SL_ENOTSUP names an architecture or a feature that Sluice does not run;
 * SL_EFORMAT names a key that is missing or out of range. */
SL_NODISCARD sl_status model_params_from_gguf(const gguf_dir *dir, model_params *ret, sl_err *err);

/* From a Hugging Face config.json. pooling: 1_Pooling/config.json; modules: modules.json; or NULL.
 */
SL_NODISCARD sl_status model_params_from_hf(const json_t *config, const json_t *pooling,
                                            const json_t *modules, model_params *ret, sl_err *err);

#endif
