/* bpe.c - byte pair encoding of one piece.
 *
 * Merges are pairs of symbol ids, so that a step costs one probe of a table. A symbol is a token
 * or a "ghost": a string that merges mention but that is no token (id >= token count). The pair
 * with the lowest rank merges first, the leftmost of equals. Short pieces scan for it, long ones
 * keep a heap, so that the time is never quadratic in the length of a hostile piece. Pieces seen
 * before in the same call are copied from where their ids stand in the output. */
#include "token/token_int.h"

#define SCAN_SYMS_MAX 24 /* pieces up to here scan; measured: the heap wins from about 30 on */
#define GHOSTS_MAX    (1 << 22)

static uint32_t pair_hash(uint64_t pair)
{
    pair *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(pair >> 32);
}

static const merge_slot *find_merge(const token_vocab *v, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint32_t i = pair_hash(pair) & v->merge_mask;

    if (!v->merges || (left | right) < 0)
        return NULL;
    while (v->merges[i].pair != UINT64_MAX) {
        if (v->merges[i].pair == pair)
            return &v->merges[i];
        i = (i + 1) & v->merge_mask;
    }
    return NULL;
}

/* The symbol of a string, -1 when it is neither token nor ghost. */
static int32_t find_sym(const token_vocab *v, const char *s, size_t len)
{
    int32_t id = v->byte_level ? str_table_get(&v->by_bytes, &v->bytes, s, len)
                               : str_table_get(&v->by_spelling, &v->spelling, s, len);

    if (id < 0 && v->byte_level && len == 1)
        id = v->byte_sym[(uint8_t)*s];
    if (id >= 0)
        return id;
    id = str_table_get(&v->by_ghost, &v->ghosts, s, len);
    return id < 0 ? -1 : id + (int32_t)v->spelling.count;
}

static bool ghost_room(token_vocab *v)
{
    str_table bigger;

    if (v->by_ghost.slots && (v->ghosts.count + 1) * 2 <= v->by_ghost.mask)
        return true;
    if (v->ghosts.count >= GHOSTS_MAX || !str_table_init(&bigger, v->ghosts.count * 2 + 64))
        return false;
    for (size_t i = 0; i < v->ghosts.count; i++)
        str_table_put(&bigger, &v->ghosts, (int32_t)i);
    str_table_deinit(&v->by_ghost);
    v->by_ghost = bigger;
    return true;
}

static int32_t intern_sym(token_vocab *v, const char *s, size_t len)
{
    int32_t id = find_sym(v, s, len);

    if (id >= 0)
        return id;
    if (!ghost_room(v) || !str_list_add(&v->ghosts, s, len))
        return -1;
    str_table_put(&v->by_ghost, &v->ghosts, (int32_t)v->ghosts.count - 1);
    return (int32_t)(v->ghosts.count - 1 + v->spelling.count);
}

sl_status bpe_merges_init(token_vocab *v, size_t count, sl_err *err)
{
    size_t size = 16;

    if (count > SL_GGUF_ARRAY_MAX)
        return sl_fail(err, SL_ELIMIT, "%zu merges", count);
    while (size < count * 2)
        size *= 2;
    v->merges = sl_malloc(size * sizeof *v->merges);
    if (!v->merges)
        return sl_fail(err, SL_ENOMEM, "%zu merges", count);
    memset(v->merges, 0xff, size * sizeof *v->merges);
    v->merge_mask = (uint32_t)(size - 1);
    for (int b = 0; b < 256 && v->byte_level; b++) {
        char c = (char)b;
        int32_t id = intern_sym(v, &c, 1);

        if (id < 0)
            return sl_fail(err, SL_ENOMEM, "byte symbols");
        v->byte_sym[b] = id;
    }
    return SL_OK;
}

sl_status bpe_merge_add(token_vocab *v, const char *a, size_t a_len, const char *b, size_t b_len,
                        int32_t rank, sl_err *err)
{
    char stack[256], *buf = stack;
    int32_t left, right, both;
    uint64_t pair;
    uint32_t i;

    if (!a_len || !b_len)
        return SL_OK;
    if (a_len + b_len > sizeof stack && !(buf = sl_malloc(a_len + b_len)))
        return sl_fail(err, SL_ENOMEM, "merge %d", rank);
    if (v->byte_level) {
        a_len = alphabet_decode(a, a_len, buf);
        b_len = a_len == SIZE_MAX ? SIZE_MAX : alphabet_decode(b, b_len, buf + a_len);
    } else {
        memcpy(buf, a, a_len);
        memcpy(buf + a_len, b, b_len);
    }
    if (b_len == SIZE_MAX) { /* can never match text */
        if (buf != stack)
            sl_free(buf);
        return SL_OK;
    }
    left = intern_sym(v, buf, a_len);
    right = intern_sym(v, buf + a_len, b_len);
    both = intern_sym(v, buf, a_len + b_len);
    if (buf != stack)
        sl_free(buf);
    if ((left | right | both) < 0)
        return sl_fail(err, SL_ENOMEM, "merge %d", rank);
    if (find_merge(v, left, right))
        return SL_OK;
    pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (i = pair_hash(pair) & v->merge_mask; v->merges[i].pair != UINT64_MAX;)
        i = (i + 1) & v->merge_mask;
    SL_ASSERT(v->merge_count * 2 <= v->merge_mask);
    v->merges[i] = (merge_slot){ pair, rank, both };
    v->merge_count++;
    return SL_OK;
}

