/* rag_beir.c - reads BEIR's layout and computes trec_eval's measures: linear gains in nDCG, and
 * recall over all documents with a gain above 0, found or not. */
#include "cli/rag_beir.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/mem.h"

#define ITEMS_MAX ((size_t)1 << 27)

/* ---- reading ------------------------------------------------------------------------------- */

typedef sl_status (*line_fn)(beir *b, const char *path, size_t number, char *line, sl_err *err);

/* Calls fn for each line that is not blank, numbered from 1; it may write into the line. */
static sl_status read_lines(beir *b, const char *dir, const char *name, line_fn fn, sl_err *err)
{
    char path[4096], *line = NULL;
    size_t cap = 0, number = 0;
    ssize_t len;
    FILE *f;
    sl_status status = SL_OK;

    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return sl_fail(err, SL_EINVAL, "the path of the folder is too long");
    f = fopen(path, "re");
    if (!f)
        return sl_fail(err, SL_ENOTFOUND,
                       "%s cannot be read: %m; BEIR's layout is corpus.jsonl, queries.jsonl and "
                       "qrels/test.tsv",
                       path);
    while (status == SL_OK && (len = getline(&line, &cap, f)) >= 0) {
        number++;
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
            line[--len] = '\0';
        if (len > 0)
            status = fn(b, path, number, line, err);
    }
    if (status == SL_OK && ferror(f))
        status = sl_fail(err, SL_EIO, "%s cannot be read to its end", path);
    free(line); /* getline's */
    fclose(f);
    return status;
}

static sl_status take_item(beir_item **items, size_t *count, size_t *cap, json_t *index,
                           const json_t *json, const char *where, sl_err *err)
{
    const char *id = json_string_value(json_object_get(json, "_id"));
    const char *text = json_string_value(json_object_get(json, "text"));
    const char *title = json_string_value(json_object_get(json, "title"));
    beir_item *item;

    if (!id || !text)
        return sl_fail(err, SL_EFORMAT, "%s: no object with the texts \"_id\" and \"text\"", where);
    if (json_object_get(index, id))
        return sl_fail(err, SL_EFORMAT, "%s: \"_id\" %s came before", where, id);
    if (!sl_grow((void **)items, cap, *count + 1, sizeof **items, ITEMS_MAX) ||
        json_object_set_new(index, id, json_integer((json_int_t)*count)) != 0)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    item = &(*items)[(*count)++];
    *item =
        (beir_item){ sl_strdup(id), title && title[0] ? sl_strdup(title) : NULL, sl_strdup(text) };
    return item->id && item->text && (!title || !title[0] || item->title)
               ? SL_OK
               : sl_fail(err, SL_ENOMEM, "out of memory");
}

static sl_status parse_line(const char *path, size_t number, const char *line, char *where,
                            size_t where_len, json_t **ret, sl_err *err)
{
    json_error_t e;

    snprintf(where, where_len, "%s, line %zu", path, number);
    *ret = json_loads(line, 0, &e);
    return *ret ? SL_OK : sl_fail(err, SL_EFORMAT, "%s: no JSON: %s", where, e.text);
}

static sl_status take_document(beir *b, const char *path, size_t number, char *line, sl_err *err)
{
    char where[4200];
    json_t *json;
    sl_status status;

    SL_TRY(parse_line(path, number, line, where, sizeof where, &json, err));
    status = take_item(&b->documents, &b->document_count, &b->document_cap, b->document_index, json,
                       where, err);
    json_decref(json);
    return status;
}

static sl_status take_query(beir *b, const char *path, size_t number, char *line, sl_err *err)
{
    char where[4200];
    json_t *json;
    sl_status status;

    SL_TRY(parse_line(path, number, line, where, sizeof where, &json, err));
    status =
        take_item(&b->queries, &b->query_count, &b->query_cap, b->query_index, json, where, err);
    json_decref(json);
    return status;
}

/* "query-id<TAB>corpus-id<TAB>score"; the first line is a heading. */
static sl_status take_judgement(beir *b, const char *path, size_t number, char *line, sl_err *err)
{
    char *document = strchr(line, '\t'), *score = document ? strchr(document + 1, '\t') : NULL,
         *end;
    const json_t *query, *found;
    double gain;

    if (!score)
        return sl_fail(err, SL_EFORMAT, "%s, line %zu: no three columns with tabs between", path,
                       number);
    *document++ = *score++ = '\0';
    gain = strtod(score, &end);
    if (end == score || *end || !isfinite(gain)) {
        if (number == 1)
            return SL_OK;
        return sl_fail(err, SL_EFORMAT, "%s, line %zu: the score '%s' is no number", path, number,
                       score);
    }
    query = json_object_get(b->query_index, line);
    found = json_object_get(b->document_index, document);
    if (!query)
        return sl_fail(err, SL_EFORMAT, "%s, line %zu: queries.jsonl has no query '%s'", path,
                       number, line);
    if (!sl_grow((void **)&b->judgements, &b->judgement_cap, b->judgement_count + 1,
                 sizeof *b->judgements, ITEMS_MAX))
        return sl_fail(err, SL_ENOMEM, "out of memory");
    b->unknown_documents += !found;
    b->judgements[b->judgement_count++] =
        (beir_judgement){ (size_t)json_integer_value(query),
                          found ? (size_t)json_integer_value(found) : SIZE_MAX, gain };
    return SL_OK;
}

