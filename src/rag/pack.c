/* pack.c - what of the documents is read: sections, as long as there is room.
 *
 * Passages are found small and read large. In the order of their rank each is read with its whole
 * section if that still fits, else alone; what overlaps a block that is there already joins it. So
 * the best ones are read whole, and nothing is dropped without being listed. */
#include "rag/answer_int.h"

#define CUT_MIN 64 /* bytes of a block that are worth a prompt */

typedef struct packer {
    const rag_hits *hits;
    const pack_options *o;
    pack *out;
    size_t used; /* tokens */
    sl_err *err;
} packer;

/* A candidate: a text with its place in the document of a hit. */
typedef struct piece {
    int64_t begin, end;
    const char *text; /* [end - begin] */
} piece;

static bool is_same_document(const packer *p, size_t block, size_t hit)
{
    return p->hits->items[p->out->items[block].hit].document_id == p->hits->items[hit].document_id;
}

/* The text of both, which overlap or touch; NULL when out of memory. */
static char *join(const pack_block *b, const piece *c)
{
    int64_t begin = SL_MIN(b->begin, c->begin), end = SL_MAX(b->end, c->end);
    char *text = sl_malloc((size_t)(end - begin) + 1);

    if (!text)
        return NULL;
    memcpy(text + (c->begin - begin), c->text, (size_t)(c->end - c->begin));
    memcpy(text + (b->begin - begin), b->text, (size_t)(b->end - b->begin));
    text[end - begin] = '\0';
    return text;
}

static sl_status count(const packer *p, const char *text, int64_t len, size_t *ret)
{
    return p->o->count(p->o->ctx, text, (size_t)len, ret, p->err);
}

/* Lets a block grow by the piece if there is room. */
static sl_status grow(packer *p, pack_block *b, const piece *c, bool *ret_done)
{
    int64_t begin = SL_MIN(b->begin, c->begin), end = SL_MAX(b->end, c->end);
    char *text = join(b, c);
    size_t tokens = 0;
    sl_status status;

    if (!text)
        return sl_fail(p->err, SL_ENOMEM, "out of memory");
    status = count(p, text, end - begin, &tokens);
    *ret_done = status == SL_OK && p->used - b->tokens + tokens <= p->o->budget;
    if (!*ret_done) {
        sl_free(text);
        return status;
    }
    p->used += tokens - b->tokens;
    sl_free(b->text);
    *b = (pack_block){ .hit = b->hit, .begin = begin, .end = end, .text = text, .tokens = tokens };
    return SL_OK;
}

static sl_status add(packer *p, size_t hit, const piece *c, bool *ret_done)
{
    size_t tokens = 0;
    char *text;

    SL_TRY(count(p, c->text, c->end - c->begin, &tokens));
    *ret_done = p->used + tokens + p->o->block_tokens <= p->o->budget || p->out->count == 0;
    if (!*ret_done)
        return SL_OK;
    text = sl_strndup(c->text, (size_t)(c->end - c->begin));
    if (!text)
        return sl_fail(p->err, SL_ENOMEM, "out of memory");
    p->out->items[p->out->count++] = (pack_block){
        .hit = hit, .begin = c->begin, .end = c->end, .text = text, .tokens = tokens
    };
    p->used += tokens + p->o->block_tokens;
    return SL_OK;
}

/* Puts the piece into the block that it overlaps, or into one of its own. */
static sl_status place(packer *p, size_t hit, const piece *c, bool *ret_done)
{
    for (size_t i = 0; i < p->out->count; i++) {
        pack_block *b = &p->out->items[i];

        if (is_same_document(p, i, hit) && c->begin <= b->end && c->end >= b->begin)
            return grow(p, b, c, ret_done);
    }
    return add(p, hit, c, ret_done);
}

static bool is_read(const packer *p, size_t hit)
{
    const rag_hit *h = &p->hits->items[hit];

    for (size_t i = 0; i < p->out->count; i++)
        if (is_same_document(p, i, hit) && h->begin >= p->out->items[i].begin &&
            h->end <= p->out->items[i].end)
            return true;
    return false;
}

