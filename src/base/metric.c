/* metric.c - families and series in linked lists that only grow, so that a reader never meets a
 * freed one. Values are doubles kept as bits in 64-bit atomics and changed by compare-and-swap;
 * histogram buckets are plain atomic counts, summed up to cumulative ones when rendered. */
#include "base/metric.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/mem.h"

#define NAME_BYTES_MAX   128
#define HELP_BYTES_MAX   512
#define VALUE_BYTES_MAX  256
#define FAMILIES_MAX     1024
#define OTHER_LABEL_TEXT "other"

const double metric_seconds_bounds[] = { 0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                         0.15,  0.2,    0.3,   0.4,  0.5,  0.75, 1,    1.5,  2.5,
                                         5,     7.5,    10,    20,   40,   80,   160,  320,  600 };
const size_t metric_seconds_bound_count = SL_COUNT_OF(metric_seconds_bounds);

typedef enum family_kind { KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM } family_kind;

static const char *const kind_names[] = { "counter", "gauge", "histogram" };

struct metric_series {
    metric_family *family;
    metric_series *next;
    char *values[METRIC_LABELS_MAX];
    _Atomic uint64_t bits;     /* counter, gauge: the value; histogram: the sum */
    _Atomic uint64_t counts[]; /* histogram: [bound_count + 1], the last one for +Inf */
};

struct metric_family {
    metric_registry *registry;
    metric_family *next;
    family_kind kind;
    char *name, *help;
    char *labels[METRIC_LABELS_MAX];
    size_t label_count;
    double bounds[METRIC_BOUNDS_MAX];
    size_t bound_count;
    double (*fn)(void *ctx);
    void *fn_ctx;
    /* under registry->mutex */
    metric_series *head, *tail;
    size_t series_count;
};

struct metric_registry {
    pthread_mutex_t mutex; /* the lists below; rank: leaf */
    metric_family *head, *tail;
    size_t family_count;
};

static uint64_t bits_of(double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits)
{
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

metric_registry *metric_registry_create(void)
{
    metric_registry *r = sl_calloc(1, sizeof *r);

    if (r)
        pthread_mutex_init(&r->mutex, NULL);
    return r;
}

static void series_destroy(metric_series *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < METRIC_LABELS_MAX; i++)
        sl_free(s->values[i]);
    sl_free(s);
}

static void family_destroy(metric_family *f)
{
    if (!f)
        return;
    while (f->head) {
        metric_series *next = f->head->next;

        series_destroy(f->head);
        f->head = next;
    }
    for (size_t i = 0; i < METRIC_LABELS_MAX; i++)
        sl_free(f->labels[i]);
    sl_free(f->name);
    sl_free(f->help);
    sl_free(f);
}

void metric_registry_destroy(metric_registry *r)
{
    if (!r)
        return;
    while (r->head) {
        metric_family *next = r->head->next;

        family_destroy(r->head);
        r->head = next;
    }
    pthread_mutex_destroy(&r->mutex);
    sl_free(r);
}

/* ---- families and series ------------------------------------------------------------------- */

static metric_family *family_create(metric_registry *r, family_kind kind, const char *name,
                                    const char *help, const char *const *labels)
{
    metric_family *f = sl_calloc(1, sizeof *f);

    if (!f)
        return NULL;
    f->registry = r;
    f->kind = kind;
    f->name = sl_strndup(name, SL_MIN(strlen(name), (size_t)NAME_BYTES_MAX));
    f->help = sl_strndup(help, SL_MIN(strlen(help), (size_t)HELP_BYTES_MAX));
    if (!f->name || !f->help)
        goto fail;
    for (; labels && labels[f->label_count]; f->label_count++) {
        SL_ASSERT(f->label_count < METRIC_LABELS_MAX);
        f->labels[f->label_count] = sl_strdup(labels[f->label_count]);
        if (!f->labels[f->label_count])
            goto fail;
    }
    return f;

fail:
    family_destroy(f);
    return NULL;
}

/* Finds or makes a family; the mutex is held. */
static metric_family *family_get(metric_registry *r, family_kind kind, const char *name,
                                 const char *help, const char *const *labels)
{
    metric_family *f;

    for (f = r->head; f; f = f->next)
        if (strcmp(f->name, name) == 0)
            return f;
    if (r->family_count >= FAMILIES_MAX || !(f = family_create(r, kind, name, help, labels)))
        return NULL;
    *(r->tail ? &r->tail->next : &r->head) = f;
    r->tail = f;
    r->family_count++;
    return f;
}

