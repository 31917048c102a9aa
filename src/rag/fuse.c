/* fuse.c - one score out of two: what words say and what vectors say about a passage.
 *
 * The two are put on one scale by where a passage stands between nothing and the best there is:
 * BM25 over the highest BM25; the cosine over the highest cosine, counted from the mean of the
 * collection, since models differ in what unrelated texts have in common. That keeps how much
 * better the best is, which reciprocal ranks (Cormack et al. 2009) throw away.
 *
 * Vectors weigh less where there are signs that their model does not understand: words of the
 * question that its vocabulary lacks; and a passage that words single out while the vectors find
 * nothing in it. What one collection shows is not carried over to the next question, so that a
 * question always gets the same answer.
 *
 * The order comes from the place between the worst and the best. The score that is shown is that
 * place times what the question reached in all: the share of its words' weight, and the cosine. */
#include <math.h>
#include <stdlib.h>

#include "rag/rag_int.h"

#define DOUBT_SLOPE 2 /* half a doubt is enough for vectors not to count */

static double lexical_place(const fuse_item *i, const fuse_scale *s)
{
    return s->lexical_best > 0 ? i->lexical / s->lexical_best : 0;
}

static double dense_place(const fuse_item *i, const fuse_scale *s)
{
    double span = s->dense_best - s->dense_mean;
    double place = span > 1e-6 ? (i->dense - s->dense_mean) / span : 1;

    return SL_MIN(SL_MAX(place, 0.0), 1.0);
}

/* How much speaks for the vectors being wrong: the best document by words stands alone (0..1), and
 * they do not see it (0..1). */
static double doubt(const fuse_item *items, size_t count, const fuse_scale *s)
{
    const fuse_item *best = NULL;
    double second = 0, seen = 0;

    for (size_t i = 0; i < count; i++)
        if (items[i].lexical > 0 && (!best || items[i].lexical > best->lexical))
            best = &items[i];
    for (size_t i = 0; i < count && best; i++) {
        if (items[i].owner == best->owner)
            seen = SL_MAX(seen, dense_place(&items[i], s));
        else
            second = SL_MAX(second, lexical_place(&items[i], s));
    }
    return best ? (1 - second) * (1 - seen) : 0;
}

double fuse_weight(const fuse_item *items, size_t count, const fuse_scale *s)
{
    double sum = s->weight_lexical + s->weight_dense;
    double trust, known;

    if (s->lexical_best <= 0 || s->mode == LLM_DOCS_DENSE)
        return 1; /* no passage has a word of the question */
    if (s->mode == LLM_DOCS_LEXICAL || sum <= 0)
        return 0;
    trust = SL_MAX(1 - DOUBT_SLOPE * doubt(items, count, s), 0.0);
    known = 1 - s->unknown;
    return s->weight_dense / sum * trust * trust * known * known;
}

double fuse_score(const fuse_item *i, const fuse_scale *s, double weight)
{
    double reached =
        (s->lexical_bound > 0 ? (1 - weight) * s->lexical_best / s->lexical_bound : 0) +
        weight * SL_MAX(s->dense_best, 0.0);

    if (s->mode == LLM_DOCS_LEXICAL)
        return s->lexical_bound > 0 ? i->lexical / s->lexical_bound : 0;
    if (s->mode == LLM_DOCS_DENSE)
        return SL_MAX(i->dense, 0.0);
    return ((1 - weight) * lexical_place(i, s) + weight * dense_place(i, s)) * SL_MIN(reached, 1.0);
}

static int by_score(const void *a, const void *b)
{
    const fuse_item *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

void fuse_items(fuse_item *items, size_t count, const fuse_scale *scale)
{
    double weight = fuse_weight(items, count, scale);

    for (size_t i = 0; i < count; i++)
        items[i].score = fuse_score(&items[i], scale, weight);
    if (count)
        qsort(items, count, sizeof *items, by_score);
}
