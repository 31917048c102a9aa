/* spm.c - SentencePiece-style merging: always the neighbour pair whose concatenation is the token
 * with the highest score, leftmost first; bytes of what stays unknown become byte tokens. */
#include "token/token_int.h"

typedef struct spm_sym {
    uint32_t at, len;
    int32_t prev, next;
} spm_sym;

typedef struct spm_cand {
    float score;
    int32_t left, right;
    uint32_t len;
} spm_cand;

typedef struct spm_work {
    const token_vocab *v;
    const char *text;
    spm_sym *syms;
    spm_cand *heap;
    size_t heap_count;
} spm_work;

static bool better(const spm_cand *a, const spm_cand *b)
{
    return a->score != b->score ? a->score > b->score : a->left < b->left;
}

static void push(spm_work *w, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return;
    const spm_sym *l = &w->syms[left], *r = &w->syms[right];
    uint32_t len = l->len + r->len;
    if (len > w->v->longest)
        return;
    int32_t id = token_find(w->v, w->text + l->at, len);
    if (id < 0)
        return;
    spm_cand c = { w->v->toks[id].score, left, right, len };
    size_t i = w->heap_count++;
    while (i && better(&c, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = c;
}

static spm_cand pop(spm_work *w)
{
    spm_cand top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0;

    for (size_t k; (k = 2 * i + 1) < w->heap_count; i = k) {
        if (k + 1 < w->heap_count && better(&w->heap[k + 1], &w->heap[k]))
            k++;
        if (!better(&w->heap[k], &last))
            break;
        w->heap[i] = w->heap[k];
    }
    w->heap[i] = last;
    return top;
}

static sl_status emit(const spm_work *w, const spm_sym *s, token_ids *out)
{
    const token_vocab *v = w->v;
    int32_t id = token_find(v, w->text + s->at, s->len);

    if (id >= 0)
        return ids_push(out, id);
    for (uint32_t i = 0; i < s->len; i++) {
        id = v->byte_ids[(uint8_t)w->text[s->at + i]];
        if (id < 0)
            id = i == 0 ? v->unk : -1;
        if (id >= 0)
            SL_TRY(ids_push(out, id));
    }
    return SL_OK;
}

static void merge_all(spm_work *w)
{
    while (w->heap_count) {
        spm_cand c = pop(w);
        spm_sym *l = &w->syms[c.left], *r = &w->syms[c.right];

        if (!l->len || !r->len || l->len + r->len != c.len || l->next != c.right)
            continue;
        l->len += r->len;
        r->len = 0;
        l->next = r->next;
        if (r->next >= 0)
            w->syms[r->next].prev = c.left;
        push(w, l->prev, c.left);
        push(w, c.left, l->next);
    }
}

sl_status spm_encode(const token_vocab *v, const char *text, size_t len, token_ids *out)
{
    spm_work w = { v, text, NULL, NULL, 0 };
    sl_status st = SL_OK;
    size_t n = 0;

    if (!len)
        return SL_OK;
    if (len > INT32_MAX / 4)
        return SL_ELIMIT;
    w.syms = sl_malloc(len * sizeof *w.syms);
    w.heap = sl_malloc(len * 3 * sizeof *w.heap);
    if (!w.syms || !w.heap) {
        st = SL_ENOMEM;
        goto done;
    }
    for (size_t i = 0; i < len; n++) {
        uint32_t cp;
        size_t k = sl_utf8_decode(text + i, len - i, &cp);

        k = k ? k : 1;
        w.syms[n] = (spm_sym){ (uint32_t)i, (uint32_t)k, (int32_t)n - 1, (int32_t)n + 1 };
        i += k;
    }
    w.syms[n - 1].next = -1;
    for (size_t i = 1; i < n; i++)
        push(&w, (int32_t)i - 1, (int32_t)i);
    merge_all(&w);
    for (int32_t i = 0; i >= 0 && st == SL_OK; i = w.syms[i].next)
        st = emit(&w, &w.syms[i], out);
done:
    sl_free(w.syms);
    sl_free(w.heap);
    return st;
}
