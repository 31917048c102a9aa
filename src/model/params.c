/* params.c - fills the architecture table from GGUF metadata or a Hugging Face config. */
#include "model/params.h"

#include <math.h>
#include <stdio.h>

/* What an architecture always does, whatever the file says. */
typedef struct arch_row {
    const char *gguf_name; /* general.architecture */
    const char *hf_name;   /* model_type */
    model_rope rope_gguf;  /* rotation of converted files, whose Q and K rows may be permuted */
    bool qk_norm, post_norm;
    model_act act;
    int32_t window_pattern;
    float rope_base, rope_base_local;
} arch_row;

static const arch_row arch_rows[MODEL_ARCH_COUNT] = {
    [MODEL_LLAMA] = { "llama", "llama", MODEL_ROPE_NORM, false, false, MODEL_SILU, 0, 1e4f, 1e4f },
    [MODEL_QWEN2] = { "qwen2", "qwen2", MODEL_ROPE_NEOX, false, false, MODEL_SILU, 0, 1e4f, 1e4f },
    [MODEL_QWEN3] = { "qwen3", "qwen3", MODEL_ROPE_NEOX, true, false, MODEL_SILU, 0, 1e4f, 1e4f },
    [MODEL_GEMMA3] = { "gemma3", "gemma3_text", MODEL_ROPE_NEOX, true, true, MODEL_GELU_TANH, 6,
                       1e6f, 1e4f },
    [MODEL_BERT] = { "bert", "bert", MODEL_ROPE_NONE, false, false, MODEL_GELU_ERF, 0, 0, 0 },
    [MODEL_NOMIC_BERT] = { "nomic-bert", "nomic_bert", MODEL_ROPE_NEOX, false, false, MODEL_SILU, 0,
                           1e3f, 1e3f },
};

static void apply_row(model_arch arch, model_params *p)
{
    const arch_row *row = &arch_rows[arch];

    p->arch = arch;
    snprintf(p->arch_name, sizeof p->arch_name, "%s", row->gguf_name);
    p->rope = row->rope_gguf;
    p->qk_norm = row->qk_norm;
    p->post_norm = row->post_norm;
    p->act = row->act;
    p->rope_base = row->rope_base;
    p->rope_base_local = row->rope_base_local;
    p->rope_scale = 1;
    p->embed_scale = 1;
}

static sl_status check_range(const char *what, int64_t v, int64_t min, int64_t max, int32_t *ret,
                             sl_err *err)
{
    if (v < min || v > max)
        return sl_fail(err, SL_EFORMAT, "model: %s is %lld, expected %lld to %lld", what,
                       (long long)v, (long long)min, (long long)max);
    *ret = (int32_t)v;
    return SL_OK;
}

/* Relations between the numbers, the same for all sources. Also derives what is left. */
static sl_status finish(model_params *p, sl_err *err)
{
    if (p->heads % p->kv_heads != 0)
        return sl_fail(err, SL_EFORMAT, "model: %d heads are not a multiple of %d KV heads",
                       p->heads, p->kv_heads);
    if (p->rope != MODEL_ROPE_NONE && (p->rope_dim % 2 != 0 || p->rope_dim > p->head_dim))
        return sl_fail(err, SL_EFORMAT, "model: RoPE rotates %d of %d head dimensions", p->rope_dim,
                       p->head_dim);
    if (!(p->norm_eps > 0 && p->norm_eps < 1))
        return sl_fail(err, SL_EFORMAT, "model: normalisation epsilon %g is out of range",
                       (double)p->norm_eps);
    if (p->rope != MODEL_ROPE_NONE && (!(p->rope_base > 1) || !(p->rope_scale > 0)))
        return sl_fail(err, SL_EFORMAT, "model: RoPE base %g or scale %g is out of range",
                       (double)p->rope_base, (double)p->rope_scale);
    if (p->attn_scale == 0)
        p->attn_scale = 1.0f / sqrtf((float)p->head_dim);
    if (!isfinite(p->attn_scale) || !isfinite(p->embed_scale))
        return sl_fail(err, SL_EFORMAT, "model: a scale is not finite");
    if (!model_arch_encodes(p->arch) && p->pool != MODEL_POOL_NONE && p->pool != MODEL_POOL_LAST)
        return sl_fail(err, SL_ENOTSUP,
                       "model: a %s model that pools other than its last token is not supported",
                       p->arch_name);
    return SL_OK;
}

