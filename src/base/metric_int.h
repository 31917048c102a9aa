/* metric_int.h - what metric.c, which counts, and metric_text.c, which writes, share. */
#ifndef SL_BASE_METRIC_INT_H
#define SL_BASE_METRIC_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/metric.h"

struct metric_series {
    metric_family *family;
    metric_series *next;
    uint32_t hash; /* of the values */
    char *values[METRIC_LABELS_MAX];
    _Atomic uint64_t bits;     /* counter, gauge: the value; histogram: the sum */
    _Atomic uint64_t counts[]; /* histogram: [bound_count + 1], the last one for +Inf */
};

struct metric_family {
    metric_registry *registry;
    metric_family *next;
    metric_kind kind;
    char *name, *help;
    char *labels[METRIC_LABELS_MAX];
    size_t label_count;
    double bounds[METRIC_BOUNDS_MAX];
    bool is_hidden[METRIC_BOUNDS_MAX]; /* counted by, for views, but not shown */
    size_t bound_count;
    /* At most one of these; they make the series when the text is rendered. */
    double (*fn)(void *ctx);
    metric_collect_fn collect;
    metric_view *view;
    void *fn_ctx;
    /* under registry->mutex */
    metric_series *head, *tail;
    size_t series_count;
};

struct metric_registry {
    pthread_mutex_t mutex; /* the lists; recursive, because fn may read families; rank: leaf */
    metric_family *head, *tail;
    size_t family_count;
};

double metric_double_of(uint64_t bits);

#endif