static int by_query(const void *a, const void *b)
{
    const beir_judgement *x = a, *y = b;

    if (x->query != y->query)
        return x->query > y->query ? 1 : -1;
    return (x->document > y->document) - (x->document < y->document);
}

static sl_status read_all(const char *dir, beir *b, sl_err *err)
{
    b->document_index = json_object();
    b->query_index = json_object();
    if (!b->document_index || !b->query_index)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    SL_TRY(read_lines(b, dir, "corpus.jsonl", take_document, err));
    SL_TRY(read_lines(b, dir, "queries.jsonl", take_query, err));
    SL_TRY(read_lines(b, dir, "qrels/test.tsv", take_judgement, err));
    if (b->judgement_count == 0 || b->document_count == 0)
        return sl_fail(err, SL_EFORMAT, "%s has no documents or no judgements", dir);
    qsort(b->judgements, b->judgement_count, sizeof *b->judgements, by_query);
    return SL_OK;
}

sl_status beir_read(const char *dir, beir *ret, sl_err *err)
{
    sl_status status;

    *ret = (beir){ 0 };
    status = read_all(dir, ret, err);
    if (status != SL_OK)
        beir_deinit(ret);
    return status;
}

static void items_deinit(beir_item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sl_free(items[i].id);
        sl_free(items[i].title);
        sl_free(items[i].text);
    }
    sl_free(items);
}

void beir_deinit(beir *b)
{
    items_deinit(b->documents, b->document_count);
    items_deinit(b->queries, b->query_count);
    json_decref(b->document_index);
    json_decref(b->query_index);
    sl_free(b->judgements);
    *b = (beir){ 0 };
}

/* ---- measures ------------------------------------------------------------------------------ */

/* The query's judgements: *ret_count from the one returned. */
static const beir_judgement *judgements_of(const beir *b, size_t query, size_t *ret_count)
{
    size_t low = 0, high = b->judgement_count, end;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (b->judgements[mid].query < query)
            low = mid + 1;
        else
            high = mid;
    }
    for (end = low; end < b->judgement_count && b->judgements[end].query == query;)
        end++;
    *ret_count = end - low;
    return b->judgements + low;
}

bool beir_has(const beir *b, size_t query)
{
    size_t count;

    (void)judgements_of(b, query, &count);
    return count > 0;
}

double beir_gain(const beir *b, size_t query, size_t document)
{
    size_t count;
    const beir_judgement *j = judgements_of(b, query, &count);

    for (size_t i = 0; i < count; i++)
        if (j[i].document == document)
            return j[i].gain;
    return 0;
}

static int by_gain(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x < *y) - (*x > *y);
}

/* The DCG of the first 10 when all documents came in the order of their gains; *ret_relevant: how
 * many have one. */
static double ideal(const beir_judgement *j, size_t count, size_t *ret_relevant)
{
    double *gains = sl_calloc(count + 1, sizeof *gains), sum = 0;
    size_t n = 0;

    for (size_t i = 0; i < count && gains; i++)
        if (j[i].gain > 0)
            gains[n++] = j[i].gain;
    if (n)
        qsort(gains, n, sizeof *gains, by_gain);
    for (size_t i = 0; i < SL_MIN(n, (size_t)10); i++)
        sum += gains[i] / log2((double)i + 2);
    sl_free(gains);
    *ret_relevant = n;
    return sum;
}

void beir_measure(const beir *b, size_t query, const size_t *documents, size_t count,
                  beir_measures *m)
{
    size_t judged, relevant = 0, first = 0, hits = 0;
    const beir_judgement *j = judgements_of(b, query, &judged);
    double best = ideal(j, judged, &relevant), dcg = 0;

    if (judged == 0)
        return; /* nobody asked */
    m->count++;
    for (size_t i = 0; i < SL_MIN(count, (size_t)BEIR_DEPTH) && relevant; i++) {
        double gain = beir_gain(b, query, documents[i]);

        if (gain <= 0)
            continue;
        hits++;
        first = first ? first : i + 1;
        dcg += i < 10 ? gain / log2((double)i + 2) : 0;
        m->recall_1 += i < 1 ? 1.0 / (double)relevant : 0;
        m->recall_5 += i < 5 ? 1.0 / (double)relevant : 0;
        m->recall_10 += i < 10 ? 1.0 / (double)relevant : 0;
    }
    m->recall_100 += relevant ? (double)hits / (double)relevant : 0;
    m->mrr_10 += first && first <= 10 ? 1.0 / (double)first : 0;
    m->ndcg_10 += best > 0 ? dcg / best : 0;
}

void beir_finish(beir_measures *m)
{
    double n = m->count ? (double)m->count : 1;

    m->ndcg_10 /= n;
    m->recall_1 /= n;
    m->recall_5 /= n;
    m->recall_10 /= n;
    m->recall_100 /= n;
    m->mrr_10 /= n;
}