/* The whole section if it fits, else the passage alone. The first passage comes in any case: the
 * prompt cuts it if it must. */
static sl_status pack_hit(packer *p, size_t hit)
{
    const rag_hit *h = &p->hits->items[hit];
    const char *parent = p->o->parents ? p->o->parents[hit] : NULL;
    const piece whole = { h->parent_begin, h->parent_end, parent };
    const piece alone = { h->begin, h->end, h->text };
    size_t tokens = 0;
    bool done = is_read(p, hit);

    if (!done && parent) {
        SL_TRY(count(p, parent, whole.end - whole.begin, &tokens));
        if (p->out->count > 0 || tokens + p->o->block_tokens <= p->o->budget)
            SL_TRY(place(p, hit, &whole, &done));
    }
    if (!done)
        SL_TRY(place(p, hit, &alone, &done));
    if (!done)
        p->out->left_out[p->out->left_count++] = hit;
    return SL_OK;
}

sl_status pack_build(const rag_hits *hits, const pack_options *o, pack *ret, sl_err *err)
{
    packer p = { .hits = hits, .o = o, .out = ret, .err = err };
    sl_status status = SL_OK;

    SL_ASSERT(hits->count <= RAG_TOP_K_MAX);
    *ret = (pack){ .count = 0 };
    for (size_t i = 0; i < hits->count && status == SL_OK; i++)
        status = pack_hit(&p, i);
    if (status != SL_OK)
        pack_deinit(ret);
    return status;
}

void pack_deinit(pack *p)
{
    for (size_t i = 0; i < p->count; i++)
        sl_free(p->items[i].text);
    *p = (pack){ .count = 0 };
}

/* ---- shrinking ----------------------------------------------------------------------------- */

/* A shorter beginning of a text: whole sentences while there are several. */
static size_t shorten(const char *text, size_t len)
{
    size_t want = len * 3 / 4, best = 0;

    for (size_t at = 0, end; at < want; at = end) {
        end = chunk_sentence_end(text, len, at);
        if (end > want)
            break;
        best = end;
    }
    return best ? best : sl_utf8_complete(text, want);
}

/* Lists a hit as left out, in the order of rank. */
static void leave_out(pack *p, size_t hit)
{
    size_t at = p->left_count++;

    for (; at > 0 && p->left_out[at - 1] > hit; at--)
        p->left_out[at] = p->left_out[at - 1];
    p->left_out[at] = hit;
}

/* Lists the hits that were in a block and are no more. */
static void leave_out_rest(const rag_hits *hits, pack *p, const pack_block *was,
                           const pack_block *is)
{
    for (size_t i = 0; i < hits->count; i++) {
        const rag_hit *h = &hits->items[i];

        if (h->document_id == hits->items[was->hit].document_id && h->begin >= was->begin &&
            h->end <= was->end && (h->begin < is->begin || h->end > is->end))
            leave_out(p, i);
    }
}

/* The block becomes a part of itself. */
static void narrow(pack_block *b, int64_t begin, int64_t end)
{
    memmove(b->text, b->text + (begin - b->begin), (size_t)(end - begin));
    b->text[end - begin] = '\0';
    b->begin = begin;
    b->end = end;
}

bool pack_shrink(const rag_hits *hits, pack *p)
{
    pack_block *b = &p->items[p->count - 1];
    const rag_hit *h = &hits->items[b->hit];
    const pack_block was = *b;

    if (p->count > 1) {
        leave_out_rest(hits, p, &was, &(pack_block){ .end = -1 });
        sl_free(b->text);
        p->count--;
    } else if (b->begin < h->begin || b->end > h->end) { /* the passage without its section */
        narrow(b, h->begin, SL_MIN(h->end, b->end));
        leave_out_rest(hits, p, &was, b);
    } else if (b->end - b->begin >= CUT_MIN) {
        narrow(b, b->begin, b->begin + (int64_t)shorten(b->text, (size_t)(b->end - b->begin)));
    } else {
        return false;
    }
    return true;
}