static metric_family *family_add(metric_registry *r, family_kind kind, const char *name,
                                 const char *help, const char *const *labels)
{
    metric_family *f;

    if (!r)
        return NULL;
    pthread_mutex_lock(&r->mutex);
    f = family_get(r, kind, name, help, labels);
    pthread_mutex_unlock(&r->mutex);
    return f;
}

metric_family *metric_counter(metric_registry *r, const char *name, const char *help,
                              const char *const *labels)
{
    return family_add(r, KIND_COUNTER, name, help, labels);
}

metric_family *metric_gauge(metric_registry *r, const char *name, const char *help,
                            const char *const *labels)
{
    return family_add(r, KIND_GAUGE, name, help, labels);
}

metric_family *metric_histogram(metric_registry *r, const char *name, const char *help,
                                const char *const *labels, const double *bounds, size_t count)
{
    metric_family *f;

    SL_ASSERT(count <= METRIC_BOUNDS_MAX);
    if (!r)
        return NULL;
    pthread_mutex_lock(&r->mutex);
    f = family_get(r, KIND_HISTOGRAM, name, help, labels);
    if (f && !f->head) { /* no series yet: nobody reads the bounds */
        memcpy(f->bounds, bounds, count * sizeof *bounds);
        f->bound_count = count;
    }
    pthread_mutex_unlock(&r->mutex);
    return f;
}

static void add_fn(metric_registry *r, family_kind kind, const char *name, const char *help,
                   double (*fn)(void *ctx), void *ctx)
{
    metric_family *f;

    if (!r)
        return;
    pthread_mutex_lock(&r->mutex);
    f = family_get(r, kind, name, help, NULL);
    if (f) {
        f->fn = fn;
        f->fn_ctx = ctx;
    }
    pthread_mutex_unlock(&r->mutex);
}

void metric_gauge_fn(metric_registry *r, const char *name, const char *help,
                     double (*fn)(void *ctx), void *ctx)
{
    add_fn(r, KIND_GAUGE, name, help, fn, ctx);
}

void metric_counter_fn(metric_registry *r, const char *name, const char *help,
                       double (*fn)(void *ctx), void *ctx)
{
    add_fn(r, KIND_COUNTER, name, help, fn, ctx);
}

static metric_series *series_create(metric_family *f, const char *const *values)
{
    size_t counts = f->kind == KIND_HISTOGRAM ? f->bound_count + 1 : 0;
    metric_series *s = sl_calloc(1, sizeof *s + counts * sizeof s->counts[0]);

    if (!s)
        return NULL;
    s->family = f;
    for (size_t i = 0; i < f->label_count; i++) {
        s->values[i] = sl_strndup(values[i], SL_MIN(strlen(values[i]), (size_t)VALUE_BYTES_MAX));
        if (!s->values[i]) {
            series_destroy(s);
            return NULL;
        }
    }
    *(f->tail ? &f->tail->next : &f->head) = s;
    f->tail = s;
    f->series_count++;
    return s;
}

static metric_series *series_find(const metric_family *f, const char *const *values)
{
    for (metric_series *s = f->head; s; s = s->next) {
        size_t i = 0;

        while (i < f->label_count && strncmp(s->values[i], values[i], VALUE_BYTES_MAX) == 0)
            i++;
        if (i == f->label_count)
            return s;
    }
    return NULL;
}

metric_series *metric_with(metric_family *f, const char *const *values)
{
    const char *given[METRIC_LABELS_MAX];
    metric_series *s;

    if (!f)
        return NULL;
    for (size_t i = 0; i < f->label_count; i++)
        given[i] = values && values[i] ? values[i] : "";
    pthread_mutex_lock(&f->registry->mutex);
    s = series_find(f, given);
    if (!s && f->series_count >= METRIC_SERIES_MAX) {
        for (size_t i = 0; i < f->label_count; i++)
            given[i] = OTHER_LABEL_TEXT;
        s = series_find(f, given);
    }
    if (!s)
        s = series_create(f, given);
    pthread_mutex_unlock(&f->registry->mutex);
    return s;
}

metric_series *metric_only(metric_family *f)
{
    return metric_with(f, NULL);
}

metric_series *metric_with1(metric_family *f, const char *a)
{
    return metric_with(f, (const char *const[METRIC_LABELS_MAX]){ a });
}

metric_series *metric_with2(metric_family *f, const char *a, const char *b)
{
    return metric_with(f, (const char *const[METRIC_LABELS_MAX]){ a, b });
}

/* ---- updates ------------------------------------------------------------------------------- */

