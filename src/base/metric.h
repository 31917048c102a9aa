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

#define METRIC_LABELS_MAX   4
#define METRIC_BOUNDS_MAX   40
#define METRIC_SERIES_MAX   512 /* per family; later combinations share one labelled "other" */
#define METRIC_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

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
/* A gauge (or, is_counter, a counter) whose value is asked for when the text is rendered. fn is
 * called from any thread and must not block; ctx outlives the registry. */
void metric_gauge_fn(metric_registry *r, const char *name, const char *help,
                     double (*fn)(void *ctx), void *ctx);
void metric_counter_fn(metric_registry *r, const char *name, const char *help,
                       double (*fn)(void *ctx), void *ctx);

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

/* Bucket bounds in seconds for latencies: 1 ms to 600 s. */
extern const double metric_seconds_bounds[];
extern const size_t metric_seconds_bound_count;

/* Appends everything in the text format 0.0.4. */
void metric_render(metric_registry *r, sl_buf *out);

#endif
