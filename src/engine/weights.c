/* weights.c - finds, checks and packs a model's tensors.
 *
 * Tensors are known by role. Each role has two names, GGUF's and Hugging Face's, so that one loader
 * serves both layouts. */
#include "engine/weights.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

typedef struct loader {
    const model_file *m;
    team *t;
    weights *w;
    bool hf;
    sl_err *err;
} loader;

/* GGUF and Hugging Face names of a role; %d is the layer. NULL: that layout never has it. */
typedef struct role {
    const char *gguf, *hf;
} role;

static const role r_embed = { "token_embd.weight", "model.embed_tokens.weight" };
static const role r_out_norm = { "output_norm.weight", "model.norm.weight" };
static const role r_head = { "output.weight", "lm_head.weight" };
static const role r_rope_freqs = { "rope_freqs.weight", NULL };
static const role r_attn_norm = { "blk.%d.attn_norm.weight",
                                  "model.layers.%d.input_layernorm.weight" };
static const role r_q = { "blk.%d.attn_q", "model.layers.%d.self_attn.q_proj" };
static const role r_k = { "blk.%d.attn_k", "model.layers.%d.self_attn.k_proj" };
static const role r_v = { "blk.%d.attn_v", "model.layers.%d.self_attn.v_proj" };
static const role r_o = { "blk.%d.attn_output", "model.layers.%d.self_attn.o_proj" };
static const role r_q_norm = { "blk.%d.attn_q_norm.weight",
                               "model.layers.%d.self_attn.q_norm.weight" };
static const role r_k_norm = { "blk.%d.attn_k_norm.weight",
                               "model.layers.%d.self_attn.k_norm.weight" };
static const role r_gate = { "blk.%d.ffn_gate", "model.layers.%d.mlp.gate_proj" };
static const role r_up = { "blk.%d.ffn_up", "model.layers.%d.mlp.up_proj" };
static const role r_down = { "blk.%d.ffn_down", "model.layers.%d.mlp.down_proj" };
/* Where the norm before the FFN stands depends on whether there is one after attention too. */
static const role r_ffn_norm = { "blk.%d.ffn_norm.weight",
                                 "model.layers.%d.post_attention_layernorm.weight" };
static const role r_ffn_norm_g = { "blk.%d.ffn_norm.weight",
                                   "model.layers.%d.pre_feedforward_layernorm.weight" };
static const role r_post_attn = { "blk.%d.post_attention_norm.weight",
                                  "model.layers.%d.post_attention_layernorm.weight" };
static const role r_post_ffn = { "blk.%d.post_ffw_norm.weight",
                                 "model.layers.%d.post_feedforward_layernorm.weight" };

static const role b_embed = { "token_embd.weight", "embeddings.word_embeddings.weight" };
static const role b_position = { "position_embd.weight", "embeddings.position_embeddings.weight" };
static const role b_types = { "token_types.weight", "embeddings.token_type_embeddings.weight" };
static const role b_embed_norm = { "token_embd_norm", "embeddings.LayerNorm" };
static const role b_q = { "blk.%d.attn_q", "encoder.layer.%d.attention.self.query" };
static const role b_k = { "blk.%d.attn_k", "encoder.layer.%d.attention.self.key" };
static const role b_v = { "blk.%d.attn_v", "encoder.layer.%d.attention.self.value" };
static const role b_o = { "blk.%d.attn_output", "encoder.layer.%d.attention.output.dense" };
static const role b_attn_norm = { "blk.%d.attn_output_norm",
                                  "encoder.layer.%d.attention.output.LayerNorm" };
static const role b_up = { "blk.%d.ffn_up", "encoder.layer.%d.intermediate.dense" };
static const role b_down = { "blk.%d.ffn_down", "encoder.layer.%d.output.dense" };
static const role b_ffn_norm = { "blk.%d.layer_output_norm", "encoder.layer.%d.output.LayerNorm" };