/* ---- GGUF ---------------------------------------------------------------------------------- */

typedef struct keys {
    const gguf_dir *dir;
    const char *arch;
    char text[128];
} keys;

static const char *key(keys *k, const char *suffix)
{
    snprintf(k->text, sizeof k->text, "%s.%s", k->arch, suffix);
    return k->text;
}

/* An integer key, or the first element where the file holds an array per layer. All elements must
 * then agree: Sluice runs no model with layers of different widths yet. */
static sl_status int_key(keys *k, const char *suffix, int64_t fallback, int64_t min, int64_t max,
                         int32_t *ret, sl_err *err)
{
    const gguf_kv *kv = gguf_find(k->dir, key(k, suffix));
    int64_t v = gguf_get_int(k->dir, k->text, fallback);

    if (kv && kv->type == GGUF_ARRAY && kv->elem_type != GGUF_STRING && kv->count > 0) {
        v = gguf_array_int(kv, 0);
        for (uint64_t i = 1; i < kv->count; i++)
            if (gguf_array_int(kv, i) != v)
                return sl_fail(err, SL_ENOTSUP, "model: %s differs between layers", k->text);
    }
    return check_range(k->text, v, min, max, ret, err);
}

static sl_status find_arch(const gguf_dir *dir, model_arch *ret, sl_err *err)
{
    sl_span name = gguf_get_str(dir, "general.architecture");

    for (int a = 0; a < MODEL_ARCH_COUNT; a++)
        if (sl_span_eq(name, sl_span_str(arch_rows[a].gguf_name))) {
            *ret = (model_arch)a;
            return SL_OK;
        }
    if (!name.ptr)
        return sl_fail(err, SL_EFORMAT, "model: general.architecture is missing");
    return sl_fail(err, SL_ENOTSUP,
                   "model: architecture '%.*s' is not supported; supported: llama, qwen2, qwen3, "
                   "gemma3, bert, nomic-bert",
                   (int)SL_MIN(name.len, 40), (const char *)name.ptr);
}

static sl_status rope_from_gguf(keys *k, model_params *p, sl_err *err)
{
    const gguf_dir *dir = k->dir;
    sl_span scaling = gguf_get_str(dir, key(k, "rope.scaling.type"));
    double factor = gguf_get_float(dir, key(k, "rope.scale_linear"), 1);

    SL_TRY(int_key(k, "rope.dimension_count", p->head_dim, 2, p->head_dim, &p->rope_dim, err));
    p->rope_base = (float)gguf_get_float(dir, key(k, "rope.freq_base"), (double)p->rope_base);
    p->rope_base_local = (float)gguf_get_float(
        dir, key(k, "rope.freq_base_swa"), (double)(p->window ? p->rope_base_local : p->rope_base));
    if (scaling.ptr && sl_span_eq(scaling, sl_span_str("linear")))
        factor = gguf_get_float(dir, key(k, "rope.scaling.factor"), factor);
    else if (scaling.ptr && !sl_span_eq(scaling, sl_span_str("none")))
        return sl_fail(err, SL_ENOTSUP, "model: RoPE scaling '%.*s' is not supported",
                       (int)SL_MIN(scaling.len, 40), (const char *)scaling.ptr);
    p->rope_scale = (float)factor;
    return SL_OK;
}

static sl_status vocab_from_gguf(keys *k, model_params *p, sl_err *err)
{
    const gguf_kv *tokens = gguf_find(k->dir, "tokenizer.ggml.tokens");
    const tensor_info *embd = gguf_tensor(k->dir, "token_embd.weight");
    int64_t vocab = embd ? (int64_t)embd->dims[1] : tokens ? (int64_t)tokens->count : 0;

    return check_range("vocabulary size", vocab, 1, SL_MODEL_VOCAB_MAX, &p->vocab, err);
}

