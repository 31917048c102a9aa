/* encode.c - the steps of encoding, in order. */
#include "token/token_int.h"

#define CACHE_SLOTS_MAX (1 << 14) /* 393 KiB: fits a core's second-level cache */
#define REWRITTEN_MAX   64  /* fragments; clearing the table for each of more costs too much */
#define CACHE_TEXT_MIN  256 /* bytes; shorter texts repeat too little to pay for the table */

sl_status ids_push(scratch *s, int32_t id)
{
    token_ids *o = s->out;

    if (SL_UNLIKELY(o->count == o->cap) &&
        !sl_grow((void **)&o->ids, &o->cap, o->count + 1, sizeof *o->ids, SIZE_MAX / 16))
        return sl_fail(s->err, SL_ENOMEM, "%zu ids", o->count);
    o->ids[o->count++] = id;
    return SL_OK;
}

void scratch_forget(scratch *s)
{
    if (s->cache)
        memset(s->cache, 0, ((size_t)s->cache_mask + 1) * sizeof *s->cache);
}

static void make_cache(scratch *s, size_t len)
{
    size_t slots = 64;

    if (len < CACHE_TEXT_MIN || s->v->kind != VOCAB_BPE)
        return;
    while (slots < len / 16 && slots < CACHE_SLOTS_MAX)
        slots *= 2;
    s->cache = sl_calloc(slots, sizeof *s->cache); /* without it: slower */
    s->cache_mask = (uint32_t)(slots - 1);
}

static sl_status bpe_fn(void *ctx, const char *text, size_t len)
{
    return bpe_piece(ctx, text, len);
}

static sl_status unigram_fn(void *ctx, const char *text, size_t len)
{
    return unigram_encode(ctx, text, len);
}

static sl_status wpm_fn(void *ctx, const char *text, size_t len)
{
    return wpm_word(ctx, text, len);
}

/* mmBERT: a space in front of a piece without one, and each space starts a word. */
static sl_status words_fn(void *ctx, const char *text, size_t len)
{
    scratch *s = ctx;
    piece_slot *cache = s->cache;
    size_t start = 0;
    sl_buf first;
    sl_status status = SL_OK;

    if (memchr(text, '\n', len) || (len >= 3 && memcmp(text, "\xe2\x96\x81", 3) == 0)) {
        if (text[0] == '\n')
            return bpe_piece(s, text, len);
    } else {
        const char *cut = memmem(text, len, "\xe2\x96\x81", 3);

        start = cut ? (size_t)(cut - text) : len;
        sl_buf_init(&first, len + 8);
        sl_buf_puts(&first, "\xe2\x96\x81");
        sl_buf_put(&first, text, start);
        status = sl_buf_ok(&first, "a word", s->err);
        s->cache = NULL; /* the buffer goes away */
        if (status == SL_OK)
            status = bpe_piece(s, first.ptr, first.len);
        s->cache = cache;
        sl_buf_deinit(&first);
    }
    while (start < len && status == SL_OK) {
        const char *cut =
            len - start > 3 ? memmem(text + start + 3, len - start - 3, "\xe2\x96\x81", 3) : NULL;
        size_t n = cut ? (size_t)(cut - text) - start : len - start;

        status = bpe_piece(s, text + start, n);
        start += n;
    }
    return status;
}

static void escape_spaces(const char *text, size_t len, bool prefix, sl_buf *out)
{
    if (prefix)
        sl_buf_puts(out, "\xe2\x96\x81");
    for (size_t i = 0, j; i < len; i = j) {
        for (j = i; j < len && text[j] != ' ';)
            j++;
        sl_buf_put(out, text + i, j - i);
        if (j < len) {
            sl_buf_puts(out, "\xe2\x96\x81");
            j++;
        }
    }
}