/* Tensors of nomic-bert; the rest has BERT's names. */
static const role n_embed_norm = { "token_embd_norm", "emb_ln" };
static const role n_qkv = { "blk.%d.attn_qkv", "encoder.layers.%d.attn.Wqkv" };
static const role n_o = { "blk.%d.attn_output", "encoder.layers.%d.attn.out_proj" };
static const role n_attn_norm = { "blk.%d.attn_output_norm", "encoder.layers.%d.norm1" };
static const role n_gate = { "blk.%d.ffn_gate", "encoder.layers.%d.mlp.fc12" };
static const role n_up = { "blk.%d.ffn_up", "encoder.layers.%d.mlp.fc11" };
static const role n_down = { "blk.%d.ffn_down", "encoder.layers.%d.mlp.fc2" };
static const role n_ffn_norm = { "blk.%d.layer_output_norm", "encoder.layers.%d.norm2" };

/* Heads that score pairs: BERT's pooler and classifier; RoBERTa's head is one module. GGUF has the
 * same two names for both. */
static const role h_pooler = { "cls", "pooler.dense" };
static const role h_rank = { "cls.output", "classifier" };
static const role h_pooler_r = { "cls", "classifier.dense" };
static const role h_rank_r = { "cls.output", "classifier.out_proj" };

/* The role's tensor with a suffix (".weight", ".bias" or ""), or NULL. Hugging Face's files come
 * with and without the prefix of the class that saved them. */
static const tensor_info *find(const loader *l, role r, int layer, const char *suffix,
                               char name[256])
{
    static const char *const prefixes[] = { "bert.", "roberta." };
    const model_params *p = &l->w->params;
    const char *pattern = l->hf ? r.hf : r.gguf;
    const char *spot = pattern ? strstr(pattern, "%d") : NULL;
    const tensor_info *t;
    char plain[200];

    if (!pattern)
        return NULL;
    if (spot)
        snprintf(plain, sizeof plain, "%.*s%d%s%s", (int)(spot - pattern), pattern, layer, spot + 2,
                 suffix);
    else
        snprintf(plain, sizeof plain, "%s%s", pattern, suffix);
    snprintf(name, 256, "%s", plain);
    t = model_file_tensor(l->m, name);
    if (t || !l->hf)
        return t;
    if (model_arch_encodes(p->arch))
        snprintf(name, 256, "%s%s", prefixes[p->prefix], plain);
    else if (strncmp(plain, "model.", 6) == 0)
        snprintf(name, 256, "%s", plain + 6);
    t = model_file_tensor(l->m, name);
    snprintf(name, 256, "%s", plain);
    return t;
}

static sl_status missing(const loader *l, const char *name)
{
    return sl_fail(l->err, SL_EFORMAT, "model: tensor '%s' is missing", name);
}

static sl_status wrong_shape(const loader *l, const char *name, const tensor_info *t, int cols,
                             int rows)
{
    return sl_fail(l->err, SL_EFORMAT, "model: tensor '%s' is %llu x %llu, expected %d x %d", name,
                   (unsigned long long)t->dims[0], (unsigned long long)t->dims[1], cols, rows);
}

static bool is_shape(const tensor_info *t, int cols, int rows)
{
    return t->dims[0] == (uint64_t)cols && t->dims[1] == (uint64_t)rows && t->dims[2] == 1 &&
           t->dims[3] == 1;
}

/* Any tensor as floats, `plus` added; padded with zeros to a multiple of 16. */
static sl_status load_floats(loader *l, const tensor_info *t, const char *name, int count,
                             float plus, float **ret)
{
    size_t padded = ((size_t)count + KERNELS_ROWS - 1) / KERNELS_ROWS * KERNELS_ROWS;

    if (tensor_elems(t) != (uint64_t)count)
        return wrong_shape(l, name, t, count, 1);
    if (kernels_fmt_of(t->type) < 0)
        return sl_fail(l->err, SL_ENOTSUP, "model: tensor '%s' has type %s", name,
                       tensor_type_name(t->type));
    *ret = sl_calloc(padded, sizeof **ret);
    if (!*ret)
        return sl_fail(l->err, SL_ENOMEM, "out of memory for tensor '%s'", name);
    l->w->bytes += padded * sizeof **ret;
    kernels_dequant(t->type, t->data.ptr, (size_t)count, *ret);
    for (int i = 0; i < count; i++)
        (*ret)[i] += plus;
    return SL_OK;
}

static sl_status load_vector(loader *l, role r, int layer, const char *suffix, int count,
                             bool optional, float plus, float **ret)
{
    char name[256];
    const tensor_info *t = find(l, r, layer, suffix, name);

    if (!t)
        return optional ? SL_OK : missing(l, name);
    return load_floats(l, t, name, count, plus, ret);
}

