/* reply.c - what a model says, on its way to the reader.
 *
 * Everything goes through the citation filter; a sentence that was said before, or one that goes
 * round in circles, ends the answer; at the end an answer that names no passage gets those that
 * support it. */
#include "rag/answer_int.h"

#include "kernels/kernels.h"

#define ANSWER_BYTES_MAX (1 * SL_MIB) /* of an answer kept for finding its support */
#define SENTENCES_MAX    32           /* of an answer that are checked for support */
#define SUPPORT_COSINE   0.5
#define SUPPORT_WORDS    0.6
#define SENTENCE_MIN     12 /* bytes; shorter ones ("Yes.") look like anything */
#define LOOP_BYTES       40 /* so much of a sentence said in it three times: no answer any more */

static void put(void *ctx, const char *text, size_t len)
{
    reply *p = ctx;

    sl_buf_put(&p->answer, text, len);
}

void reply_init(reply *p, const evidence *e, bool no_markers,
                void (*deliver)(void *ctx, const char *text, size_t len), void *ctx)
{
    *p = (reply){ .e = e, .deliver = deliver, .ctx = ctx };
    sl_buf_init(&p->answer, ANSWER_BYTES_MAX);
    cite_filter_init(&p->filter, no_markers ? 0 : (int32_t)e->packed.count, put, p);
}

void reply_deinit(reply *p)
{
    cite_filter_deinit(&p->filter);
    sl_buf_deinit(&p->answer);
}

/* ---- the stream ---------------------------------------------------------------------------- */

static void deliver(reply *p, size_t end)
{
    if (end > p->sent)
        p->deliver(p->ctx, p->answer.ptr + p->sent, end - p->sent);
    p->sent = SL_MAX(p->sent, end);
}

static size_t skip_space(const char *text, size_t at, size_t end)
{
    while (at < end && strchr(" \t\r\n", text[at]))
        at++;
    return at;
}

/* Whether answer[begin..end) begins an earlier sentence, or (is_whole) is one. */
static bool is_said(const reply *p, size_t begin, size_t end, bool is_whole)
{
    const char *text = p->answer.ptr;

    begin = skip_space(text, begin, end);
    if (p->may_repeat || (is_whole && end - begin < SENTENCE_MIN))
        return false;
    for (size_t at = 0, stop; at < p->sentence; at = stop) {
        size_t from = skip_space(text, at, p->sentence);

        stop = chunk_sentence_end(text, p->sentence, at);
        if (stop >= from && (is_whole ? stop - from == end - begin : stop - from >= end - begin) &&
            memcmp(text + from, text + begin, end - begin) == 0)
            return true;
    }
    return false;
}

/* Whether the unfinished sentence goes round in circles: its end was in it twice before. */
static bool is_looping(const reply *p)
{
    const char *from = p->answer.ptr + p->sentence, *end = p->answer.ptr + p->answer.len;
    int times = 0;

    if (p->may_repeat || end - from < 3 * LOOP_BYTES)
        return false;
    for (const char *at = from; times < 3 && at <= end - LOOP_BYTES; at++)
        if (memcmp(at, end - LOOP_BYTES, LOOP_BYTES) == 0) {
            times++;
            at += LOOP_BYTES - 1;
        }
    return times == 3;
}

/* Delivers what may be delivered. Small models repeat a sentence for ever: the beginning of what
 * may be a repetition is held back, and a whole one ends the answer in front of it. */
static void flush(reply *p, bool is_end)
{
    size_t len = p->answer.len, end;

    while (p->sentence < len) {
        end = chunk_sentence_end(p->answer.ptr, len, p->sentence);
        if (end == len && !is_end) {
            if (is_looping(p)) {
                p->stopped = true;
                p->answer.len = p->sent;
                return;
            }
            if (!is_said(p, p->sentence, len, false))
                deliver(p, len);
            return;
        }
        if (is_said(p, p->sentence, end, true)) {
            p->stopped = true;
            p->answer.len = SL_MAX(p->sent, p->sentence);
            return;
        }
        deliver(p, end);
        p->sentence = end;
    }
}

void reply_push(reply *p, const char *text, size_t len)
{
    if (p->stopped)
        return;
    cite_filter_push(&p->filter, text, len);
    flush(p, false);
}

/* ---- support ------------------------------------------------------------------------------- */

typedef struct sentences {
    rag_text items[SENTENCES_MAX];
    size_t count;
} sentences;

static void split(const char *text, size_t len, sentences *ret)
{
    ret->count = 0;
    for (size_t at = 0; at < len && ret->count < SENTENCES_MAX;) {
        size_t end = chunk_sentence_end(text, len, at);

        at = skip_space(text, at, end);
        if (end - at >= SENTENCE_MIN)
            ret->items[ret->count++] = (rag_text){ "", text + at, end - at };
        at = end;
    }
}

/* The passage (from 1) that supports a sentence best; 0 when none does. vector may be NULL. */
static int32_t supporter(const reply *p, const rag_text *s, const float *vector)
{
    const evidence *e = p->e;
    double best = 0;
    int32_t number = 0;

    for (size_t i = 0; i < e->packed.count; i++) {
        const pack_block *b = &e->packed.items[i];
        const float *v = e->hits.items[b->hit].vector;
        double cosine = vector && v ? kernels_dot_f32(vector, v, e->hits.dim) : 0;
        double words = cite_overlap(s->text, s->len, b->text, strlen(b->text));

        if ((cosine >= SUPPORT_COSINE || words >= SUPPORT_WORDS) && cosine + words > best) {
            best = cosine + words;
            number = (int32_t)i + 1;
        }
    }
    return number;
}

