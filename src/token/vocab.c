/* vocab.c - the vocabulary's tables: spellings, bytes, merges, special tokens. */
#include <stdlib.h>

#include "base/log.h"
#include "token/token_int.h"

static uint64_t hash_bytes(const void *p, size_t len)
{
    const uint8_t *s = p;
    uint64_t h = len * 0x9E3779B97F4A7C15ull, w;

    for (; len >= 8; s += 8, len -= 8) {
        memcpy(&w, s, 8);
        h = (h ^ w) * 0x9FB21C651E98DF25ull;
        h ^= h >> 32;
    }
    w = 0;
    for (size_t i = 0; i < len; i++)
        w |= (uint64_t)s[i] << (8 * i);
    h = (h ^ w) * 0x9FB21C651E98DF25ull;
    return h ^ (h >> 29);
}

sl_status ids_push(token_ids *t, int32_t id)
{
    if (t->count == t->cap &&
        !sl_grow((void **)&t->ids, &t->cap, t->count + 1, sizeof *t->ids, SIZE_MAX / 8))
        return SL_ENOMEM;
    t->ids[t->count++] = id;
    return SL_OK;
}

void token_ids_deinit(token_ids *t)
{
    sl_free(t->ids);
    *t = (token_ids){ 0 };
}

/* The printable alphabet of GPT-2: printable Latin-1 bytes stand for themselves, the other 68 for
 * U+0100 upward in byte order. */