/* Norm weights of decoders; Hugging Face's gemma stores them less 1. */
static sl_status load_norm(loader *l, role r, int layer, int count, bool optional, float **ret)
{
    return load_vector(l, r, layer, "", count, optional, l->w->params.norm_plus_one ? 1.0f : 0.0f,
                       ret);
}

/* Packed panels start on cache lines; what prefetching reads beyond the last one is slack. */
#define SLAB_ALIGN 64
#define SLAB_SLACK (64 * SL_KIB)
#define PACK_BYTES (2 * SL_MIB) /* of the file, after which its pages are let go */

static size_t packed_bytes(const tensor_info *t)
{
    int fmt = kernels_fmt_of(t->type);
    uint64_t rows = t->dims[1] * t->dims[2] * t->dims[3];
    size_t bytes;

    if (fmt < 0 || !sl_mul(kernels_panel_bytes((kernels_fmt)fmt, t->dims[0]),
                           (size_t)(rows / KERNELS_ROWS + 1), &bytes))
        return 0;
    return bytes + SLAB_ALIGN;
}

/* Room for every tensor there is; pages that no matrix takes are never touched. */
static sl_status slab_create(loader *l)
{
    weights *w = l->w;

    w->slab_bytes = SLAB_SLACK;
    for (size_t i = 0; i < model_file_tensor_count(l->m); i++)
        if (!sl_add(w->slab_bytes, packed_bytes(model_file_tensor_at(l->m, i)), &w->slab_bytes))
            return sl_fail(l->err, SL_EFORMAT, "model: tensors larger than any memory");
    w->slab = sl_aligned_alloc(w->slab_bytes);
    return w->slab ? SL_OK
                   : sl_fail(l->err, SL_ENOMEM, "out of memory: the weights need %zu MiB",
                             w->slab_bytes / SL_MIB);
}

typedef struct pack_job {
    const tensor_info *t;
    weight *w;
} pack_job;

static void pack_share(void *ctx, int member, int count)
{
    pack_job *job = ctx;
    weight *w = job->w;
    size_t row_bytes = job->t->data.len / (size_t)w->rows;
    int begin, end, done, chunk = (int)(PACK_BYTES / (row_bytes * KERNELS_ROWS)) + 1;

    team_share(w->panels, member, count, &begin, &end);
    for (int p = begin; p < end; p = done) {
        const uint8_t *rows = job->t->data.ptr + (size_t)p * KERNELS_ROWS * row_bytes;
        int last;

        done = SL_MIN(p + chunk, end);
        for (int i = p; i < done; i++) {
            int first = i * KERNELS_ROWS;

            kernels_pack_panel(job->t->type, job->t->data.ptr + (size_t)first * row_bytes,
                               row_bytes, (size_t)SL_MIN(KERNELS_ROWS, w->rows - first),
                               (size_t)w->cols, w->data + (size_t)i * w->panel_bytes);
        }
        last = SL_MIN(done * KERNELS_ROWS, w->rows) - p * KERNELS_ROWS;
        model_file_release_pages(sl_span_of(rows, (size_t)last * row_bytes));
    }
}

static sl_status pack(loader *l, const tensor_info *t, const char *name, int cols, int rows,
                      weight *w)
{
    int fmt = kernels_fmt_of(t->type);
    pack_job job = { t, w };
    size_t at = (l->w->slab_used + SLAB_ALIGN - 1) / SLAB_ALIGN * SLAB_ALIGN, bytes;

    if (!is_shape(t, cols, rows))
        return wrong_shape(l, name, t, cols, rows);
    if (fmt < 0)
        return sl_fail(l->err, SL_ENOTSUP, "model: tensor '%s' has type %s, not a weight type",
                       name, tensor_type_name(t->type));
    w->fmt = (kernels_fmt)fmt;
    w->rows = rows;
    w->cols = cols;
    w->panels = (rows + KERNELS_ROWS - 1) / KERNELS_ROWS;
    w->panel_bytes = kernels_panel_bytes(w->fmt, (size_t)cols);
    bytes = w->panel_bytes * (size_t)w->panels;
    if (at + bytes + SLAB_SLACK > l->w->slab_bytes)
        return sl_fail(l->err, SL_EFORMAT, "model: tensor '%s' is used twice", name);
    w->data = l->w->slab + at;
    l->w->slab_used = at + bytes;
    l->w->cols_max = SL_MAX(l->w->cols_max, (size_t)cols);
    l->w->bytes += bytes;
    team_run(l->t, pack_share, &job);
    return SL_OK;
}

