/* unigram.c - the unigram model (Kudo 2018): of all ways to cut a text into tokens the one whose
 * scores sum highest, found by Viterbi's algorithm; a character that no token covers is unknown,
 * and neighbours that are become one unknown token. */
#include "token/token_int.h"

#include <math.h>

#define UNKNOWN_PENALTY 10.0 /* below the lowest score, as in SentencePiece */

void unigram_finish(token_vocab *v)
{
    double lowest = INFINITY;

    for (size_t i = 0; i < v->spelling.count; i++)
        if (v->type[i] == TT_NORMAL)
            lowest = SL_MIN(lowest, (double)v->score[i]);
    v->unknown_score = (isfinite(lowest) ? lowest : 0) - UNKNOWN_PENALTY;
}

/* The token that text[0..len) is, -1: none. What controls the model is no text. */
static int32_t token_at(const token_vocab *v, const char *text, size_t len)
{
    int32_t id = str_table_get(&v->by_spelling, &v->spelling, text, len);

    return id >= 0 && v->type[id] != TT_CONTROL && v->type[id] != TT_UNKNOWN && id != v->unk ? id
                                                                                             : -1;
}

static void offer(unigram_node *to, double score, size_t from, int32_t id)
{
    if (to->from != UINT32_MAX && score <= to->score)
        return;
    *to = (unigram_node){ score, (uint32_t)from, id };
}

/* Tokens that begin at byte `at`, and the character there as unknown where it is no token. */
static void step_from(const scratch *s, const char *text, size_t len, size_t at)
{
    const token_vocab *v = s->v;
    size_t most = SL_MIN(len - at, v->token_bytes_max), n;
    double score = s->nodes[at].score;
    bool covered = false;
    uint32_t cp;

    n = sl_utf8_decode(text + at, len - at, &cp);
    n = n ? n : 1;
    for (size_t end = n; end <= most; end++) {
        int32_t id;

        if (at + end < len && ((uint8_t)text[at + end] & 0xc0) == 0x80)
            continue; /* inside a character */
        id = token_at(v, text + at, end);
        if (id < 0)
            continue;
        covered |= end == n;
        offer(&s->nodes[at + end], score + (double)v->score[id], at, id);
    }
    if (!covered)
        offer(&s->nodes[at + n], score + v->unknown_score, at, -1);
}

/* Unknown text: its bytes, where there are tokens for them, or one unknown token. */
static sl_status put_unknown(scratch *s, const char *text, size_t len)
{
    const token_vocab *v = s->v;
    bool bytes = v->byte_fallback;

    for (size_t i = 0; i < len && bytes; i++)
        bytes = v->byte_token[(uint8_t)text[i]] >= 0;
    for (size_t i = 0; i < len && bytes; i++)
        SL_TRY(ids_push(s, v->byte_token[(uint8_t)text[i]]));
    return bytes || v->unk < 0 ? SL_OK : ids_push(s, v->unk);
}

sl_status unigram_encode(scratch *s, const char *text, size_t len)
{
    size_t unknown = 0; /* bytes before `at` that no token covers */

    if (len == 0)
        return SL_OK;
    if (len >= UINT32_MAX / 2)
        return sl_fail(s->err, SL_ELIMIT, "a text of %zu bytes", len);
    if (!sl_grow((void **)&s->nodes, &s->node_cap, len + 1, sizeof *s->nodes, SIZE_MAX / 64))
        return sl_fail(s->err, SL_ENOMEM, "a text of %zu bytes", len);
    for (size_t i = 1; i <= len; i++)
        s->nodes[i].from = UINT32_MAX;
    s->nodes[0] = (unigram_node){ .score = 0 };
    for (size_t i = 0; i < len; i++)
        if (i == 0 || s->nodes[i].from != UINT32_MAX)
            step_from(s, text, len, i);
    for (size_t end = len; end > 0; end = s->nodes[end].from)
        s->nodes[s->nodes[end].from].next = (uint32_t)end;
    for (size_t at = 0; at < len; at = s->nodes[at].next) {
        size_t end = s->nodes[at].next;
        int32_t id = s->nodes[end].id;

        if (id < 0) {
            unknown += end - at;
            continue;
        }
        if (unknown > 0)
            SL_TRY(put_unknown(s, text + at - unknown, unknown));
        unknown = 0;
        SL_TRY(ids_push(s, id));
    }
    return unknown > 0 ? put_unknown(s, text + len - unknown, unknown) : SL_OK;
}