static int alphabet_byte(uint32_t cp)
{
    int n = 0;

    if ((cp >= 33 && cp <= 126) || (cp >= 161 && cp <= 172) || (cp >= 174 && cp <= 255))
        return (int)cp;
    if (cp < 256 || cp >= 256 + 68)
        return -1;
    for (int b = 0; b < 256; b++) {
        if ((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174)
            continue;
        if (n++ == (int)cp - 256)
            return b;
    }
    return -1;
}

bool byte_alphabet_decode(sl_span s, sl_buf *out)
{
    for (size_t i = 0; i < s.len;) {
        uint32_t cp;
        size_t n = sl_utf8_decode((const char *)s.ptr + i, s.len - i, &cp);
        int b = n ? alphabet_byte(cp) : -1;

        if (b < 0)
            return false;
        sl_buf_putc(out, (char)b);
        i += n;
    }
    return true;
}

static int byte_token(sl_span s)
{
    char hex[3] = { 0 }, *end;

    if (s.len != 6 || memcmp(s.ptr, "<0x", 3) != 0 || s.ptr[5] != '>')
        return -1;
    memcpy(hex, s.ptr + 3, 2);
    long b = strtol(hex, &end, 16);
    return end == hex + 2 ? (int)b : -1;
}

static void put_bytes(token_vocab *v, tok_entry *e, sl_span s)
{
    size_t from = v->pool.len;
    int b = byte_token(s);

    if (e->type == TOK_CONTROL || e->type == TOK_USER || e->type == TOK_UNKNOWN) {
        sl_buf_put(&v->pool, s.ptr, s.len);
    } else if (v->byte_level) {
        if (!byte_alphabet_decode(s, &v->pool)) {
            v->pool.len = from;
            sl_buf_put(&v->pool, s.ptr, s.len);
        }
    } else if (b >= 0 && v->kind != KIND_WPM && (e->type == TOK_BYTE || e->type == TOK_NORMAL)) {
        e->type = TOK_BYTE;
        sl_buf_putc(&v->pool, (char)b);
    } else {
        for (size_t i = 0; i < s.len; i++) {
            if (i + 3 <= s.len && memcmp(s.ptr + i, "\xe2\x96\x81", 3) == 0) {
                sl_buf_putc(&v->pool, ' ');
                i += 2;
            } else {
                sl_buf_putc(&v->pool, (char)s.ptr[i]);
            }
        }
    }
    e->bytes = (uint32_t)from;
    e->bytes_len = (uint32_t)(v->pool.len - from);
}

sl_status vocab_add(token_vocab *v, size_t id, sl_span s, int type, float score)
{
    tok_entry *e = &v->toks[id];

    e->type = (uint8_t)(type >= TOK_NORMAL && type <= TOK_BYTE ? type : TOK_NORMAL);
    e->score = score;
    e->spell = (uint32_t)v->pool.len;
    e->spell_len = (uint32_t)s.len;
    v->longest = SL_MAX(v->longest, s.len);
    if (v->pool.len + 2 * s.len > UINT32_MAX - 16)
        return SL_ELIMIT;
    sl_buf_put(&v->pool, s.ptr, s.len);
    put_bytes(v, e, s);
    return v->pool.failed ? SL_ENOMEM : SL_OK;
}

static int32_t map_find(const token_vocab *v, const uint32_t *map, bool spelling, const char *text,
                        size_t len)
{
    if (!map)
        return -1;
    for (size_t i = hash_bytes(text, len) & v->map_mask; map[i]; i = (i + 1) & v->map_mask) {
        const tok_entry *e = &v->toks[map[i] - 1];
        uint32_t at = spelling ? e->spell : e->bytes, n = spelling ? e->spell_len : e->bytes_len;

        if (n == len && memcmp(v->pool.ptr + at, text, len) == 0)
            return (int32_t)(map[i] - 1);
    }
    return -1;
}

int32_t token_find(const token_vocab *v, const char *spelling, size_t len)
{
    return map_find(v, v->spell_map, true, spelling, len);
}

int32_t vocab_find_bytes(const token_vocab *v, const char *text, size_t len)
{
    return map_find(v, v->bytes_map, false, text, len);
}

static sl_status build_maps(token_vocab *v)
{
    size_t size = 64;

    while (size < v->count * 2)
        size *= 2;
    v->map_mask = size - 1;
    v->spell_map = sl_calloc(size, sizeof(uint32_t));
    v->bytes_map = sl_calloc(size, sizeof(uint32_t));
    if (!v->spell_map || !v->bytes_map)
        return SL_ENOMEM;
    memset(v->byte_ids, 0xff, sizeof v->byte_ids);
    for (size_t id = 0; id < v->count; id++) {
        tok_entry *e = &v->toks[id];
        const char *s = sl_buf_str(&v->pool) + e->spell, *b = sl_buf_str(&v->pool) + e->bytes;

        if (token_find(v, s, e->spell_len) < 0) {
            size_t i = hash_bytes(s, e->spell_len) & v->map_mask;
            while (v->spell_map[i])
                i = (i + 1) & v->map_mask;
            v->spell_map[i] = (uint32_t)id + 1;
        }
        if (e->type == TOK_BYTE && e->bytes_len == 1) {
            v->byte_ids[(uint8_t)*b] = (int32_t)id;
        } else if (e->type == TOK_NORMAL || e->type == TOK_USER) {
            if (v->byte_level && e->type == TOK_NORMAL && e->bytes_len == 1)
                v->byte_ids[(uint8_t)*b] = (int32_t)id;
            if (vocab_find_bytes(v, b, e->bytes_len) < 0) {
                size_t i = hash_bytes(b, e->bytes_len) & v->map_mask;
                while (v->bytes_map[i])
                    i = (i + 1) & v->map_mask;
                v->bytes_map[i] = (uint32_t)id + 1;
            }
        }
    }
    return SL_OK;
}

static int special_order(const void *a, const void *b, void *ctx)
{
    const token_vocab *v = ctx;
    const tok_entry *x = &v->toks[*(const uint32_t *)a], *y = &v->toks[*(const uint32_t *)b];
    int cx = (uint8_t)v->pool.ptr[x->spell], cy = (uint8_t)v->pool.ptr[y->spell];

    if (cx != cy)
        return cx - cy;
    if (x->spell_len != y->spell_len)
        return x->spell_len > y->spell_len ? -1 : 1;
    return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

static sl_status build_special(token_vocab *v)
{
    v->special = sl_calloc(v->count + 1, sizeof(uint32_t));
    if (!v->special)
        return SL_ENOMEM;
    for (size_t id = 0; id < v->count; id++) {
        const tok_entry *e = &v->toks[id];

        if (e->spell_len &&
            (e->type == TOK_CONTROL || e->type == TOK_USER || e->type == TOK_UNKNOWN))
            v->special[v->special_count++] = (uint32_t)id;
    }
    qsort_r(v->special, v->special_count, sizeof(uint32_t), special_order, v);
    uint32_t at = 0;
    for (int c = 0; c <= 256; c++) {
        while (at < v->special_count && (uint8_t)v->pool.ptr[v->toks[v->special[at]].spell] < c)
            at++;
        v->special_from[c] = at;
    }
    return SL_OK;
}

static void mark_eog(token_vocab *v)
{
    static const char *const texts[] = { "<|eot_id|>",
                                         "<|im_end|>",
                                         "<|end|>",
                                         "<end_of_turn>",
                                         "<|endoftext|>",
                                         "<|eom_id|>",
                                         "<EOT>",
                                         "<|end_of_text|>",
                                         "<|return|>",
                                         "<|call|>",
                                         "<turn|>",
                                         "< EOT >",
                                         "_<EOT>",
                                         "<\xef\xbd\x9c"
                                         "end\xe2\x96\x81of\xe2\x96\x81sentence"
                                         "\xef\xbd\x9c>",
                                         "</s>",
                                         "<end_of_utterance>",
                                         "<|calls|>",
                                         "<|flush|>",
                                         "<eos>" };

    for (size_t i = 0; i < SL_COUNT_OF(texts); i++) {
        int32_t id = token_find(v, texts[i], strlen(texts[i]));
        if (id >= 0 && (v->toks[id].type == TOK_CONTROL ||
                        (v->toks[id].type == TOK_USER && strcmp(texts[i], "</s>") != 0)))
            v->toks[id].eog = true;
    }
    if (v->eos >= 0)
        v->toks[v->eos].eog = true;
    if (v->eot >= 0)
        v->toks[v->eot].eog = true;
    if (v->eom >= 0)
        v->toks[v->eom].eog = true;
}

sl_status vocab_finish(token_vocab *v, sl_err *err)
{
    int32_t *ids[] = { &v->bos, &v->eos, &v->eot, &v->eom, &v->unk, &v->sep };

    for (size_t i = 0; i < SL_COUNT_OF(ids); i++)
        if (*ids[i] < 0 || (size_t)*ids[i] >= v->count)
            *ids[i] = -1;
    if (!v->spell_map && build_maps(v) != SL_OK)
        return sl_fail(err, SL_ENOMEM, "vocabulary of %zu tokens", v->count);
    if (build_special(v) != SL_OK)
        return sl_fail(err, SL_ENOMEM, "vocabulary of %zu tokens", v->count);
    mark_eog(v);
    if (v->kind != KIND_BPE)
        return SL_OK;
    token_ids t = { 0 };
    for (size_t id = 0; id < v->count; id++) {
        tok_entry *e = &v->toks[id];

        if (e->type != TOK_NORMAL || e->bytes_len > 64)
            continue;
        t.count = 0;
        if (bpe_piece(v, v->pool.ptr + e->bytes, e->bytes_len, &t) != SL_OK) {
            token_ids_deinit(&t);
            return sl_fail(err, SL_ENOMEM, "vocabulary");
        }
        e->whole = t.count == 1 && t.ids[0] == (int32_t)id;
    }
    token_ids_deinit(&t);
    return SL_OK;
}

sl_status vocab_merges_init(token_vocab *v, size_t count)
{
    size_t size = 64;

    if (build_maps(v) != SL_OK)
        return SL_ENOMEM;
    while (size < count * 2)
        size *= 2;
    v->merges = sl_malloc(size * sizeof *v->merges);
    if (!v->merges)
        return SL_ENOMEM;
    v->merge_mask = size - 1;
    for (size_t i = 0; i < size; i++)
        v->merges[i].merged = -1;
    return SL_OK;
}

static size_t merge_slot(const token_vocab *v, int32_t l, int32_t r)
{
    uint64_t h = ((uint64_t)(uint32_t)l << 32 | (uint32_t)r) * 0x9E3779B97F4A7C15ull;

    return (h ^ h >> 32) & v->merge_mask;
}

void vocab_merge_add(token_vocab *v, sl_span left, sl_span right, uint32_t rank)
{
    char text[1024];
    int32_t l = token_find(v, (const char *)left.ptr, left.len);
    int32_t r = token_find(v, (const char *)right.ptr, right.len);

    if (l < 0 || r < 0 || left.len + right.len > sizeof text)
        return;
    memcpy(text, left.ptr, left.len);
    memcpy(text + left.len, right.ptr, right.len);
    int32_t m = token_find(v, text, left.len + right.len);
    if (m < 0)
        return;
    size_t i = merge_slot(v, l, r);
    for (; v->merges[i].merged >= 0; i = (i + 1) & v->merge_mask)
        if (v->merges[i].left == l && v->merges[i].right == r)
            return;
    v->merges[i] = (tok_merge){ l, r, m, rank };
}

static const tok_merge *merge_find(const token_vocab *v, int32_t l, int32_t r)
{
    if (!v->merges || l < 0 || r < 0)
        return NULL;
    for (size_t i = merge_slot(v, l, r); v->merges[i].merged >= 0; i = (i + 1) & v->merge_mask)
        if (v->merges[i].left == l && v->merges[i].right == r)
            return &v->merges[i];
    return NULL;
}

typedef struct bpe_sym {
    int32_t id, prev, next;
    uint32_t at, len;
} bpe_sym;

typedef struct bpe_cand {
    uint32_t rank;
    int32_t left, lid, rid, merged;
} bpe_cand;

typedef struct bpe_heap {
    bpe_cand *items;
    size_t count;
} bpe_heap;

static bool cand_less(const bpe_cand *a, const bpe_cand *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void heap_push(bpe_heap *h, bpe_cand c)
{
    size_t i = h->count++;

    while (i && cand_less(&c, &h->items[(i - 1) / 2])) {
        h->items[i] = h->items[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->items[i] = c;
}

static bpe_cand heap_pop(bpe_heap *h)
{
    bpe_cand top = h->items[0], last = h->items[--h->count];
    size_t i = 0;

    for (size_t k; (k = 2 * i + 1) < h->count; i = k) {
        if (k + 1 < h->count && cand_less(&h->items[k + 1], &h->items[k]))
            k++;
        if (!cand_less(&h->items[k], &last))
            break;
        h->items[i] = h->items[k];
    }
    h->items[i] = last;
    return top;
}

static void consider(const token_vocab *v, bpe_heap *h, const bpe_sym *s, int32_t left)
{
    const tok_merge *m;

    if (left < 0 || s[left].next < 0)
        return;
    m = merge_find(v, s[left].id, s[s[left].next].id);
    if (m)
        heap_push(h, (bpe_cand){ m->rank, left, m->left, m->right, m->merged });
}

static size_t first_symbols(const token_vocab *v, const char *p, size_t len, bpe_sym *s)
{
    size_t n = 0;

    for (size_t i = 0; i < len; n++) {
        uint32_t cp;
        size_t k = 1;

        if (!v->byte_level && !(k = sl_utf8_decode(p + i, len - i, &cp)))
            k = 1;
        s[n] = (bpe_sym){ v->byte_level ? v->byte_ids[(uint8_t)p[i]] : token_find(v, p + i, k),
                          (int32_t)n - 1, (int32_t)n + 1, (uint32_t)i, (uint32_t)k };
        i += k;
    }
    if (n)
        s[n - 1].next = -1;
    return n;
}

static sl_status emit(const token_vocab *v, const char *p, const bpe_sym *s, token_ids *out)
{
    if (s->id >= 0)
        return ids_push(out, s->id);
    for (uint32_t i = 0; i < s->len; i++) {
        int32_t id = v->byte_ids[(uint8_t)p[s->at + i]];
        if (id >= 0)
            SL_TRY(ids_push(out, id));
        else if (v->unk >= 0 && i == 0)
            SL_TRY(ids_push(out, v->unk));
    }
    return SL_OK;
}

sl_status bpe_piece(const token_vocab *v, const char *p, size_t len, token_ids *out)
{
    bpe_sym small_s[64], *s = small_s;
    bpe_cand small_c[64 * 3];
    bpe_heap h = { small_c, 0 };
    sl_status st = SL_OK;

    if (!len)
        return SL_OK;
    if (len > INT32_MAX / 4)
        return SL_ELIMIT;
    if (len > 64) {
        s = sl_malloc(len * sizeof *s);
        h.items = sl_malloc(len * 3 * sizeof *h.items);
        if (!s || !h.items) {
            st = SL_ENOMEM;
            goto done;
        }
    }
    size_t n = first_symbols(v, p, len, s);
    for (size_t i = 0; i + 1 < n; i++)
        consider(v, &h, s, (int32_t)i);
    while (h.count) {
        bpe_cand c = heap_pop(&h);
        bpe_sym *l = &s[c.left];

        /* Stale when either side was merged since. */
        if (!l->len || l->id != c.lid || l->next < 0 || s[l->next].id != c.rid)
            continue;
        bpe_sym *r = &s[l->next];
        l->id = c.merged;
        l->len += r->len;
        r->len = 0;
        l->next = r->next;
        if (l->next >= 0)
            s[l->next].prev = c.left;
        consider(v, &h, s, l->prev);
        consider(v, &h, s, c.left);
    }
    for (int32_t i = 0; i >= 0 && st == SL_OK; i = s[i].next)
        st = emit(v, p, &s[i], out);
done:
    if (s != small_s) {
        sl_free(s);
        sl_free(h.items);
    }
    return st;
}

void token_vocab_destroy(token_vocab *v)
{
    if (!v)
        return;
    pretok_deinit(&v->split);
    sl_buf_deinit(&v->pool);
    sl_free(v->toks);
    sl_free(v->spell_map);
    sl_free(v->bytes_map);
    sl_free(v->merges);
    sl_free(v->special);
    sl_free(v);
}

static bool id_ok(const token_vocab *v, int32_t id)
{
    return id >= 0 && (size_t)id < v->count;
}

size_t token_count(const token_vocab *v)
{
    return v->count;
}

sl_span token_bytes(const token_vocab *v, int32_t id, bool show_special)
{
    if (!id_ok(v, id) || (token_is_control(v, id) && !show_special))
        return (sl_span){ NULL, 0 };
    return sl_span_of(v->pool.ptr + v->toks[id].bytes, v->toks[id].bytes_len);
}

sl_span token_spelling(const token_vocab *v, int32_t id)
{
    if (!id_ok(v, id))
        return (sl_span){ NULL, 0 };
    return sl_span_of(v->pool.ptr + v->toks[id].spell, v->toks[id].spell_len);
}

bool token_is_control(const token_vocab *v, int32_t id)
{
    return id_ok(v, id) && (v->toks[id].type == TOK_CONTROL || v->toks[id].type == TOK_UNKNOWN);
}

bool token_is_eog(const token_vocab *v, int32_t id)
{
    return id_ok(v, id) && v->toks[id].eog;
}

int32_t token_bos(const token_vocab *v)
{
    return v->bos;
}

int32_t token_eos(const token_vocab *v)
{
    return v->eos;
}

bool token_adds_bos(const token_vocab *v)
{
    return v->add_bos;
}

const char *token_kind(const token_vocab *v)
{
    return v->kind == KIND_BPE ? "bpe" : v->kind == KIND_SPM ? "spm" : "wpm";
}

const char *token_pre(const token_vocab *v)
{
    return v->pre;
}