/* role names the matrix without ".weight"; the bias is taken when there is one. */
static sl_status load_matrix(loader *l, role r, int layer, int cols, int rows, weight *w)
{
    char name[256];
    const tensor_info *t = find(l, r, layer, ".weight", name);

    if (!t)
        return missing(l, name);
    SL_TRY(pack(l, t, name, cols, rows, w));
    return load_vector(l, r, layer, ".bias", rows, true, 0, &w->bias);
}

static sl_status load_decoder_layer(loader *l, int i, weights_layer *layer)
{
    const model_params *p = &l->w->params;
    int q_rows = p->heads * p->head_dim, kv_rows = p->kv_heads * p->head_dim;

    SL_TRY(load_norm(l, r_attn_norm, i, p->dim, false, &layer->attn_norm));
    SL_TRY(
        load_norm(l, p->post_norm ? r_ffn_norm_g : r_ffn_norm, i, p->dim, false, &layer->ffn_norm));
    if (p->post_norm) {
        SL_TRY(load_norm(l, r_post_attn, i, p->dim, false, &layer->post_attn_norm));
        SL_TRY(load_norm(l, r_post_ffn, i, p->dim, false, &layer->post_ffn_norm));
    }
    if (p->qk_norm) {
        SL_TRY(load_norm(l, r_q_norm, i, p->head_dim, false, &layer->q_norm));
        SL_TRY(load_norm(l, r_k_norm, i, p->head_dim, false, &layer->k_norm));
    }
    SL_TRY(load_matrix(l, r_q, i, p->dim, q_rows, &layer->q));
    SL_TRY(load_matrix(l, r_k, i, p->dim, kv_rows, &layer->k));
    SL_TRY(load_matrix(l, r_v, i, p->dim, kv_rows, &layer->v));
    SL_TRY(load_matrix(l, r_o, i, q_rows, p->dim, &layer->o));
    SL_TRY(load_matrix(l, r_gate, i, p->dim, p->ff_dim, &layer->gate));
    SL_TRY(load_matrix(l, r_up, i, p->dim, p->ff_dim, &layer->up));
    return load_matrix(l, r_down, i, p->ff_dim, p->dim, &layer->down);
}

static sl_status load_decoder(loader *l)
{
    weights *w = l->w;
    const model_params *p = &w->params;
    char name[256];
    const tensor_info *head;

    w->embed = find(l, r_embed, 0, "", name);
    if (!w->embed)
        return missing(l, name);
    if (!is_shape(w->embed, p->dim, p->vocab))
        return wrong_shape(l, name, w->embed, p->dim, p->vocab);
    SL_TRY(load_norm(l, r_out_norm, 0, p->dim, false, &w->out_norm));
    SL_TRY(load_vector(l, r_rope_freqs, 0, "", p->rope_dim / 2, true, 0, &w->rope_freqs));
    for (int i = 0; i < p->layers; i++)
        SL_TRY(load_decoder_layer(l, i, &w->layers[i]));
    if (p->pool != MODEL_POOL_NONE)
        return SL_OK; /* nobody asks it for a token */
    head = find(l, r_head, 0, "", name);
    return pack(l, head ? head : w->embed, head ? name : "token_embd.weight", p->dim, p->vocab,
                &w->head);
}

static sl_status load_layernorm(loader *l, role r, int layer, float **scale, float **shift)
{
    SL_TRY(load_vector(l, r, layer, ".weight", l->w->params.dim, false, 0, scale));
    return load_vector(l, r, layer, ".bias", l->w->params.dim, false, 0, shift);
}

/* One of the three matrices that a fused one is made of, as if it were a tensor of its own. */
static tensor_info third_of(const tensor_info *t, int which)
{
    tensor_info part = *t;

    part.dims[1] /= 3;
    part.data.len /= 3;
    part.data.ptr += (size_t)which * part.data.len;
    return part;
}