static void note(int32_t *numbers, size_t *count, int32_t n)
{
    for (size_t i = 0; i < *count; i++)
        if (numbers[i] == n)
            return;
    numbers[(*count)++] = n;
}

/* Finds the passages behind an answer that names none, and appends their markers. Without vectors
 * (the embedding model is busy) words alone decide. */
static void attach_support(reply *p, atomic_bool *cancelled, bool with_vectors)
{
    const evidence *e = p->e;
    int32_t numbers[SENTENCES_MAX];
    size_t count = 0;
    sentences s;
    rag_model m;
    float *vectors = NULL;
    bool has_vectors = false;

    split(sl_buf_str(&p->answer), p->answer.len, &s);
    if (with_vectors && s.count && rag_embed_model(e->r, &m, NULL) == SL_OK && m.dim == e->hits.dim)
        vectors = sl_calloc(s.count, m.dim * sizeof *vectors);
    if (vectors)
        has_vectors = rag_embed(e->r, &m, s.items, s.count, cancelled, vectors, NULL) == SL_OK;
    for (size_t i = 0; i < s.count; i++) {
        int32_t n = supporter(p, &s.items[i], has_vectors ? vectors + i * e->hits.dim : NULL);

        if (n)
            note(numbers, &count, n);
    }
    sl_free(vectors); /* the sentences point into the answer: no append before this */
    for (size_t i = 0; i < count; i++)
        cite_filter_add(&p->filter, numbers[i]);
    p->attached = true;
}

/* The model said nothing: the sentence of the best passage that has most words of the question. */
static void quote_best(reply *p, const char *question)
{
    const pack_block *b = &p->e->packed.items[0];
    double share;
    sl_span s =
        cite_quote(sl_span_of(question, strlen(question)), b->text, strlen(b->text), &share);
    int32_t count = p->filter.passage_count;

    p->filter.passage_count = 0; /* numbers in brackets there are no markers of ours */
    cite_filter_push(&p->filter, (const char *)s.ptr, s.len);
    cite_filter_end(&p->filter);
    p->filter.passage_count = count;
    if (count > 0)
        cite_filter_add(&p->filter, 1);
}

/* Nothing but blanks and markers. */
static bool is_blank(const reply *p)
{
    const char *text = sl_buf_str(&p->answer);
    size_t m = 0;

    for (size_t i = 0; i < p->answer.len; i++) {
        if (m < p->filter.mark_count && p->filter.marks[m].at == i) {
            i = p->filter.marks[m++].end - 1;
            continue;
        }
        if (!strchr(" \t\r\n", text[i]))
            return false;
    }
    return true;
}

/* Markers that were cut off with the text they stood in. */
static void forget_marks(cite_filter *f, size_t len)
{
    while (f->mark_count > 0 && f->marks[f->mark_count - 1].end > len)
        f->mark_count--;
    f->out_len = len;
}

void reply_end(reply *p, const llm_docs_query *q, bool with_vectors)
{
    if (!p->stopped) {
        cite_filter_end(&p->filter);
        while (p->answer.len > p->sent && strchr(" \t\r\n", p->answer.ptr[p->answer.len - 1]))
            p->answer.len--; /* models like to end with empty lines */
        flush(p, true);
    }
    forget_marks(&p->filter, p->answer.len);
    if (is_blank(p))
        quote_best(p, q->question);
    else if (p->filter.order_count == 0 && p->filter.passage_count > 0)
        attach_support(p, q->cancelled, with_vectors);
    deliver(p, p->answer.len);
}

/* ---- citations ------------------------------------------------------------------------------ */

/* Sets the quote of a passage: the sentence in it that says what the answer says at its marker. */
static void set_quote(const reply *p, int32_t number, llm_passage *c, char **ret_quote)
{
    const pack_block *b = &p->e->packed.items[number - 1];
    sl_span statement = { 0 }, quote;
    double share;

    for (size_t i = 0; i < p->filter.mark_count && !statement.ptr; i++)
        if (p->filter.marks[i].number == number)
            statement = p->attached ? sl_span_of(p->answer.ptr, p->filter.marks[0].at)
                                    : cite_statement(p->answer.ptr, p->filter.marks[i].at);
    quote = cite_quote(statement, b->text, strlen(b->text), &share);
    if (!quote.len)
        return;
    *ret_quote = sl_strndup((const char *)quote.ptr, quote.len);
    c->quote = *ret_quote;
    c->quote_begin = b->begin + ((const char *)quote.ptr - b->text);
    c->quote_end = c->quote_begin + (int64_t)quote.len;
}

size_t reply_citations(const reply *p, llm_passage *out, char **quotes)
{
    size_t count = p->filter.order_count;

    for (size_t i = 0; i < count; i++) {
        quotes[i] = NULL;
        out[i] = evidence_passage(p->e, p->filter.order[i]);
        set_quote(p, p->filter.order[i], &out[i], &quotes[i]);
    }
    return count;
}