/* One symbol's ids. A character or ghost that is no token falls back to bytes. */
static sl_status emit_sym(scratch *s, int32_t id, const char *text, size_t len)
{
    const token_vocab *v = s->v;

    if (id >= 0 && (size_t)id < v->spelling.count)
        return ids_push(s, id);
    for (size_t i = 0; i < len && (v->byte_level || v->byte_fallback); i++) {
        uint8_t byte = (uint8_t)text[i];
        int32_t b = v->byte_level ? v->byte_sym[byte] : v->byte_token[byte];

        if (v->byte_level && (b < 0 || (size_t)b >= v->spelling.count))
            b = v->unk;
        if (b < 0)
            goto unknown;
        SL_TRY(ids_push(s, b));
    }
    if (v->byte_level || v->byte_fallback)
        return SL_OK;
unknown:
    if (v->unk < 0 || (v->fuse_unk && s->out->count && s->out->ids[s->out->count - 1] == v->unk))
        return SL_OK;
    return ids_push(s, v->unk);
}

static sl_status load_syms(scratch *s, const char *text, size_t len, size_t *ret_count)
{
    const token_vocab *v = s->v;
    /* A character that can become nothing is gone before its neighbours meet. */
    bool drop = !v->byte_level && !v->byte_fallback && v->unk < 0;
    size_t n = 0;

    if (len > INT32_MAX / 2)
        return sl_fail(s->err, SL_ELIMIT, "a piece of %zu bytes", len);
    if (!sl_grow((void **)&s->syms, &s->sym_cap, len, sizeof *s->syms, INT32_MAX))
        return sl_fail(s->err, SL_ENOMEM, "a piece of %zu bytes", len);
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        size_t step = v->byte_level ? 1 : sl_utf8_decode(text + i, len - i, &cp);
        int32_t id;

        step = step ? step : 1;
        id = v->byte_level ? v->byte_sym[(uint8_t)text[i]] : find_sym(v, text + i, step);
        if (id >= 0 || !drop) {
            s->syms[n] = (bpe_sym){ id < 0 ? -2 : id, (int32_t)n - 1, (int32_t)n + 1, (uint32_t)i,
                                    (uint32_t)step };
            n++;
        }
        i += step;
    }
    *ret_count = n;
    if (!n)
        return SL_OK;
    s->syms[n - 1].next = -1;
    return SL_OK;
}

/* Symbols packed in an array; ranks[i] is the rank of the pair (i, i + 1). */
static size_t merge_scan(scratch *s, size_t n)
{
    int32_t ranks[SCAN_SYMS_MAX], made[SCAN_SYMS_MAX];
    bpe_sym *y = s->syms;

    for (size_t i = 0; i + 1 < n; i++) {
        const merge_slot *m = find_merge(s->v, y[i].id, y[i + 1].id);

        ranks[i] = m ? m->rank : INT32_MAX;
        made[i] = m ? m->id : -1;
    }
    for (;;) {
        size_t best = 0;

        for (size_t i = 1; i + 1 < n; i++)
            best = ranks[i] < ranks[best] ? i : best;
        if (n < 2 || ranks[best] == INT32_MAX)
            return n;
        y[best].id = made[best];
        y[best].len += y[best + 1].len;
        for (size_t i = best + 1; i + 1 < n; i++) {
            y[i] = y[i + 1];
            ranks[i] = ranks[i + 1];
            made[i] = made[i + 1];
        }
        n--;
        for (size_t i = best ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const merge_slot *m = find_merge(s->v, y[i].id, y[i + 1].id);

            ranks[i] = m ? m->rank : INT32_MAX;
            made[i] = m ? m->id : -1;
        }
    }
}

static sl_status push_pair(scratch *s, int32_t left)
{
    const bpe_sym *y = s->syms;
    const merge_slot *m;

    if (left < 0 || y[left].next < 0 || !(m = find_merge(s->v, y[left].id, y[y[left].next].id)))
        return SL_OK;
    if (!heap_push(
            s, (heap_item){ m->rank, left, (int32_t)(y[left].len + y[y[left].next].len), m->id }))
        return sl_fail(s->err, SL_ENOMEM, "merging");
    return SL_OK;
}

