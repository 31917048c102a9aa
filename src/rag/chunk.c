/* chunk.c - packs sentences and blocks into chunks of about the wanted size, and finds what is read
 * with each.
 *
 * Units are measured one by one and summed while packing, so that the tokenizer sees every byte a
 * constant number of times; a finished chunk is then measured whole, because the sum is only an
 * estimate for models whose tokens cross spaces. */
#include "rag/chunk.h"

#include "base/limits.h"
#include "base/mem.h"
#include "rag/chunk_int.h"

typedef struct packer {
    const char *text;
    const chunk_options *o;
    unit_list units;
    unit_list pieces; /* units that fit; only items is used */
    size_t *budgets;  /* [section_count] tokens that the heading leaves */
    chunk_list *out;
    sl_err *err;
} packer;

static sl_status count(packer *p, size_t begin, size_t end, size_t *ret)
{
    return p->o->count(p->o->ctx, p->text + begin, end - begin, ret, p->err);
}

static bool is_tail(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* Where to cut [begin, end) in two: at the line end nearest to the middle, else at a space, else
 * between characters. begin when it is one character. */
static size_t find_cut(const char *text, size_t begin, size_t end)
{
    size_t mid = begin + (end - begin) / 2, reach = (end - begin) / 4, cut;

    for (cut = mid; cut > mid - reach; cut--)
        if (text[cut - 1] == '\n')
            return cut;
    for (cut = mid; cut > mid - reach; cut--)
        if (text[cut - 1] == ' ' || text[cut - 1] == '\t')
            return cut;
    for (cut = mid; cut > begin && is_tail(text[cut]);)
        cut--;
    if (cut > begin)
        return cut;
    for (cut = begin + 1; cut < end && is_tail(text[cut]);)
        cut++;
    return cut < end ? cut : begin;
}

/* ---- measuring ----------------------------------------------------------------------------- */

static sl_status push_piece(packer *p, const unit *u)
{
    unit_list *l = &p->pieces;

    if (!sl_grow((void **)&l->items, &l->cap, l->count + 1, sizeof *l->items,
                 SL_HTTP_BODY_BYTES_MAX))
        return sl_fail(p->err, SL_ENOMEM, "out of memory");
    l->items[l->count++] = *u;
    return SL_OK;
}

/* The tokens that a chunk beginning with u may have: what its heading and header row leave. */
static size_t budget_of(const packer *p, const unit *u)
{
    size_t budget = p->budgets[u->section];
    size_t header = u->header ? p->units.headers[u->header - 1].tokens : 0;

    return budget > header ? budget - header : 1;
}

/* Pushes u, halved until the parts fit. The halves of a text of n tokens cost n log n. */
static sl_status measure(packer *p, unit u)
{
    size_t budget = budget_of(p, &u);
    size_t cap = SL_MIN(u.is_code ? 2 * p->o->target_tokens : p->o->target_tokens, budget);
    unit head = u, tail = u;

    /* A token has at least one byte: what is surely too long need not be counted yet. */
    if ((u.end - u.begin) / 64 <= cap) {
        SL_TRY(count(p, u.begin, u.end, &u.tokens));
        if (u.tokens <= cap)
            return push_piece(p, &u);
    }
    head.end = tail.begin = find_cut(p->text, u.begin, u.end);
    if (head.end == u.begin) /* one character: as small as it gets */
        return push_piece(p, &u);
    tail.is_block = false;
    SL_TRY(measure(p, head));
    return measure(p, tail);
}

/* The tokens a chunk may have under each heading. A path that would fill half the model's context
 * is dropped. */
static sl_status set_budgets(packer *p)
{
    unit_list *l = &p->units;
    size_t max = p->o->tokens_max, tokens;

    p->budgets = sl_calloc(l->section_count, sizeof *p->budgets);
    if (!p->budgets)
        return sl_fail(p->err, SL_ENOMEM, "out of memory");
    for (size_t i = 0; i < l->section_count; i++) {
        size_t len = strlen(l->sections[i]);

        tokens = 0;
        if (len)
            SL_TRY(p->o->count(p->o->ctx, l->sections[i], len, &tokens, p->err));
        if (tokens + 1 > max / 2) {
            l->sections[i][0] = '\0';
            tokens = 0;
        }
        p->budgets[i] = max > tokens + 1 ? max - tokens - 1 : 1;
    }
    return SL_OK;
}

/* A header row that would fill a quarter of the model's context is dropped. */
static sl_status measure_headers(packer *p)
{
    for (size_t i = 0; i < p->units.header_count; i++) {
        unit_header *h = &p->units.headers[i];
        size_t tokens;

        SL_TRY(count(p, h->begin, h->end, &tokens));
        if (tokens + 1 > p->o->tokens_max / 4)
            h->end = h->begin;
        else
            h->tokens = tokens + 1;
    }
    return SL_OK;
}

/* ---- packing ------------------------------------------------------------------------------- */

static size_t trim_end(const char *text, size_t begin, size_t end)
{
    while (end > begin && strchr(" \t\r\n", text[end - 1]))
        end--;
    return end;
}

static size_t trim_begin(const char *text, size_t begin, size_t end)
{
    while (begin < end && strchr(" \t\r\n", text[begin]))
        begin++;
    return begin;
}

static void set_header(const packer *p, const unit *first, chunk *c)
{
    const unit_header *h = first->header ? &p->units.headers[first->header - 1] : NULL;

    if (!h || h->begin == h->end || h->begin >= c->begin)
        return;
    c->header_begin = h->begin;
    c->header_end = h->end;
}

/* Appends the chunk [begin, end) that begins with the unit first; when it is too long after all,
 * its halves. */
static sl_status push_chunk(packer *p, size_t begin, size_t end, const unit *first)
{
    chunk_list *out = p->out;
    const chunk *last = out->count ? &out->items[out->count - 1] : NULL;
    size_t tokens, cut;

    /* When halves were cut, an overlap may reach in front of the last one: then there is none. */
    if (last && begin <= last->begin)
        begin = SL_MIN(last->end, end);
    end = trim_end(p->text, begin, end);
    if (!first->is_code) /* the indentation of code means something */
        begin = trim_begin(p->text, begin, end);
    if (begin == end || (last && end <= last->end))
        return SL_OK; /* nothing, or nothing but overlap */
    SL_TRY(count(p, begin, end, &tokens));
    cut = tokens > budget_of(p, first) ? find_cut(p->text, begin, end) : begin;
    if (cut > begin) {
        SL_TRY(push_chunk(p, begin, cut, first));
        return push_chunk(p, cut, end, first);
    }
    if (!sl_grow((void **)&out->items, &out->cap, out->count + 1, sizeof *out->items, CHUNKS_MAX))
        return sl_fail(p->err, SL_ELIMIT, "the document has more than %d passages", CHUNKS_MAX);
    out->items[out->count] = (chunk){ .begin = begin,
                                      .end = end,
                                      .tokens = tokens,
                                      .section = first->section,
                                      .page = first->page,
                                      .parent_begin = begin,
                                      .parent_end = end };
    set_header(p, first, &out->items[out->count++]);
    return SL_OK;
}

/* The tokens of the block that begins at piece i. */
static size_t block_tokens(const packer *p, size_t i)
{
    size_t sum = p->pieces.items[i].tokens;

    for (size_t j = i + 1;
         j < p->pieces.count && !p->pieces.items[j].is_block && sum <= p->o->target_tokens; j++)
        sum += p->pieces.items[j].tokens;
    return sum;
}

/* The piece behind the chunk that begins at piece `first`. */
static size_t fill_chunk(const packer *p, size_t first, size_t must)
{
    const unit *items = p->pieces.items;
    size_t cap = SL_MIN(p->o->target_tokens, budget_of(p, &items[first])), sum = 0, i;

    for (i = first; i < p->pieces.count; i++) {
        const unit *u = &items[i];

        if (u->section != items[first].section)
            break;
        if (i > must && sum + u->tokens > cap)
            break;
        /* Better to end with a paragraph than in the next one, once the chunk has a fair size. */
        if (i > must && u->is_block && sum * 5 >= cap * 3 && sum + block_tokens(p, i) > cap)
            break;
        sum += u->tokens;
    }
    return i;
}

/* The first piece of the chunk that goes on at `next`: some of the chunk before, for context. */
static size_t step_back(const packer *p, size_t first, size_t next)
{
    const unit *items = p->pieces.items;
    size_t cap = SL_MIN(p->o->target_tokens, budget_of(p, &items[next])), sum = 0;
    size_t at = next;

    while (at > first + 1 && items[at - 1].section == items[next].section &&
           !items[at - 1].is_code && sum + items[at - 1].tokens <= p->o->overlap_tokens &&
           sum + items[at - 1].tokens + items[next].tokens <= cap)
        sum += items[--at].tokens;
    return at;
}

static sl_status pack(packer *p)
{
    const unit *items = p->pieces.items;
    size_t first = 0, must = 0;

    while (must < p->pieces.count) {
        size_t next = fill_chunk(p, first, must);

        SL_ASSERT(next > must);
        SL_TRY(push_chunk(p, items[first].begin, items[next - 1].end, &items[first]));
        if (next == p->pieces.count)
            break;
        first = step_back(p, first, next);
        must = next;
    }
    return SL_OK;
}

/* ---- parents ------------------------------------------------------------------------------- */

/* The first piece that ends behind at. */
static size_t piece_at(const packer *p, size_t at)
{
    size_t low = 0, high = p->pieces.count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (p->pieces.items[mid].end <= at)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool may_join(const packer *p, const chunk *c, size_t sum, size_t i)
{
    return i < p->pieces.count && p->pieces.items[i].section == c->section &&
           sum + p->pieces.items[i].tokens <= p->o->parent_tokens;
}

/* Grows the parent piece by piece, in turn behind and in front, while there is section and room. */
static void set_parent(const packer *p, chunk *c)
{
    const unit *items = p->pieces.items;
    size_t first = piece_at(p, c->begin), next = first, sum = c->tokens;
    bool grows = true;

    while (next < p->pieces.count && items[next].begin < c->end)
        next++;
    while (grows) {
        grows = false;
        if (may_join(p, c, sum, next)) {
            sum += items[next].tokens;
            c->parent_end = trim_end(p->text, c->parent_end, items[next].end);
            next++;
            grows = true;
        }
        if (first > 0 && may_join(p, c, sum, first - 1)) {
            first--;
            sum += items[first].tokens;
            c->parent_begin = trim_begin(p->text, items[first].begin, c->parent_begin);
            grows = true;
        }
    }
}

/* ---- the whole ----------------------------------------------------------------------------- */

static sl_status check_text(const reader_document *d, sl_err *err)
{
    bool is_blank = true;
    uint32_t cp = 0;
    size_t n;

    for (size_t at = 0; at < d->len; at += n) {
        n = sl_utf8_decode(d->text + at, d->len - at, &cp);
        if (n == 0)
            return sl_fail(err, SL_EFORMAT, "the document is not UTF-8 at byte %zu", at);
        if (cp == 0)
            return sl_fail(err, SL_EFORMAT, "the document has a NUL byte at byte %zu", at);
        is_blank = is_blank && (cp == ' ' || (cp >= '\t' && cp <= '\r') || cp == 0xfeff);
    }
    return is_blank ? sl_fail(err, SL_EINVAL, "the document is empty") : SL_OK;
}

/* Blocks come from a process that reads hostile files. */
static sl_status check_blocks(const reader_document *d, sl_err *err)
{
    size_t end = 0;

    for (size_t i = 0; i < d->count; i++) {
        const reader_block *b = &d->blocks[i];

        if (b->begin < end || b->end <= b->begin || b->end > d->len || b->header > i ||
            b->kind >= READER_KIND_COUNT || is_tail(d->text[b->begin]) ||
            (b->end < d->len && is_tail(d->text[b->end])))
            return sl_fail(err, SL_EFORMAT, "block %zu of the document is not sound", i);
        end = b->end;
    }
    return SL_OK;
}

static sl_status run(packer *p, const reader_document *d)
{
    SL_TRY(check_text(d, p->err));
    SL_TRY(check_blocks(d, p->err));
    SL_TRY(units_read(d, &p->units, p->err));
    SL_TRY(set_budgets(p));
    SL_TRY(measure_headers(p));
    for (size_t i = 0; i < p->units.count; i++)
        SL_TRY(measure(p, p->units.items[i]));
    SL_TRY(pack(p));
    for (size_t i = 0; i < p->out->count; i++)
        set_parent(p, &p->out->items[i]);
    return p->out->count ? SL_OK : sl_fail(p->err, SL_EINVAL, "the document has no text");
}

sl_status chunk_document(const reader_document *d, const chunk_options *o, chunk_list *ret,
                         sl_err *err)
{
    packer p = { .text = d->text, .o = o, .out = ret, .err = err };
    sl_status status;

    SL_ASSERT(o->target_tokens > 0);
    *ret = (chunk_list){ 0 };
    status = run(&p, d);
    if (status == SL_OK) {
        ret->sections = p.units.sections;
        ret->section_count = p.units.section_count;
        memcpy(ret->title, p.units.title, sizeof ret->title);
        p.units.sections = NULL;
    } else {
        chunk_list_deinit(ret);
    }
    unit_list_deinit(&p.units);
    unit_list_deinit(&p.pieces);
    sl_free(p.budgets);
    return status;
}

sl_status chunk_text(sl_span text, const chunk_options *o, chunk_list *ret, sl_err *err)
{
    reader_document d = { .text = (char *)text.ptr, .len = text.len };
    sl_status status;

    *ret = (chunk_list){ 0 };
    SL_TRY(check_text(&d, err));
    status = blocks_read(o->is_plain, &d, err);
    if (status == SL_OK)
        status = chunk_document(&d, o, ret, err);
    sl_free(d.blocks);
    return status;
}

void chunk_list_deinit(chunk_list *list)
{
    sl_free(list->items);
    sl_free(list->sections);
    *list = (chunk_list){ 0 };
}

void chunk_put_context(const chunk_list *list, const chunk *c, const char *text, sl_buf *out)
{
    const char *heading = list->sections[c->section];

    if (heading[0])
        sl_buf_printf(out, "%s\n", heading);
    if (c->header_end > c->header_begin) {
        sl_buf_put(out, text + c->header_begin, c->header_end - c->header_begin);
        sl_buf_putc(out, '\n');
    }
}
