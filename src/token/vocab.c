/* vocab.c - the vocabulary: strings in two blocks (spelling and meaning), tables that find them,
 * and the answers of the room's door that need no more than a lookup. */
#include "token/token_int.h"

#include <stdio.h>

static const char space_mark[] = "\xe2\x96\x81"; /* U+2581 */

uint64_t str_hash(const char *s, size_t len)
{
    uint64_t h = 0x9e3779b97f4a7c15u ^ len, w;

    for (; len >= 8; s += 8, len -= 8) {
        memcpy(&w, s, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    w = 0;
    for (size_t i = 0; i < len; i++)
        w = w << 8 | (uint8_t)s[i];
    h = (h ^ w) * 0xff51afd7ed558ccdu;
    return h ^ h >> 29;
}

sl_span str_list_get(const str_list *l, size_t i)
{
    return sl_span_of(l->blob + l->off[i], l->off[i + 1] - l->off[i]);
}

bool str_list_add(str_list *l, const char *s, size_t len)
{
    if (!sl_grow((void **)&l->off, &l->off_cap, l->count + 2, sizeof *l->off, SIZE_MAX / 8))
        return false;
    if (len > UINT32_MAX - l->blob_len - 1)
        return false;
    if (!sl_grow((void **)&l->blob, &l->blob_cap, l->blob_len + len + 1, 1, UINT32_MAX))
        return false;
    if (len)
        memcpy(l->blob + l->blob_len, s, len);
    l->off[l->count] = (uint32_t)l->blob_len;
    l->blob_len += len;
    l->off[++l->count] = (uint32_t)l->blob_len;
    return true;
}

void str_list_deinit(str_list *l)
{
    sl_free(l->blob);
    sl_free(l->off);
    *l = (str_list){ 0 };
}

bool str_table_init(str_table *t, size_t count)
{
    size_t size = 16;

    while (size < count * 2)
        size *= 2;
    t->slots = sl_malloc(size * sizeof *t->slots);
    if (!t->slots)
        return false;
    memset(t->slots, 0xff, size * sizeof *t->slots);
    t->mask = (uint32_t)(size - 1);
    return true;
}

void str_table_deinit(str_table *t)
{
    sl_free(t->slots);
    *t = (str_table){ 0 };
}

/* The slot that holds s, or the free one where it belongs. */
static uint32_t find_slot(const str_table *t, const str_list *l, const char *s, size_t len,
                          uint32_t hash)
{
    uint32_t i = hash & t->mask;

    while (t->slots[i].id >= 0) {
        if (t->slots[i].hash == hash) {
            sl_span o = str_list_get(l, (size_t)t->slots[i].id);

            if (o.len == len && memcmp(o.ptr, s, len) == 0)
                return i;
        }
        i = (i + 1) & t->mask;
    }
    return i;
}

/* The first of two equal strings keeps the place. Empty strings stay out. */
void str_table_put(str_table *t, const str_list *l, int32_t id)
{
    sl_span s = str_list_get(l, (size_t)id);
    uint32_t hash = (uint32_t)str_hash((const char *)s.ptr, s.len), i;

    if (!s.len)
        return;
    i = find_slot(t, l, (const char *)s.ptr, s.len, hash);
    if (t->slots[i].id < 0)
        t->slots[i] = (str_slot){ hash, id };
}

int32_t str_table_get(const str_table *t, const str_list *l, const char *s, size_t len)
{
    if (!t->slots || !len)
        return -1;
    return t->slots[find_slot(t, l, s, len, (uint32_t)str_hash(s, len))].id;
}

token_vocab *vocab_new(void)
{
    token_vocab *v = sl_calloc(1, sizeof *v);

    if (!v)
        return NULL;
    v->bos = v->eos = v->unk = v->sep = -1;
    for (int i = 0; i < 256; i++)
        v->byte_sym[i] = v->byte_token[i] = -1;
    return v;
}

bool vocab_add(token_vocab *v, const char *s, size_t len, token_type type, float score)
{
    size_t n = v->spelling.count;

    if (n >= SL_MODEL_VOCAB_MAX)
        return false;
    if (n >= v->meta_cap) {
        size_t cap = v->meta_cap ? v->meta_cap * 2 : 1024;
        uint8_t *t = sl_realloc(v->type, cap), *f;
        float *sc;

        if (t)
            v->type = t;
        f = sl_realloc(v->flags, cap);
        if (f)
            v->flags = f;
        sc = sl_realloc(v->score, cap * sizeof *sc);
        if (sc)
            v->score = sc;
        if (!t || !f || !sc)
            return false;
        v->meta_cap = cap;
    }
    v->type[n] = (uint8_t)type;
    v->flags[n] = 0;
    v->score[n] = score;
    return str_list_add(&v->spelling, s, len);
}

/* The value of "<0xHH>", or -1. */
static int byte_spelling(sl_span s)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *h, *l;

    if (s.len != 6 || memcmp(s.ptr, "<0x", 3) != 0 || s.ptr[5] != '>')
        return -1;
    h = memchr(digits, s.ptr[3], 16);
    l = memchr(digits, s.ptr[4], 16);
    return h && l ? (int)((h - digits) * 16 + (l - digits)) : -1;
}

/* Replaces U+2581 by a space; returns the new length. */
static size_t unescape(const char *s, size_t len, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < len;) {
        if (len - i >= 3 && memcmp(s + i, space_mark, 3) == 0) {
            out[n++] = ' ';
            i += 3;
        } else {
            out[n++] = s[i++];
        }
    }
    return n;
}