static sl_status merge_heap(scratch *s, size_t n)
{
    bpe_sym *y = s->syms;

    s->heap_len = 0;
    for (size_t i = 0; i + 1 < n; i++)
        SL_TRY(push_pair(s, (int32_t)i));
    while (s->heap_len) {
        heap_item it = heap_pop(s);
        bpe_sym *left = &y[it.left], *right;
        const merge_slot *m;

        if (left->id == -1 || left->next < 0)
            continue;
        right = &y[left->next];
        m = find_merge(s->v, left->id, right->id);
        if (!m || m->rank != (int32_t)it.key || (int32_t)(left->len + right->len) != it.size)
            continue; /* a neighbour changed meanwhile */
        left->id = m->id;
        left->len += right->len;
        right->id = -1;
        left->next = right->next;
        if (left->next >= 0)
            y[left->next].prev = it.left;
        SL_TRY(push_pair(s, left->prev));
        SL_TRY(push_pair(s, it.left));
    }
    return SL_OK;
}

static sl_status merge_piece(scratch *s, const char *text, size_t len)
{
    size_t n = 0;

    SL_TRY(load_syms(s, text, len, &n));
    if (!n)
        return SL_OK;
    if (n <= SCAN_SYMS_MAX) {
        n = merge_scan(s, n);
        for (size_t i = 0; i < n; i++)
            SL_TRY(emit_sym(s, s->syms[i].id, text + s->syms[i].start, s->syms[i].len));
        return SL_OK;
    }
    SL_TRY(merge_heap(s, n));
    for (int32_t i = 0; i >= 0; i = s->syms[i].next)
        SL_TRY(emit_sym(s, s->syms[i].id, text + s->syms[i].start, s->syms[i].len));
    return SL_OK;
}

static sl_status encode_piece(scratch *s, const char *text, size_t len)
{
    const token_vocab *v = s->v;
    size_t lines = 0;
    int32_t id = -1;

    while (v->newline_runs && lines < len && text[lines] == '\n')
        lines++;
    if (v->ignore_merges || (lines && lines == len))
        id = v->byte_level ? str_table_get(&v->by_bytes, &v->bytes, text, len)
                           : str_table_get(&v->by_spelling, &v->spelling, text, len);
    else if (v->byte_level) {
        id = str_table_get(&v->by_bytes, &v->bytes, text, len);
        if (id >= 0 && !(v->flags[id] & TF_WHOLE))
            id = -1;
    }
    return id >= 0 ? ids_push(s, id) : merge_piece(s, text, len);
}

sl_status bpe_piece(scratch *s, const char *text, size_t len)
{
    uint32_t hash;
    piece_slot *slot;
    size_t at = s->out->count;

    if (!s->cache || len > 64 || s->out->count > UINT32_MAX / 2)
        return encode_piece(s, text, len);
    hash = (uint32_t)str_hash(text, len);
    slot = &s->cache[hash & s->cache_mask];
    if (slot->hash == hash && slot->len == len && memcmp(slot->text, text, len) == 0) {
        for (uint32_t i = 0; i < slot->out_count; i++)
            SL_TRY(ids_push(s, s->out->ids[slot->out_at + i]));
        return SL_OK;
    }
    SL_TRY(encode_piece(s, text, len));
    if (!(s->v->fuse_unk && s->v->unk >= 0)) /* a fused unknown depends on what precedes */
        *slot =
            (piece_slot){ text, hash, (uint32_t)len, (uint32_t)at, (uint32_t)(s->out->count - at) };
    return SL_OK;
}

/* Learns which tokens the merges rebuild from their own bytes: these are taken at once. */
sl_status bpe_finish(token_vocab *v, sl_err *err)
{
    token_ids ids = { 0 };
    scratch s = { .v = v, .out = &ids, .err = err };
    sl_status status = SL_OK;

    for (size_t i = 0; i < v->spelling.count && v->byte_level && status == SL_OK; i++) {
        sl_span b = str_list_get(&v->bytes, i);
        const char *text = (const char *)b.ptr;

        if (!b.len || b.len > 64 || str_table_get(&v->by_bytes, &v->bytes, text, b.len) != (int)i)
            continue;
        ids.count = 0;
        status = merge_piece(&s, text, b.len);
        if (status == SL_OK && ids.count == 1 && ids.ids[0] == (int32_t)i)
            v->flags[i] |= TF_WHOLE;
    }
    token_ids_deinit(&ids);
    sl_free(s.syms);
    sl_free(s.heap);
    return status;
}