static sl_status load_fused(loader *l, int i, weights_layer *layer)
{
    const model_params *p = &l->w->params;
    weight *parts[] = { &layer->q, &layer->k, &layer->v };
    char name[256];
    const tensor_info *t = find(l, n_qkv, i, ".weight", name);

    if (!t)
        return missing(l, name);
    if (!is_shape(t, p->dim, 3 * p->dim))
        return wrong_shape(l, name, t, p->dim, 3 * p->dim);
    for (int j = 0; j < 3; j++) {
        tensor_info part = third_of(t, j);

        SL_TRY(pack(l, &part, name, p->dim, p->dim, parts[j]));
    }
    if (find(l, n_qkv, i, ".bias", name))
        return sl_fail(l->err, SL_ENOTSUP, "model: tensor '%s' is not supported", name);
    return SL_OK;
}

static sl_status load_encoder_layer(loader *l, int i, weights_layer *layer)
{
    const model_params *p = &l->w->params;

    SL_TRY(load_matrix(l, b_q, i, p->dim, p->dim, &layer->q));
    SL_TRY(load_matrix(l, b_k, i, p->dim, p->dim, &layer->k));
    SL_TRY(load_matrix(l, b_v, i, p->dim, p->dim, &layer->v));
    SL_TRY(load_matrix(l, b_o, i, p->dim, p->dim, &layer->o));
    SL_TRY(load_layernorm(l, b_attn_norm, i, &layer->attn_norm, &layer->attn_norm_b));
    SL_TRY(load_matrix(l, b_up, i, p->dim, p->ff_dim, &layer->up));
    SL_TRY(load_matrix(l, b_down, i, p->ff_dim, p->dim, &layer->down));
    return load_layernorm(l, b_ffn_norm, i, &layer->ffn_norm, &layer->ffn_norm_b);
}

static sl_status load_nomic_layer(loader *l, int i, weights_layer *layer)
{
    const model_params *p = &l->w->params;

    SL_TRY(load_fused(l, i, layer));
    SL_TRY(load_matrix(l, n_o, i, p->dim, p->dim, &layer->o));
    SL_TRY(load_layernorm(l, n_attn_norm, i, &layer->attn_norm, &layer->attn_norm_b));
    SL_TRY(load_matrix(l, n_gate, i, p->dim, p->ff_dim, &layer->gate));
    SL_TRY(load_matrix(l, n_up, i, p->dim, p->ff_dim, &layer->up));
    SL_TRY(load_matrix(l, n_down, i, p->ff_dim, p->dim, &layer->down));
    return load_layernorm(l, n_ffn_norm, i, &layer->ffn_norm, &layer->ffn_norm_b);
}

/* `rows` rows of a table from row `from` on, as floats. */
static sl_status load_rows(loader *l, role r, int from, int rows, float **ret)
{
    int dim = l->w->params.dim;
    char name[256];
    const tensor_info *t = find(l, r, 0, "", name);
    tensor_info part;

    if (!t)
        return missing(l, name);
    if (t->dims[0] != (uint64_t)dim || t->dims[1] < (uint64_t)(from + rows) ||
        rows > INT32_MAX / dim)
        return wrong_shape(l, name, t, dim, from + rows);
    part = *t;
    part.data.ptr += t->data.len / t->dims[1] * (size_t)from;
    part.data.len = t->data.len / t->dims[1] * (size_t)rows;
    part.dims[1] = (uint64_t)rows;
    return load_floats(l, &part, name, rows * dim, 0, ret);
}

/* The head behind the first token's state. Some have no layer before the last one. */
static sl_status load_rank(loader *l)
{
    weights *w = l->w;
    int dim = w->params.dim;
    bool roberta = w->params.prefix == MODEL_PREFIX_ROBERTA;
    role pooler = roberta ? h_pooler_r : h_pooler, rank = roberta ? h_rank_r : h_rank;
    char name[256];
    const tensor_info *t = find(l, rank, 0, ".weight", name);

    if (dim > 1 << 15)
        return sl_fail(l->err, SL_ENOTSUP, "model: a head over %d numbers", dim);
    if (!t && !l->hf) {
        rank = h_pooler; /* files of a head of one layer */
        t = find(l, rank, 0, ".weight", name);
    } else {
        SL_TRY(load_vector(l, pooler, 0, ".weight", dim * dim, !l->hf, 0, &w->pooler));
        SL_TRY(load_vector(l, pooler, 0, ".bias", dim, true, 0, &w->pooler_b));
    }
    if (!t)
        return missing(l, name);
    if (!is_shape(t, dim, 1))
        return sl_fail(l->err, SL_ENOTSUP,
                       "model: the classifier '%s' has %llu labels; one that scores documents has "
                       "one",
                       name, (unsigned long long)t->dims[1]);
    SL_TRY(load_vector(l, rank, 0, ".weight", dim, false, 0, &w->rank));
    return load_vector(l, rank, 0, ".bias", 1, true, 0, &w->rank_b);
}

