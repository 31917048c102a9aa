/* metric.h - counters, gauges and histograms, and the text a Prometheus server reads.
 *
 * A registry holds families (one name, one help text, up to METRIC_LABELS_MAX label names); a
 * family holds series (one per combination of label values). Making families and series takes a
 * lock; updating a series takes none, so that any thread may do it at any time. Families and series
 * live as long as their registry, and every function accepts a NULL series or family: running out
 * of memory loses a number, never a request. */
#ifndef SL_BASE_METRIC_H
#define SL_BASE_METRIC_H

#include "base/buf.h"

#define METRIC_LABELS_MAX       4
#define METRIC_BOUNDS_MAX       112 /* those of a view or two beside the family's own */
#define METRIC_SERIES_MAX       512 /* per family; later combinations share one labelled "other" */
#define METRIC_CONTENT_TYPE     "text/plain; version=0.0.4; charset=utf-8"
#define METRIC_OPENMETRICS_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

typedef enum metric_kind {
    METRIC_COUNTER,
    METRIC_GAUGE,
    METRIC_HISTOGRAM,
    METRIC_KIND_COUNT
} metric_kind;

typedef struct metric_registry metric_registry;
typedef struct metric_family metric_family;
typedef struct metric_series metric_series;

metric_registry *metric_registry_create(void); /* NULL when out of memory */
void metric_registry_destroy(metric_registry *r);

/* A family by name; the second call with a name returns the first one's family. labels: a
 * NULL-terminated list of label names, or NULL for none. Texts are copied. */
metric_family *metric_counter(metric_registry *r, const char *name, const char *help,
                              const char *const *labels);
metric_family *metric_gauge(metric_registry *r, const char *name, const char *help,
                            const char *const *labels);
/* bounds: [count] rising upper bounds, without +Inf. */
metric_family *metric_histogram(metric_registry *r, const char *name, const char *help,
                                const char *const *labels, const double *bounds, size_t count);
/* Counts by more bounds than the family shows, for views. Before its first series. */
void metric_refine(metric_family *f, const double *bounds, size_t count);
/* A gauge or counter whose value is asked for when the text is rendered. fn is called from any
 * thread, must not block and may read other families; ctx outlives the registry. */
void metric_gauge_fn(metric_registry *r, const char *name, const char *help,
                     double (*fn)(void *ctx), void *ctx);
void metric_counter_fn(metric_registry *r, const char *name, const char *help,
                       double (*fn)(void *ctx), void *ctx);

/* The same for a family with labels: fn calls metric_put once per series, with a value for each
 * label. */
typedef struct metric_out metric_out;
typedef void (*metric_collect_fn)(void *ctx, metric_out *out);
void metric_collected(metric_registry *r, metric_kind kind, const char *name, const char *help,
                      const char *const *labels, metric_collect_fn fn, void *ctx);
void metric_put(metric_out *out, const char *const *values, double v);

/* The series with these label values (as many as the family has labels; NULL counts as ""). Keep
 * the result where the path is hot. */
metric_series *metric_with(metric_family *f, const char *const *values);
/* The series of a family without labels, with one, with two. */
metric_series *metric_only(metric_family *f);
metric_series *metric_with1(metric_family *f, const char *a);
metric_series *metric_with2(metric_family *f, const char *a, const char *b);

void metric_add(metric_series *s, double amount); /* counter (amount >= 0) or gauge */
void metric_set(metric_series *s, double value);  /* gauge */
void metric_observe(metric_series *s, double value);
/* The value of a counter or gauge, the number of observations of a histogram. For tests. */
double metric_value(const metric_series *s);

/* ---- views: the same numbers under another system's name -------------------------------------
 */

typedef struct metric_view_label {
    const char *name;
    int from; /* index of the source's label whose value this one has; -1: `fixed` */
    const char *fixed;
    /* Another word for the value; NULL: series with it do not count here. fn NULL: the same. */
    const char *(*map)(const char *value);
} metric_view_label;

typedef enum metric_view_what {
    METRIC_VIEW_SAME,  /* kind and values of the source */
    METRIC_VIEW_SUM,   /* a histogram's sum, as a counter */
    METRIC_VIEW_COUNT, /* a histogram's number of observations, as a counter */
} metric_view_what;

/* Sums the source's series that agree in all labels of the view; nothing is counted twice, because
 * nothing is counted here. */
typedef struct metric_view {
    const char *name, *help;
    const metric_family *of;
    metric_view_what what;
    metric_view_label labels[METRIC_LABELS_MAX];
    size_t label_count;
    int only;               /* index of the source's label that must have the value only_value */
    const char *only_value; /* NULL: all series */
    const double *bounds; /* of a histogram: [bound_count], each given to metric_refine or its own;
                             NULL: the source's */
    size_t bound_count;
} metric_view;

/* Copies the view; the strings and bounds in it are static. */
void metric_add_view(metric_registry *r, const metric_view *v);
/* Sum over a family's series, of histograms the sums; where only_value is given, over those whose
 * label `only` has it. */
double metric_total(const metric_family *f, int only, const char *only_value);

/* ---- text ---------------------------------------------------------------------------------- */

typedef enum metric_format { METRIC_TEXT, METRIC_OPENMETRICS } metric_format;

/* Appends everything: METRIC_CONTENT_TYPE or METRIC_OPENMETRICS_TYPE. */
void metric_render(metric_registry *r, metric_format format, sl_buf *out);

/* Bucket bounds in seconds for latencies: 1 ms to 600 s. */
extern const double metric_seconds_bounds[];
extern const size_t metric_seconds_bound_count;

#endif