/* Text without special tokens. */
static sl_status encode_plain(scratch *s, const char *text, size_t len)
{
    const token_vocab *v = s->v;

    if (!len)
        return SL_OK;
    if (v->kind == VOCAB_SPM)
        return spm_encode(s, text, len);
    if (v->kind == VOCAB_UNIGRAM)
        return v->pretok ? pretok_run(v->pretok, text, len, unigram_fn, s, s->err)
                         : unigram_encode(s, text, len);
    if (v->kind == VOCAB_WPM)
        return v->pretok ? pretok_run(v->pretok, text, len, wpm_fn, s, s->err)
                         : wpm_encode(s, text, len);
    return v->pretok
               ? pretok_run(v->pretok, text, len, v->word_spaces ? words_fn : bpe_fn, s, s->err)
               : bpe_piece(s, text, len);
}

/* After normalisation more special tokens may appear (tokenizer.json's "normalized" ones). */
static sl_status encode_normalized(scratch *s, const char *text, size_t len, unsigned flags)
{
    fragment_list l = { 0 };
    sl_status status;

    if (!s->v->leftmost_specials)
        return encode_plain(s, text, len);
    status = special_split(s->v, text, len, flags, true, &l, s->err);
    for (size_t i = 0; i < l.count && status == SL_OK; i++) {
        if (l.items[i].id >= 0)
            status = ids_push(s, l.items[i].id);
        else
            status = encode_plain(s, text + l.items[i].off, l.items[i].len);
    }
    sl_free(l.items);
    return status;
}

static sl_status encode_fragment(scratch *s, const char *text, size_t len, bool first,
                                 unsigned flags)
{
    const token_vocab *v = s->v;

    if (!v->norm && !v->escape_spaces)
        return encode_normalized(s, text, len, flags);
    sl_buf_clear(&s->text);
    scratch_forget(s);
    if (v->norm)
        SL_TRY(normalizer_run(v->norm, text, len, first, &s->text, s->err));
    else
        escape_spaces(text, len, v->add_space_prefix && first, &s->text);
    SL_TRY(sl_buf_ok(&s->text, "text to encode", s->err));
    return encode_normalized(s, sl_buf_str(&s->text), s->text.len, flags);
}

static sl_status encode_all(scratch *s, const char *text, size_t len, unsigned flags)
{
    const token_vocab *v = s->v;
    bool add = flags & TOKEN_ADD_SPECIAL, first = true;
    fragment_list l = { 0 };
    sl_status status = SL_OK;

    for (size_t i = 0; i < v->prefix_len && add; i++)
        SL_TRY(ids_push(s, v->prefix[i]));
    if (len)
        status = special_split(v, text, len, flags, false, &l, s->err);
    if (l.count > REWRITTEN_MAX && (v->norm || v->escape_spaces)) {
        sl_free(s->cache);
        s->cache = NULL;
    }
    for (size_t i = 0; i < l.count && status == SL_OK; i++) {
        fragment f = l.items[i];

        if (f.id >= 0)
            status = ids_push(s, f.id);
        else
            status = encode_fragment(s, text + f.off, f.len, first, flags);
        first = v->prefix_each && f.id >= 0;
    }
    sl_free(l.items);
    for (size_t i = 0; i < v->suffix_len && add && status == SL_OK; i++)
        status = ids_push(s, v->suffix[i]);
    return status;
}

sl_status token_encode(const token_vocab *v, const char *text, size_t len, unsigned flags,
                       token_ids *out, sl_err *err)
{
    scratch s = { .v = v, .out = out, .err = err };
    size_t mark = out->count;
    sl_status status;

    sl_buf_init(&s.text, SIZE_MAX / 4);
    make_cache(&s, len);
    status = encode_all(&s, text, len, flags);
    if (status != SL_OK)
        out->count = mark;
    sl_buf_deinit(&s.text);
    sl_free(s.cache);
    sl_free(s.syms);
    sl_free(s.heap);
    sl_free(s.nodes);
    return status;
}
