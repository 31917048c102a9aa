/* special.c - finds special tokens in raw text.
 *
 * One scan learns which specials occur at all; most texts hold none and end there. Those that do
 * occur are cut out longest first, each over the whole text, which is llama.cpp's order; a
 * tokenizer.json asks for leftmost-longest instead, done in one pass. */
#include "token/token_int.h"

#include <stdlib.h>

static int compare_entries(const void *a, const void *b, void *ctx)
{
    const token_vocab *v = ctx;
    const special_entry *x = a, *y = b;
    int c = memcmp(str_list_get(&v->spelling, (size_t)x->id).ptr,
                   str_list_get(&v->spelling, (size_t)y->id).ptr, SL_MIN(x->len, y->len));

    return c ? c : (x->len > y->len) - (x->len < y->len);
}

sl_status vocab_index_specials(token_vocab *v, sl_err *err)
{
    size_t n = 0;

    for (size_t i = 0; i < v->spelling.count; i++) {
        int t = v->type[i];

        v->flags[i] &= (uint8_t)~TF_ADDED;
        if ((t == TT_CONTROL || t == TT_USER || t == TT_UNKNOWN) &&
            str_list_get(&v->spelling, i).len) {
            v->flags[i] |= TF_ADDED;
            n++;
        }
    }
    v->specials = sl_calloc(n + 1, sizeof *v->specials);
    if (!v->specials)
        return sl_fail(err, SL_ENOMEM, "%zu special tokens", n);
    for (size_t i = 0; i < v->spelling.count; i++)
        if (v->flags[i] & TF_ADDED)
            v->specials[v->special_count++] =
                (special_entry){ (int32_t)i, (uint32_t)str_list_get(&v->spelling, i).len };
    qsort_r(v->specials, v->special_count, sizeof *v->specials, compare_entries, v);
    n = 0;
    for (int b = 0; b < 256; b++) {
        v->special_first[b] = (uint32_t)n;
        while (n < v->special_count &&
               str_list_get(&v->spelling, (size_t)v->specials[n].id).ptr[0] == b)
            n++;
    }
    v->special_first[256] = (uint32_t)n;
    return SL_OK;
}

static bool allowed(const token_vocab *v, int32_t id, unsigned flags, bool normalized)
{
    if (!!(v->flags[id] & TF_NORMALIZED) != normalized)
        return false;
    return v->type[id] == TT_USER || (flags & TOKEN_PARSE_SPECIAL);
}

/* First entry in [lo, hi) whose byte at depth is >= c; all are longer than depth. */
static uint32_t lower_bound(const token_vocab *v, uint32_t lo, uint32_t hi, size_t depth, int c)
{
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (str_list_get(&v->spelling, (size_t)v->specials[mid].id).ptr[depth] < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

typedef bool (*match_fn)(void *ctx, uint32_t entry);

/* Calls fn for each special that stands at text[0..len), shorter ones first. */
static void specials_at(const token_vocab *v, const char *text, size_t len, match_fn fn, void *ctx)
{
    uint32_t lo = v->special_first[(uint8_t)*text], hi = v->special_first[(uint8_t)*text + 1];

    for (size_t depth = 1; lo < hi; depth++) {
        while (lo < hi && v->specials[lo].len == depth)
            fn(ctx, lo++);
        if (lo == hi || depth == len)
            return;
        lo = lower_bound(v, lo, hi, depth, (uint8_t)text[depth]);
        hi = lower_bound(v, lo, hi, depth, (uint8_t)text[depth] + 1);
    }
}

static bool is_space(char c)
{
    return c == ' ' || (c >= 9 && c <= 13);
}

static bool put(fragment_list *l, fragment f)
{
    if (f.id < 0 && !f.len)
        return true;
    if (!sl_grow((void **)&l->items, &l->cap, l->count + 1, sizeof f, SIZE_MAX / 64))
        return false;
    l->items[l->count++] = f;
    return true;
}

/* Space that the token at [off, off + len) swallows on its left and right, inside [lo, hi). */
static void swallow(const token_vocab *v, const char *text, size_t lo, size_t hi, fragment *f)
{
    size_t a = f->off, b = f->off + f->len;

    while ((v->flags[f->id] & TF_LSTRIP) && a > lo && is_space(text[a - 1]))
        a--;
    while ((v->flags[f->id] & TF_RSTRIP) && b < hi && is_space(text[b]))
        b++;
    f->off = a;
    f->len = b - a;
}

/* Cuts every text fragment of in at one special. */
static bool cut_one(const token_vocab *v, const char *text, int32_t id, const fragment_list *in,
                    fragment_list *out)
{
    sl_span s = str_list_get(&v->spelling, (size_t)id);

    out->count = 0;
    for (size_t i = 0; i < in->count; i++) {
        fragment f = in->items[i];
        size_t end = f.off + f.len;
        const char *hit;

        while (f.id < 0 && (hit = memmem(text + f.off, end - f.off, s.ptr, s.len))) {
            fragment t = { id, (size_t)(hit - text), s.len };

            swallow(v, text, f.off, end, &t);
            if (!put(out, (fragment){ -1, f.off, t.off - f.off }) || !put(out, t))
                return false;
            f.off = t.off + t.len;
        }
        if (f.id < 0)
            f.len = end - f.off;
        if (!put(out, f))
            return false;
    }
    return true;
}

/* Which specials occur: a bit per entry, and the list of them. */
typedef struct occurrences {
    const token_vocab *v;
    unsigned flags;
    uint8_t *seen;
    size_t count;
} occurrences;

static bool note(void *ctx, uint32_t entry)
{
    occurrences *o = ctx;

    if (!o->seen[entry] && allowed(o->v, o->v->specials[entry].id, o->flags, false)) {
        o->seen[entry] = 1;
        o->count++;
    }
    return true;
}

static int longer_first(const void *a, const void *b)
{
    const special_entry *x = a, *y = b;

    return x->len != y->len ? (x->len < y->len) - (x->len > y->len)
                            : (x->id > y->id) - (x->id < y->id);
}

static sl_status cut_longest_first(occurrences *o, const char *text, size_t len, fragment_list *out,
                                   sl_err *err)
{
    special_entry *found = sl_calloc(o->count + 1, sizeof *found);
    fragment_list other = { 0 };
    bool ok = found && put(out, (fragment){ -1, 0, len });
    size_t n = 0;

    for (size_t i = 0; ok && i < o->v->special_count; i++)
        if (o->seen[i])
            found[n++] = o->v->specials[i];
    if (ok)
        qsort(found, n, sizeof *found, longer_first);
    for (size_t i = 0; ok && i < n; i++) {
        ok = cut_one(o->v, text, found[i].id, out, &other);
        if (ok) {
            fragment_list t = *out;

            *out = other;
            other = t;
        }
    }
    sl_free(found);
    sl_free(other.items);
    return ok ? SL_OK : sl_fail(err, SL_ENOMEM, "special tokens");
}

static sl_status split_longest_first(const token_vocab *v, const char *text, size_t len,
                                     unsigned flags, fragment_list *out, sl_err *err)
{
    occurrences o = { .v = v, .flags = flags, .seen = sl_calloc(v->special_count + 1, 1) };
    sl_status status;

    if (!o.seen)
        return sl_fail(err, SL_ENOMEM, "special tokens");
    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)text[i];

        if (v->special_first[c] != v->special_first[c + 1])
            specials_at(v, text + i, len - i, note, &o);
    }
    status = cut_longest_first(&o, text, len, out, err);
    sl_free(o.seen);
    return status;
}