/* Writes what token id stands for into out (room for its spelling and one more byte). *ret_model:
 * whether the model can produce it from text, so that it belongs into by_bytes. */
static size_t meaning(token_vocab *v, int32_t id, char *out, bool *ret_model)
{
    sl_span s = str_list_get(&v->spelling, (size_t)id);
    const char *text = (const char *)s.ptr;
    int type = v->type[id], byte = byte_spelling(s);
    size_t n;

    *ret_model = true;
    if (!v->byte_level && byte >= 0 && (type == TT_BYTE || type == TT_NORMAL)) {
        v->byte_token[byte] = id;
        if (v->kind != VOCAB_WPM) {
            out[0] = (char)byte;
            *ret_model = false;
            return 1;
        }
    }
    if (v->byte_level) {
        n = alphabet_decode(text, s.len, out);
        if (n != SIZE_MAX && type != TT_USER)
            return n;
        /* A user's token is spelled literally. One that is also a letter of the alphabet still
         * serves as that byte (DeepSeek's vocabulary has no others for some). */
        if (n == 1 && s.len > 1 && v->byte_sym[(uint8_t)out[0]] < 0)
            v->byte_sym[(uint8_t)out[0]] = id;
        *ret_model = n == s.len && memcmp(out, text, n) == 0;
        memcpy(out, text, s.len);
        return s.len;
    }
    if (type == TT_CONTROL || type == TT_UNKNOWN) {
        memcpy(out, text, s.len);
        return s.len;
    }
    if (v->kind == VOCAB_WPM && v->word_chars_max) { /* tokenizer.json's spelling */
        if (s.len > 2 && memcmp(text, "##", 2) == 0) {
            memcpy(out, text + 2, s.len - 2);
            return s.len - 2;
        }
        out[0] = ' ';
        memcpy(out + 1, text, s.len);
        return s.len + 1;
    }
    return unescape(text, s.len, out);
}

sl_status vocab_index(token_vocab *v, sl_err *err)
{
    size_t count = v->spelling.count, longest = 0;
    char *buf;

    for (size_t i = 0; i < count; i++)
        longest = SL_MAX(longest, str_list_get(&v->spelling, i).len);
    buf = sl_malloc(longest + 2);
    if (!buf || !str_table_init(&v->by_spelling, count) || !str_table_init(&v->by_bytes, count)) {
        sl_free(buf);
        return sl_fail(err, SL_ENOMEM, "vocabulary of %zu tokens", count);
    }
    for (size_t i = 0; i < count; i++) {
        bool model;
        size_t n = meaning(v, (int32_t)i, buf, &model);

        if (!str_list_add(&v->bytes, buf, n)) {
            sl_free(buf);
            return sl_fail(err, SL_ENOMEM, "vocabulary of %zu tokens", count);
        }
        str_table_put(&v->by_spelling, &v->spelling, (int32_t)i);
        if (model)
            str_table_put(&v->by_bytes, &v->bytes, (int32_t)i);
    }
    sl_free(buf);
    return SL_OK;
}