/* A decoder with a rank head is one that generates: the head repeats two rows of its output. */
static sl_status pool_from_gguf(keys *k, bool encoder, model_params *p, sl_err *err)
{
    int64_t type = gguf_get_int(k->dir, key(k, "pooling_type"), 0);

    if (type < 0 || type > MODEL_POOL_RANK)
        return sl_fail(err, SL_ENOTSUP, "model: %s %lld is not supported", k->text,
                       (long long)type);
    p->pool = (model_pool)type;
    if (encoder && type == MODEL_POOL_NONE)
        p->pool = MODEL_POOL_MEAN;
    if (!encoder && type == MODEL_POOL_RANK)
        p->pool = MODEL_POOL_NONE;
    p->pool_normalize = p->pool != MODEL_POOL_NONE && p->pool != MODEL_POOL_RANK;
    if (!encoder)
        return SL_OK;
    p->type_vocab = (int32_t)gguf_get_int(k->dir, "tokenizer.ggml.token_type_count", 2);
    /* Converted RoBERTa models are called bert too; their vocabulary tells. */
    p->pair_sep_twice =
        !sl_span_eq(gguf_get_str(k->dir, "tokenizer.ggml.model"), sl_span_str("bert"));
    return SL_OK;
}

sl_status model_params_from_gguf(const gguf_dir *dir, model_params *ret, sl_err *err)
{
    model_params p = { 0 };
    model_arch arch = MODEL_LLAMA;
    keys k = { .dir = dir };
    sl_span name = gguf_get_str(dir, "general.name");
    bool encoder;

    SL_TRY(find_arch(dir, &arch, err));
    apply_row(arch, &p);
    encoder = model_arch_encodes(arch);
    k.arch = arch_rows[arch].gguf_name;
    snprintf(p.name, sizeof p.name, "%.*s", (int)SL_MIN(name.len, sizeof p.name - 1),
             name.ptr ? (const char *)name.ptr : "");
    SL_TRY(int_key(&k, "block_count", 0, 1, SL_MODEL_LAYERS_MAX, &p.layers, err));
    SL_TRY(int_key(&k, "embedding_length", 0, 1, SL_MODEL_DIM_MAX, &p.dim, err));
    SL_TRY(int_key(&k, "attention.head_count", 0, 1, 4096, &p.heads, err));
    SL_TRY(int_key(&k, "attention.head_count_kv", p.heads, 1, p.heads, &p.kv_heads, err));
    SL_TRY(int_key(&k, "attention.key_length", p.dim / p.heads, 1, 1024, &p.head_dim, err));
    SL_TRY(int_key(&k, "feed_forward_length", 0, 1, SL_MODEL_DIM_MAX * 8, &p.ff_dim, err));
    SL_TRY(int_key(&k, "context_length", 0, 1, SL_MODEL_CONTEXT_MAX, &p.context, err));
    if (gguf_get_int(dir, key(&k, "attention.value_length"), p.head_dim) != p.head_dim)
        return sl_fail(err, SL_ENOTSUP, "model: keys and values of different lengths");
    if (gguf_get_int(dir, key(&k, "expert_count"), 0) > 0)
        return sl_fail(err, SL_ENOTSUP, "model: mixture-of-experts layers are not supported yet");
    SL_TRY(vocab_from_gguf(&k, &p, err));
    p.norm_eps = (float)gguf_get_float(
        dir, key(&k, encoder ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"),
        encoder ? 1e-12 : 1e-5);
    p.attn_scale = (float)gguf_get_float(dir, key(&k, "attention.scale"), 0);
    p.attn_softcap = (float)gguf_get_float(dir, key(&k, "attn_logit_softcapping"), 0);
    p.logit_softcap = (float)gguf_get_float(dir, key(&k, "final_logit_softcapping"), 0);
    if (arch_rows[arch].window_pattern) {
        SL_TRY(int_key(&k, "attention.sliding_window", 0, 0, SL_MODEL_CONTEXT_MAX, &p.window, err));
        p.window_pattern = arch_rows[arch].window_pattern;
        SL_TRY(int_key(&k, "attention.sliding_window_pattern", p.window_pattern, 1, 64,
                       &p.window_pattern, err));
        p.embed_scale = sqrtf((float)p.dim);
        /* The 27B model scales queries by dim/heads instead of the head's own width. */
        if (p.attn_scale == 0 && p.layers == 62)
            p.attn_scale = 1.0f / sqrtf((float)p.dim / (float)p.heads);
    }
    if (p.rope != MODEL_ROPE_NONE)
        SL_TRY(rope_from_gguf(&k, &p, err));
    SL_TRY(pool_from_gguf(&k, encoder, &p, err));
    SL_TRY(finish(&p, err));
    *ret = p;
    return SL_OK;
}

/* ---- Hugging Face -------------------------------------------------------------------------- */

static sl_status hf_int(const json_t *c, const char *name, int64_t fallback, int64_t min,
                        int64_t max, int32_t *ret, sl_err *err)
{
    const json_t *v = json_object_get(c, name);

    return check_range(name, json_is_integer(v) ? json_integer_value(v) : fallback, min, max, ret,
                       err);
}

static float hf_float(const json_t *c, const char *name, double fallback)
{
    const json_t *v = json_object_get(c, name);

    return (float)(json_is_number(v) ? json_number_value(v) : fallback);
}

static sl_status hf_rope(const json_t *c, model_params *p, sl_err *err)
{
    const json_t *s = json_object_get(c, "rope_scaling");
    const char *type = json_string_value(json_object_get(s, "rope_type"));

    if (!type)
        type = json_string_value(json_object_get(s, "type"));
    p->rope = MODEL_ROPE_NEOX;
    p->rope_dim = p->head_dim;
    p->rope_base = hf_float(c, "rope_theta", (double)p->rope_base);
    p->rope_base_local = hf_float(c, "rope_local_base_freq",
                                  (double)(p->window ? p->rope_base_local : p->rope_base));
    if (!json_is_object(s) || !type || strcmp(type, "default") == 0)
        return SL_OK;
    if (strcmp(type, "linear") == 0) {
        p->rope_scale = hf_float(s, "factor", 1);
        return SL_OK;
    }
    if (strcmp(type, "llama3") != 0)
        return sl_fail(err, SL_ENOTSUP, "model: RoPE scaling '%.40s' is not supported", type);
    p->rope_l3_factor = hf_float(s, "factor", 8);
    p->rope_l3_low = hf_float(s, "low_freq_factor", 1);
    p->rope_l3_high = hf_float(s, "high_freq_factor", 4);
    return hf_int(s, "original_max_position_embeddings", 8192, 1, SL_MODEL_CONTEXT_MAX,
                  &p->rope_l3_context, err);
}

/* modules: modules.json of Sentence Transformers, or NULL. Where it is there, it says whether
 * vectors are normalized; else they are. */
static void hf_pooling(const json_t *pooling, const json_t *modules, model_pool fallback,
                       model_params *p)
{
    p->pool = fallback;
    if (json_is_true(json_object_get(pooling, "pooling_mode_mean_tokens")))
        p->pool = MODEL_POOL_MEAN;
    if (json_is_true(json_object_get(pooling, "pooling_mode_cls_token")))
        p->pool = MODEL_POOL_CLS;
    else if (json_is_true(json_object_get(pooling, "pooling_mode_lasttoken")))
        p->pool = MODEL_POOL_LAST;
    p->pool_normalize = p->pool != MODEL_POOL_NONE && !json_is_array(modules);
    for (size_t i = 0; i < json_array_size(modules); i++) {
        const char *type = json_string_value(json_object_get(json_array_get(modules, i), "type"));
        size_t len = type ? strlen(type) : 0;

        p->pool_normalize |= len >= 9 && strcmp(type + len - 9, "Normalize") == 0;
    }
}

/* A model with a head that classifies texts scores pairs. */
static bool hf_classifies(const json_t *c)
{
    const char *name = json_string_value(json_array_get(json_object_get(c, "architectures"), 0));

    return name && strstr(name, "ForSequenceClassification");
}

static sl_status hf_act(const json_t *c, const char *key, model_params *p, sl_err *err)
{
    static const struct {
        const char *name;
        model_act act;
    } known[] = { { "gelu", MODEL_GELU_ERF },
                  { "gelu_new", MODEL_GELU_TANH },
                  { "gelu_pytorch_tanh", MODEL_GELU_TANH },
                  { "swiglu", MODEL_SILU } };
    const char *name = json_string_value(json_object_get(c, key));

    if (!name)
        return SL_OK;
    for (size_t i = 0; i < SL_COUNT_OF(known); i++)
        if (strcmp(name, known[i].name) == 0) {
            p->act = known[i].act;
            return SL_OK;
        }
    return sl_fail(err, SL_ENOTSUP, "config.json: %s '%.40s' is not supported", key, name);
}

static bool is_roberta(const char *type)
{
    return strcmp(type, "xlm-roberta") == 0 || strcmp(type, "roberta") == 0 ||
           strcmp(type, "camembert") == 0;
}

static sl_status hf_bert(const json_t *c, const char *type, model_params *p, sl_err *err)
{
    const char *positions = json_string_value(json_object_get(c, "position_embedding_type"));

    if (positions && strcmp(positions, "absolute") != 0)
        return sl_fail(err, SL_ENOTSUP,
                       "config.json: position_embedding_type '%.40s' is not supported", positions);
    p->norm_eps = hf_float(c, "layer_norm_eps", 1e-12);
    SL_TRY(hf_act(c, "hidden_act", p, err));
    if (is_roberta(type)) {
        p->pair_sep_twice = true;
        p->prefix = MODEL_PREFIX_ROBERTA;
        /* Positions count from behind that of the padding token. */
        SL_TRY(hf_int(c, "pad_token_id", 1, 0, 1024, &p->position_skip, err));
        p->position_skip++;
        SL_TRY(check_range("max_position_embeddings", p->context - p->position_skip, 1,
                           SL_MODEL_CONTEXT_MAX, &p->context, err));
    }
    return hf_int(c, "type_vocab_size", p->prefix == MODEL_PREFIX_ROBERTA ? 1 : 2, 0, 1024,
                  &p->type_vocab, err);
}

/* Its configuration has GPT-2's names. */
static sl_status hf_nomic(const json_t *c, model_params *p, sl_err *err)
{
    static const char *const off[] = { "prenorm", "use_rms_norm", "qkv_proj_bias",
                                       "rotary_emb_interleaved", "parallel_block" };

    for (size_t i = 0; i < SL_COUNT_OF(off); i++)
        if (json_is_true(json_object_get(c, off[i])))
            return sl_fail(err, SL_ENOTSUP, "config.json: %s is not supported", off[i]);
    if (json_is_integer(json_object_get(c, "num_experts")) ||
        hf_float(c, "rotary_emb_fraction", 1) != 1)
        return sl_fail(
            err, SL_ENOTSUP,
            "config.json: experts, and rotations of a part of a head, are not supported");
    SL_TRY(hf_act(c, "activation_function", p, err));
    p->norm_eps = hf_float(c, "layer_norm_epsilon", 1e-12);
    p->rope_dim = p->head_dim;
    p->rope_base = p->rope_base_local = hf_float(c, "rotary_emb_base", 1000);
    SL_TRY(
        hf_int(c, "max_trained_positions", p->context, 1, SL_MODEL_CONTEXT_MAX, &p->context, err));
    return hf_int(c, "type_vocab_size", 2, 0, 1024, &p->type_vocab, err);
}

static sl_status hf_encoder(const json_t *c, const char *type, const json_t *pooling,
                            const json_t *modules, model_params *p, sl_err *err)
{
    hf_pooling(pooling, modules, MODEL_POOL_MEAN, p);
    if (hf_classifies(c)) {
        p->pool = MODEL_POOL_RANK;
        p->pool_normalize = false;
    }
    return p->arch == MODEL_BERT ? hf_bert(c, type, p, err) : hf_nomic(c, p, err);
}

static sl_status hf_gemma(const json_t *c, model_params *p, sl_err *err)
{
    p->norm_plus_one = true;
    p->embed_scale = sqrtf((float)p->dim);
    p->window_pattern = arch_rows[MODEL_GEMMA3].window_pattern;
    SL_TRY(hf_int(c, "sliding_window", 0, 0, SL_MODEL_CONTEXT_MAX, &p->window, err));
    SL_TRY(hf_int(c, "sliding_window_pattern", p->window_pattern, 1, 64, &p->window_pattern, err));
    p->attn_scale = 1.0f / sqrtf(hf_float(c, "query_pre_attn_scalar", p->head_dim));
    return SL_OK;
}

/* The row of a model_type; MODEL_ARCH_COUNT: there is none. */
static int hf_arch(const char *type)
{
    int arch = 0;

    if (strcmp(type, "mistral") == 0)
        return MODEL_LLAMA; /* the same network */
    if (is_roberta(type))
        return MODEL_BERT;
    while (arch < MODEL_ARCH_COUNT && strcmp(type, arch_rows[arch].hf_name) != 0)
        arch++;
    return arch;
}

/* What Hugging Face calls the sizes, and GPT-2's names, which nomic_bert has. */
static sl_status hf_sizes(const json_t *c, model_params *p, sl_err *err)
{
    bool gpt = p->arch == MODEL_NOMIC_BERT;

    SL_TRY(hf_int(c, gpt ? "n_layer" : "num_hidden_layers", 0, 1, SL_MODEL_LAYERS_MAX, &p->layers,
                  err));
    SL_TRY(hf_int(c, gpt ? "n_embd" : "hidden_size", 0, 1, SL_MODEL_DIM_MAX, &p->dim, err));
    SL_TRY(hf_int(c, gpt ? "n_head" : "num_attention_heads", 0, 1, 4096, &p->heads, err));
    SL_TRY(hf_int(c, "num_key_value_heads", p->heads, 1, p->heads, &p->kv_heads, err));
    SL_TRY(hf_int(c, "head_dim", p->dim / p->heads, 1, 1024, &p->head_dim, err));
    SL_TRY(hf_int(c, gpt ? "n_inner" : "intermediate_size", gpt ? 4 * (int64_t)p->dim : 0, 1,
                  SL_MODEL_DIM_MAX * 8, &p->ff_dim, err));
    SL_TRY(hf_int(c, "vocab_size", 0, 1, SL_MODEL_VOCAB_MAX, &p->vocab, err));
    return hf_int(c, gpt ? "n_positions" : "max_position_embeddings", 2048, 1, SL_MODEL_CONTEXT_MAX,
                  &p->context, err);
}

sl_status model_params_from_hf(const json_t *c, const json_t *pooling, const json_t *modules,
                               model_params *ret, sl_err *err)
{
    model_params p = { 0 };
    const char *type = json_string_value(json_object_get(c, "model_type"));
    int arch;

    if (!type)
        return sl_fail(err, SL_EFORMAT, "config.json: model_type is missing");
    arch = hf_arch(type);
    if (arch == MODEL_ARCH_COUNT)
        return sl_fail(
            err, SL_ENOTSUP,
            "config.json: model_type '%.40s' is not supported; supported: llama, mistral, "
            "qwen2, qwen3, gemma3_text, bert, roberta, xlm-roberta, nomic_bert",
            type);
    apply_row((model_arch)arch, &p);
    p.hf_names = true;
    SL_TRY(hf_sizes(c, &p, err));
    if (model_arch_encodes(p.arch)) {
        SL_TRY(hf_encoder(c, type, pooling, modules, &p, err));
    } else {
        hf_pooling(pooling, modules, MODEL_POOL_NONE, &p);
        p.norm_eps = hf_float(c, "rms_norm_eps", 1e-6);
        if (arch == MODEL_GEMMA3)
            SL_TRY(hf_gemma(c, &p, err));
        SL_TRY(hf_rope(c, &p, err));
    }
    SL_TRY(finish(&p, err));
    *ret = p;
    return SL_OK;
}