static sl_status load_encoder(loader *l)
{
    weights *w = l->w;
    const model_params *p = &w->params;
    bool nomic = p->arch == MODEL_NOMIC_BERT;
    char name[256];

    if (p->heads * p->head_dim != p->dim)
        return sl_fail(l->err, SL_EFORMAT, "model: %d heads of %d do not make %d", p->heads,
                       p->head_dim, p->dim);
    w->embed = find(l, b_embed, 0, "", name);
    if (!w->embed)
        return missing(l, name);
    if (!is_shape(w->embed, p->dim, p->vocab))
        return wrong_shape(l, name, w->embed, p->dim, p->vocab);
    if (p->rope == MODEL_ROPE_NONE)
        SL_TRY(load_rows(l, b_position, p->position_skip, p->context, &w->position));
    if (p->type_vocab > 0 && (l->hf || find(l, b_types, 0, "", name)))
        SL_TRY(load_rows(l, b_types, 0, SL_MIN(p->type_vocab, 2), &w->types));
    SL_TRY(load_layernorm(l, nomic ? n_embed_norm : b_embed_norm, 0, &w->embed_norm,
                          &w->embed_norm_b));
    for (int i = 0; i < p->layers; i++)
        SL_TRY(nomic ? load_nomic_layer(l, i, &w->layers[i])
                     : load_encoder_layer(l, i, &w->layers[i]));
    return p->pool == MODEL_POOL_RANK ? load_rank(l) : SL_OK;
}

sl_status weights_load(const model_file *m, team *t, weights **ret, sl_err *err)
{
    weights *w = sl_calloc(1, sizeof *w);
    loader l = { .m = m, .t = t, .w = w, .hf = !model_file_gguf(m), .err = err };
    sl_status status;

    if (!w)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    status = model_file_params(m, &w->params, err);
    if (status == SL_OK) {
        w->layers = sl_calloc((size_t)w->params.layers, sizeof *w->layers);
        if (!w->layers)
            status = sl_fail(err, SL_ENOMEM, "out of memory");
    }
    if (status == SL_OK)
        status = slab_create(&l);
    if (status == SL_OK)
        status = model_arch_encodes(w->params.arch) ? load_encoder(&l) : load_decoder(&l);
    if (status == SL_OK && kernels_fmt_of(w->embed->type) < 0)
        status = sl_fail(err, SL_ENOTSUP, "model: token embeddings of type %s",
                         tensor_type_name(w->embed->type));
    if (status == SL_OK)
        model_file_random_pages(w->embed->data); /* rows are read where the text takes us */
    if (status == SL_OK)
        *ret = w;
    else
        weights_destroy(w);
    return status;
}

static void free_layer(weights_layer *l)
{
    float *vectors[] = { l->attn_norm, l->attn_norm_b,    l->ffn_norm,      l->ffn_norm_b,
                         l->q_norm,    l->post_attn_norm, l->post_ffn_norm, l->k_norm };
    weight *matrices[] = { &l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down };

    for (size_t i = 0; i < SL_COUNT_OF(vectors); i++)
        sl_free(vectors[i]);
    for (size_t i = 0; i < SL_COUNT_OF(matrices); i++)
        sl_free(matrices[i]->bias);
}

void weights_destroy(weights *w)
{
    if (!w)
        return;
    for (int i = 0; w->layers && i < w->params.layers; i++)
        free_layer(&w->layers[i]);
    sl_free(w->layers);
    sl_free(w->position);
    sl_free(w->types);
    sl_free(w->pooler);
    sl_free(w->pooler_b);
    sl_free(w->rank);
    sl_free(w->rank_b);
    sl_free(w->embed_norm);
    sl_free(w->embed_norm_b);
    sl_free(w->out_norm);
    sl_free(w->rope_freqs);
    sl_aligned_free(w->slab, w->slab_bytes);
    sl_free(w);
}