void metric_add(metric_series *s, double amount)
{
    uint64_t old;

    if (!s)
        return;
    old = atomic_load_explicit(&s->bits, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&s->bits, &old, bits_of(double_of(old) + amount),
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

void metric_set(metric_series *s, double value)
{
    if (s)
        atomic_store_explicit(&s->bits, bits_of(value), memory_order_relaxed);
}

void metric_observe(metric_series *s, double value)
{
    size_t i = 0;

    if (!s || s->family->kind != KIND_HISTOGRAM)
        return;
    while (i < s->family->bound_count && value > s->family->bounds[i])
        i++;
    atomic_fetch_add_explicit(&s->counts[i], 1, memory_order_relaxed);
    metric_add(s, value);
}

double metric_value(const metric_series *s)
{
    uint64_t count = 0;

    if (!s)
        return 0;
    if (s->family->kind != KIND_HISTOGRAM)
        return double_of(atomic_load_explicit(&s->bits, memory_order_relaxed));
    for (size_t i = 0; i <= s->family->bound_count; i++)
        count += atomic_load_explicit(&s->counts[i], memory_order_relaxed);
    return (double)count;
}

/* ---- text ---------------------------------------------------------------------------------- */

static void put_number(sl_buf *out, double v)
{
    if (isnan(v))
        sl_buf_puts(out, "NaN");
    else if (isinf(v))
        sl_buf_puts(out, v > 0 ? "+Inf" : "-Inf");
    else if (v == rint(v) && fabs(v) < 1e15)
        sl_buf_printf(out, "%.0f", v);
    else
        sl_buf_printf(out, "%.9g", v);
}

static void put_escaped(sl_buf *out, const char *text, bool quotes)
{
    for (; *text; text++) {
        if (*text == '\n')
            sl_buf_puts(out, "\\n");
        else if (*text == '\\' || (quotes && *text == '"'))
            sl_buf_printf(out, "\\%c", *text);
        else
            sl_buf_putc(out, *text);
    }
}

/* name_suffix{labels,le="bound"} ; le NULL: no such label. */
static void put_name(sl_buf *out, const metric_series *s, const char *suffix, const double *le)
{
    const metric_family *f = s->family;
    bool open = false;

    sl_buf_printf(out, "%s%s", f->name, suffix);
    for (size_t i = 0; i < f->label_count; i++) {
        sl_buf_printf(out, "%s%s=\"", open ? "," : "{", f->labels[i]);
        put_escaped(out, s->values[i], true);
        sl_buf_putc(out, '"');
        open = true;
    }
    if (le) {
        sl_buf_puts(out, open ? ",le=\"" : "{le=\"");
        put_number(out, *le);
        sl_buf_putc(out, '"');
        open = true;
    }
    sl_buf_puts(out, open ? "} " : " ");
}

static void put_histogram(sl_buf *out, const metric_series *s)
{
    const metric_family *f = s->family;
    double inf = INFINITY;
    uint64_t sum = 0;

    for (size_t i = 0; i <= f->bound_count; i++) {
        sum += atomic_load_explicit(&s->counts[i], memory_order_relaxed);
        put_name(out, s, "_bucket", i < f->bound_count ? &f->bounds[i] : &inf);
        sl_buf_printf(out, "%llu\n", (unsigned long long)sum);
    }
    put_name(out, s, "_sum", NULL);
    put_number(out, double_of(atomic_load_explicit(&s->bits, memory_order_relaxed)));
    sl_buf_putc(out, '\n');
    put_name(out, s, "_count", NULL);
    sl_buf_printf(out, "%llu\n", (unsigned long long)sum);
}

static void put_family(sl_buf *out, const metric_family *f)
{
    sl_buf_printf(out, "# HELP %s ", f->name);
    put_escaped(out, f->help, false);
    sl_buf_printf(out, "\n# TYPE %s %s\n", f->name, kind_names[f->kind]);
    if (f->fn) {
        sl_buf_printf(out, "%s ", f->name);
        put_number(out, f->fn(f->fn_ctx));
        sl_buf_putc(out, '\n');
    }
    for (const metric_series *s = f->head; s; s = s->next) {
        if (f->kind == KIND_HISTOGRAM) {
            put_histogram(out, s);
            continue;
        }
        put_name(out, s, "", NULL);
        put_number(out, double_of(atomic_load_explicit(&s->bits, memory_order_relaxed)));
        sl_buf_putc(out, '\n');
    }
}

void metric_render(metric_registry *r, sl_buf *out)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->mutex);
    for (const metric_family *f = r->head; f; f = f->next)
        put_family(out, f);
    pthread_mutex_unlock(&r->mutex);
}