void vocab_frame_put(int32_t *ids, size_t *count, int32_t id)
{
    if (id >= 0 && *count < VOCAB_FRAME_MAX)
        ids[(*count)++] = id;
}

/* Spellings that end generation whatever the metadata say: models are published with an eos that
 * their chat template never uses. */
static const char *const eog_spellings[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
    "<\xef\xbd\x9c"
    "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
};

/* Tokens of the harmony format that a reader needs to see. */
static const char *const shown_spellings[] = { "<|channel|>", "<|message|>", "<|start|>",
                                               "<|constrain|>" };

void vocab_mark_eog(token_vocab *v)
{
    for (size_t i = 0; i < SL_COUNT_OF(eog_spellings); i++) {
        int32_t id = token_find(v, eog_spellings[i], strlen(eog_spellings[i]));

        if (id < 0 || (v->kind == VOCAB_WPM && id != v->eos))
            continue;
        v->flags[id] |= TF_EOG;
        v->type[id] = TT_CONTROL;
    }
    for (size_t i = 0; i < SL_COUNT_OF(shown_spellings); i++) {
        int32_t id = token_find(v, shown_spellings[i], strlen(shown_spellings[i]));

        if (id >= 0)
            v->type[id] = TT_USER;
    }
    if (v->eos >= 0)
        v->flags[v->eos] |= TF_EOG;
    /* Where a message ends with <|return|> or <|call|>, <|end|> only ends a part of it. */
    if ((token_find(v, "<|return|>", 10) >= 0 && token_find(v, "<|call|>", 8) >= 0) ||
        (token_find(v, "<|calls|>", 9) >= 0 && token_find(v, "<|flush|>", 9) >= 0)) {
        int32_t id = token_find(v, "<|end|>", 7);

        if (id >= 0 && id != v->eos) {
            v->flags[id] &= (uint8_t)~TF_EOG;
            v->type[id] = TT_USER;
        }
    }
}

void token_vocab_destroy(token_vocab *v)
{
    if (!v)
        return;
    str_list_deinit(&v->spelling);
    str_list_deinit(&v->bytes);
    str_list_deinit(&v->ghosts);
    str_table_deinit(&v->by_spelling);
    str_table_deinit(&v->by_bytes);
    str_table_deinit(&v->by_ghost);
    sl_free(v->type);
    sl_free(v->flags);
    sl_free(v->score);
    sl_free(v->merges);
    sl_free(v->specials);
    pretok_destroy(v->pretok);
    normalizer_destroy(v->norm);
    sl_free(v);
}

size_t token_count(const token_vocab *v)
{
    return v->spelling.count;
}

static bool in_range(const token_vocab *v, int32_t id)
{
    return id >= 0 && (size_t)id < v->spelling.count;
}

sl_span token_bytes(const token_vocab *v, int32_t id, bool show_special)
{
    if (!in_range(v, id) || (token_is_control(v, id) && !show_special))
        return sl_span_of("", 0);
    return str_list_get(token_is_control(v, id) ? &v->spelling : &v->bytes, (size_t)id);
}

sl_span token_spelling(const token_vocab *v, int32_t id)
{
    return in_range(v, id) ? str_list_get(&v->spelling, (size_t)id) : sl_span_of("", 0);
}

int32_t token_find(const token_vocab *v, const char *spelling, size_t len)
{
    return str_table_get(&v->by_spelling, &v->spelling, spelling, len);
}

bool token_is_control(const token_vocab *v, int32_t id)
{
    return in_range(v, id) && (v->type[id] == TT_CONTROL || v->type[id] == TT_UNKNOWN);
}

bool token_is_eog(const token_vocab *v, int32_t id)
{
    return in_range(v, id) && (v->flags[id] & TF_EOG);
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
    return v->bos >= 0 && v->prefix_len > 0 && v->prefix[0] == v->bos;
}

const char *token_kind(const token_vocab *v)
{
    static const char *const names[] = { "bpe", "spm", "wpm", "unigram" };

    return names[v->kind];
}

const char *token_pre(const token_vocab *v)
{
    return v->pre;
}

void token_ids_deinit(token_ids *ids)
{
    sl_free(ids->ids);
    *ids = (token_ids){ 0 };
}
