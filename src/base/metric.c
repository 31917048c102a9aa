/* metric.c - families and series in linked lists that only grow, so that a reader never meets a
 * freed one. Values are doubles kept as bits in 64-bit atomics and changed by compare-and-swap;
 * histogram buckets are plain atomic counts, summed up to cumulative ones when rendered. */
#include "base/metric_int.h"

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

static uint64_t bits_of(double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    return bits;
}

double metric_double_of(uint64_t bits)
{
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

metric_registry *metric_registry_create(void)
{
    metric_registry *r = sl_calloc(1, sizeof *r);
    pthread_mutexattr_t attr;

    if (!r)
        return NULL;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&r->mutex, &attr);
    pthread_mutexattr_destroy(&attr);
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
    sl_free(f->view);
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

static metric_family *family_create(metric_registry *r, metric_kind kind, const char *name,
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
static metric_family *family_get(metric_registry *r, metric_kind kind, const char *name,
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

static metric_family *family_add(metric_registry *r, metric_kind kind, const char *name,
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
    return family_add(r, METRIC_COUNTER, name, help, labels);
}

metric_family *metric_gauge(metric_registry *r, const char *name, const char *help,
                            const char *const *labels)
{
    return family_add(r, METRIC_GAUGE, name, help, labels);
}

metric_family *metric_histogram(metric_registry *r, const char *name, const char *help,
                                const char *const *labels, const double *bounds, size_t count)
{
    metric_family *f;

    SL_ASSERT(count <= METRIC_BOUNDS_MAX);
    if (!r)
        return NULL;
    pthread_mutex_lock(&r->mutex);
    f = family_get(r, METRIC_HISTOGRAM, name, help, labels);
    if (f && !f->head) { /* no series yet: nobody reads the bounds */
        memcpy(f->bounds, bounds, count * sizeof *bounds);
        f->bound_count = count;
    }
    pthread_mutex_unlock(&r->mutex);
    return f;
}

void metric_refine(metric_family *f, const double *bounds, size_t count)
{
    if (!f)
        return;
    pthread_mutex_lock(&f->registry->mutex);
    SL_ASSERT(!f->head);
    for (size_t i = 0, at; i < count; i++) {
        for (at = 0; at < f->bound_count && f->bounds[at] < bounds[i]; at++)
            continue;
        if (at < f->bound_count && f->bounds[at] == bounds[i])
            continue;
        SL_ASSERT(f->bound_count < METRIC_BOUNDS_MAX);
        memmove(f->bounds + at + 1, f->bounds + at, (f->bound_count - at) * sizeof f->bounds[0]);
        memmove(f->is_hidden + at + 1, f->is_hidden + at, f->bound_count - at);
        f->bounds[at] = bounds[i];
        f->is_hidden[at] = true;
        f->bound_count++;
    }
    pthread_mutex_unlock(&f->registry->mutex);
}

static void add_fn(metric_registry *r, metric_kind kind, const char *name, const char *help,
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
    add_fn(r, METRIC_GAUGE, name, help, fn, ctx);
}

void metric_counter_fn(metric_registry *r, const char *name, const char *help,
                       double (*fn)(void *ctx), void *ctx)
{
    add_fn(r, METRIC_COUNTER, name, help, fn, ctx);
}

void metric_collected(metric_registry *r, metric_kind kind, const char *name, const char *help,
                      const char *const *labels, metric_collect_fn fn, void *ctx)
{
    metric_family *f;

    SL_ASSERT(kind != METRIC_HISTOGRAM);
    if (!r)
        return;
    pthread_mutex_lock(&r->mutex);
    f = family_get(r, kind, name, help, labels);
    if (f) {
        f->collect = fn;
        f->fn_ctx = ctx;
    }
    pthread_mutex_unlock(&r->mutex);
}

void metric_add_view(metric_registry *r, const metric_view *v)
{
    const char *labels[METRIC_LABELS_MAX + 1] = { NULL };
    metric_view *copy = sl_malloc(sizeof *copy);
    metric_kind kind;
    metric_family *f = NULL;

    if (!r || !v->of || !copy) {
        sl_free(copy);
        return;
    }
    *copy = *v;
    kind = v->what == METRIC_VIEW_SAME ? v->of->kind : METRIC_COUNTER;
    for (size_t i = 0; i < v->label_count; i++)
        labels[i] = v->labels[i].name;
    pthread_mutex_lock(&r->mutex);
    f = family_get(r, kind, v->name, v->help, labels);
    if (f && !f->view) {
        f->view = copy;
        copy = NULL;
    }
    pthread_mutex_unlock(&r->mutex);
    sl_free(copy);
}

double metric_total(const metric_family *f, int only, const char *only_value)
{
    double sum = 0;

    if (!f)
        return 0;
    pthread_mutex_lock(&f->registry->mutex);
    for (const metric_series *s = f->head; s; s = s->next)
        if (!only_value || strcmp(s->values[only], only_value) == 0)
            sum += metric_double_of(atomic_load_explicit(&s->bits, memory_order_relaxed));
    pthread_mutex_unlock(&f->registry->mutex);
    return sum;
}

static uint32_t hash_of(const metric_family *f, const char *const *values)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < f->label_count; i++)
        for (size_t k = 0; k < VALUE_BYTES_MAX && (k == 0 || values[i][k - 1]); k++)
            h = (h ^ (unsigned char)values[i][k]) * 16777619u;
    return h;
}

static metric_series *series_create(metric_family *f, const char *const *values)
{
    size_t counts = f->kind == METRIC_HISTOGRAM ? f->bound_count + 1 : 0;
    metric_series *s = sl_calloc(1, sizeof *s + counts * sizeof s->counts[0]);

    if (!s)
        return NULL;
    s->family = f;
    s->hash = hash_of(f, values);
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
    uint32_t hash = hash_of(f, values);

    for (metric_series *s = f->head; s; s = s->next) {
        size_t i = 0;

        if (s->hash != hash)
            continue;
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
    while (!atomic_compare_exchange_weak_explicit(&s->bits, &old,
                                                  bits_of(metric_double_of(old) + amount),
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
    size_t low = 0, high;

    if (!s || s->family->kind != METRIC_HISTOGRAM)
        return;
    for (high = s->family->bound_count; low < high;) { /* the first bound that is not below */
        size_t mid = (low + high) / 2;

        if (value > s->family->bounds[mid])
            low = mid + 1;
        else
            high = mid;
    }
    atomic_fetch_add_explicit(&s->counts[low], 1, memory_order_relaxed);
    metric_add(s, value);
}

double metric_value(const metric_series *s)
{
    uint64_t count = 0;

    if (!s)
        return 0;
    if (s->family->kind != METRIC_HISTOGRAM)
        return metric_double_of(atomic_load_explicit(&s->bits, memory_order_relaxed));
    for (size_t i = 0; i <= s->family->bound_count; i++)
        count += atomic_load_explicit(&s->counts[i], memory_order_relaxed);
    return (double)count;
}
