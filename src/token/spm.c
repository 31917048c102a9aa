/* spm.c - SentencePiece's BPE: the neighbours whose concatenation is the token of the highest
 * score merge first, the leftmost of equals; what is no token at the end becomes bytes. */
#include "token/token_int.h"

/* The heap of both merging models: smallest key, then smallest left index. */
static bool before(const heap_item *a, const heap_item *b)
{
    return a->key < b->key || (a->key == b->key && a->left < b->left);
}

bool heap_push(scratch *s, heap_item item)
{
    size_t i = s->heap_len;

    if (!sl_grow((void **)&s->heap, &s->heap_cap, i + 1, sizeof item, SIZE_MAX / 64))
        return false;
    s->heap_len++;
    for (; i > 0 && before(&item, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = item;
    return true;
}

heap_item heap_pop(scratch *s)
{
    heap_item top = s->heap[0], item = s->heap[--s->heap_len];
    size_t i = 0;

    for (;;) {
        size_t kid = 2 * i + 1;

        if (kid >= s->heap_len)
            break;
        kid += kid + 1 < s->heap_len && before(&s->heap[kid + 1], &s->heap[kid]);
        if (!before(&s->heap[kid], &item))
            break;
        s->heap[i] = s->heap[kid];
        i = kid;
    }
    s->heap[i] = item;
    return top;
}

static sl_status push_pair(scratch *s, const char *text, int32_t left)
{
    const token_vocab *v = s->v;
    const bpe_sym *l, *r;
    int32_t id;

    if (left < 0 || s->syms[left].next < 0)
        return SL_OK;
    l = &s->syms[left];
    r = &s->syms[l->next];
    id = str_table_get(&v->by_spelling, &v->spelling, text + l->start, (size_t)l->len + r->len);
    if (id < 0)
        return SL_OK;
    if (!heap_push(s, (heap_item){ -(double)v->score[id], left, (int32_t)(l->len + r->len), id }))
        return sl_fail(s->err, SL_ENOMEM, "merging");
    return SL_OK;
}

static sl_status load_chars(scratch *s, const char *text, size_t len)
{
    size_t n = 0;

    if (len > INT32_MAX / 2)
        return sl_fail(s->err, SL_ELIMIT, "a text of %zu bytes", len);
    if (!sl_grow((void **)&s->syms, &s->sym_cap, len, sizeof *s->syms, INT32_MAX))
        return sl_fail(s->err, SL_ENOMEM, "a text of %zu bytes", len);
    for (size_t i = 0; i < len; n++) {
        uint32_t cp;
        size_t step = sl_utf8_decode(text + i, len - i, &cp);

        step = step ? step : 1;
        s->syms[n] = (bpe_sym){ -2, (int32_t)n - 1, (int32_t)n + 1, (uint32_t)i, (uint32_t)step };
        i += step;
    }
    s->syms[n - 1].next = -1;
    s->heap_len = 0;
    for (size_t i = 0; i + 1 < n; i++)
        SL_TRY(push_pair(s, text, (int32_t)i));
    return SL_OK;
}

static sl_status emit(scratch *s, const char *text, size_t len)
{
    const token_vocab *v = s->v;
    int32_t id = str_table_get(&v->by_spelling, &v->spelling, text, len);

    if (id >= 0)
        return ids_push(s, id);
    for (size_t i = 0; i < len; i++) {
        int32_t b = v->byte_token[(uint8_t)text[i]];

        if (b < 0)
            b = str_table_get(&v->by_spelling, &v->spelling, text + i, 1);
        if (b < 0) /* no byte tokens: one unknown for the character */
            return v->unk < 0 ? SL_OK : ids_push(s, v->unk);
        SL_TRY(ids_push(s, b));
    }
    return SL_OK;
}

static sl_status encode_run(scratch *s, const char *text, size_t len)
{
    bpe_sym *y;

    if (!len)
        return SL_OK;
    SL_TRY(load_chars(s, text, len));
    y = s->syms;
    while (s->heap_len) {
        heap_item it = heap_pop(s);
        bpe_sym *left = &y[it.left], *right;

        if (left->id == -1 || left->next < 0)
            continue;
        right = &y[left->next];
        if ((int32_t)(left->len + right->len) != it.size)
            continue;
        left->len += right->len;
        right->id = -1;
        left->next = right->next;
        if (left->next >= 0)
            y[left->next].prev = it.left;
        SL_TRY(push_pair(s, text, left->prev));
        SL_TRY(push_pair(s, text, it.left));
    }
    for (int32_t i = 0; i >= 0; i = y[i].next)
        SL_TRY(emit(s, text + y[i].start, y[i].len));
    return SL_OK;
}

static bool is_mark(const char *p, size_t len)
{
    return len >= 3 && memcmp(p, "\xe2\x96\x81", 3) == 0;
}

/* True when U+2581 stands behind another character somewhere in text. */
static bool mark_inside(const char *text, size_t len)
{
    size_t i = 0;

    while (is_mark(text + i, len - i))
        i += 3;
    return memmem(text + i, len - i, "\xe2\x96\x81", 3) != NULL;
}

void spm_finish(token_vocab *v)
{
    v->spm_words = true;
    for (size_t i = 0; i < v->spelling.count && v->spm_words; i++) {
        sl_span t = str_list_get(&v->spelling, i);

        v->spm_words = !mark_inside((const char *)t.ptr, t.len);
    }
}

/* Where no token holds a space mark behind another character, no merge crosses such a place, so
 * that each word is a run of its own and the heap stays small. */
sl_status spm_encode(scratch *s, const char *text, size_t len)
{
    while (s->v->spm_words && len) {
        const char *cut;
        size_t i = 0;

        while (is_mark(text + i, len - i))
            i += 3;
        cut = memmem(text + i, len - i, "\xe2\x96\x81", 3);
        i = cut ? (size_t)(cut - text) : len;
        SL_TRY(encode_run(s, text, i));
        text += i;
        len -= i;
    }
    return encode_run(s, text, len);
}