/* The longest special at one position. */
typedef struct best_match {
    const token_vocab *v;
    unsigned flags;
    bool normalized;
    const char *text;
    size_t at, len; /* position and length of the text */
    int32_t id;
    size_t id_len;
} best_match;

static bool word_at(const char *text, size_t len, size_t at, bool before)
{
    uint32_t cp;

    if (!before)
        return at < len && sl_utf8_decode(text + at, len - at, &cp) && uc_is_word(cp);
    for (size_t n = 1; n <= 4 && n <= at; n++)
        if (sl_utf8_decode(text + at - n, n, &cp) == n)
            return uc_is_word(cp);
    return false;
}

static bool keep_best(void *ctx, uint32_t entry)
{
    best_match *b = ctx;
    special_entry e = b->v->specials[entry];

    if (!allowed(b->v, e.id, b->flags, b->normalized))
        return true;
    if ((b->v->flags[e.id] & TF_SINGLE_WORD) &&
        (word_at(b->text, b->len, b->at, true) || word_at(b->text, b->len, b->at + e.len, false)))
        return true;
    b->id = e.id;
    b->id_len = e.len;
    return true;
}

static sl_status split_leftmost(best_match *b, fragment_list *out, sl_err *err)
{
    const token_vocab *v = b->v;
    size_t start = 0;

    for (; b->at < b->len;) {
        uint8_t c = (uint8_t)b->text[b->at];
        fragment t;

        b->id = -1;
        if (v->special_first[c] != v->special_first[c + 1])
            specials_at(v, b->text + b->at, b->len - b->at, keep_best, b);
        if (b->id < 0) {
            b->at++;
            continue;
        }
        t = (fragment){ b->id, b->at, b->id_len };
        swallow(v, b->text, start, b->len, &t);
        if (!put(out, (fragment){ -1, start, t.off - start }) || !put(out, t))
            return sl_fail(err, SL_ENOMEM, "special tokens");
        b->at = start = t.off + t.len;
    }
    return put(out, (fragment){ -1, start, b->len - start })
               ? SL_OK
               : sl_fail(err, SL_ENOMEM, "special tokens");
}

sl_status special_split(const token_vocab *v, const char *text, size_t len, unsigned flags,
                        bool normalized, fragment_list *out, sl_err *err)
{
    best_match b = { .v = v, .flags = flags, .normalized = normalized, .text = text, .len = len };

    if (v->leftmost_specials)
        return split_leftmost(&b, out, err);
    return split_longest_first(v, text, len, flags, out, err);
}
