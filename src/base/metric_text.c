/* metric_text.c - the registry as text, in Prometheus' format 0.0.4 or OpenMetrics 1.0, and views.
 *
 * Bounds of buckets are always written with a point ("1.0"), as Python's client does in both
 * formats: a series keeps its name whichever format a scraper asks for. */
#include "base/metric_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

struct metric_out {
    sl_buf *text;
    const metric_family *family;
};

static const char *const kind_names[METRIC_KIND_COUNT] = { "counter", "gauge", "histogram" };

/* The shortest text that reads back as the same number. */
static void put_number(sl_buf *out, double v)
{
    char text[32];

    if (isnan(v) || isinf(v)) {
        sl_buf_puts(out, isnan(v) ? "NaN" : v > 0 ? "+Inf" : "-Inf");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    sl_buf_puts(out, text);
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
static void put_name(sl_buf *out, const metric_family *f, const char *const *values,
                     const char *suffix, const double *le)
{
    bool open = false;

    sl_buf_printf(out, "%s%s", f->name, suffix);
    for (size_t i = 0; i < f->label_count; i++) {
        sl_buf_printf(out, "%s%s=\"", open ? "," : "{", f->labels[i]);
        put_escaped(out, values[i], true);
        sl_buf_putc(out, '"');
        open = true;
    }
    if (le) {
        sl_buf_puts(out, open ? ",le=\"" : "{le=\"");
        put_number(out, *le);
        sl_buf_puts(out, *le == rint(*le) && fabs(*le) < 1e15 ? ".0\"" : "\"");
        open = true;
    }
    sl_buf_puts(out, open ? "} " : " ");
}

static void put_sample(sl_buf *out, const metric_family *f, const char *const *values,
                       const char *suffix, double v)
{
    put_name(out, f, values, suffix, NULL);
    put_number(out, v);
    sl_buf_putc(out, '\n');
}

void metric_put(metric_out *out, const char *const *values, double v)
{
    put_sample(out->text, out->family, values, "", v);
}

/* ---- sums of series: what is written of histograms and of views ------------------------------
 */

typedef struct group {
    const char *values[METRIC_LABELS_MAX];
    double sum;
    uint64_t counts[METRIC_BOUNDS_MAX + 1];
} group;

static void group_add(group *g, const metric_series *s)
{
    g->sum += metric_double_of(atomic_load_explicit(&s->bits, memory_order_relaxed));
    if (s->family->kind != METRIC_HISTOGRAM)
        return;
    for (size_t i = 0; i <= s->family->bound_count; i++)
        g->counts[i] += atomic_load_explicit(&s->counts[i], memory_order_relaxed);
}

static double group_count(const group *g, const metric_family *of)
{
    uint64_t count = 0;

    for (size_t i = 0; i <= of->bound_count; i++)
        count += g->counts[i];
    return (double)count;
}

/* bounds NULL: those the source shows. */
static bool is_shown(const metric_family *of, size_t bound, const double *bounds, size_t count)
{
    if (!bounds)
        return !of->is_hidden[bound];
    for (size_t i = 0; i < count; i++)
        if (bounds[i] == of->bounds[bound])
            return true;
    return false;
}

static void put_histogram(sl_buf *out, const metric_family *f, const group *g,
                          const metric_family *of, const double *bounds, size_t bound_count)
{
    const double inf = INFINITY;
    uint64_t sum = 0;

    for (size_t i = 0; i < of->bound_count; i++) {
        sum += g->counts[i];
        if (!is_shown(of, i, bounds, bound_count))
            continue;
        put_name(out, f, g->values, "_bucket", &of->bounds[i]);
        sl_buf_printf(out, "%llu\n", (unsigned long long)sum);
    }
    sum += g->counts[of->bound_count];
    put_name(out, f, g->values, "_bucket", &inf);
    sl_buf_printf(out, "%llu\n", (unsigned long long)sum);
    put_sample(out, f, g->values, "_sum", g->sum);
    put_sample(out, f, g->values, "_count", (double)sum);
}

static void put_series(sl_buf *out, const metric_family *f)
{
    for (const metric_series *s = f->head; s; s = s->next) {
        group g = { .sum = 0 };

        for (size_t i = 0; i < f->label_count; i++)
            g.values[i] = s->values[i];
        group_add(&g, s);
        if (f->kind == METRIC_HISTOGRAM)
            put_histogram(out, f, &g, f, NULL, 0);
        else
            put_sample(out, f, g.values, "", g.sum);
    }
}

/* ---- views --------------------------------------------------------------------------------- */

/* False: the series does not count here. */
static bool view_values(const metric_view *v, const metric_series *s, const char **ret)
{
    if (v->only_value && strcmp(s->values[v->only], v->only_value) != 0)
        return false;
    for (size_t i = 0; i < v->label_count; i++) {
        const metric_view_label *l = &v->labels[i];

        ret[i] = l->from < 0 ? l->fixed : s->values[l->from];
        if (l->map)
            ret[i] = l->map(ret[i]);
        if (!ret[i])
            return false;
    }
    return true;
}

static group *group_of(group **groups, size_t *count, size_t *cap, const char *const *values,
                       size_t value_count)
{
    for (size_t i = 0; i < *count; i++) {
        size_t k = 0;

        while (k < value_count && strcmp((*groups)[i].values[k], values[k]) == 0)
            k++;
        if (k == value_count)
            return &(*groups)[i];
    }
    if (!sl_grow((void **)groups, cap, *count + 1, sizeof **groups, METRIC_SERIES_MAX + 1))
        return NULL;
    (*groups)[*count] = (group){ .sum = 0 };
    memcpy((*groups)[*count].values, values, value_count * sizeof *values);
    return &(*groups)[(*count)++];
}

static void put_view(sl_buf *out, const metric_family *f)
{
    const metric_view *v = f->view;
    group *groups = NULL;
    size_t count = 0, cap = 0;

    for (const metric_series *s = v->of->head; s; s = s->next) {
        const char *values[METRIC_LABELS_MAX];
        group *g = view_values(v, s, values)
                       ? group_of(&groups, &count, &cap, values, v->label_count)
                       : NULL;

        if (g)
            group_add(g, s);
    }
    for (size_t i = 0; i < count; i++) {
        const group *g = &groups[i];

        if (f->kind == METRIC_HISTOGRAM)
            put_histogram(out, f, g, v->of, v->bounds, v->bound_count);
        else
            put_sample(out, f, g->values, "",
                       v->what == METRIC_VIEW_COUNT ? group_count(g, v->of) : g->sum);
    }
    sl_free(groups);
}

/* ---- families ------------------------------------------------------------------------------ */

/* OpenMetrics names a counter without the _total of its samples; one whose samples have none is no
 * counter to it. */
static void put_head(sl_buf *out, const metric_family *f, metric_format format)
{
    size_t len = strlen(f->name);
    const char *kind = kind_names[f->kind];
    bool total = len > 6 && strcmp(f->name + len - 6, "_total") == 0;

    if (format == METRIC_OPENMETRICS && f->kind == METRIC_COUNTER) {
        kind = total ? kind : "unknown";
        len -= total ? 6 : 0;
    }
    sl_buf_printf(out, "# HELP %.*s ", (int)len, f->name);
    put_escaped(out, f->help, format == METRIC_OPENMETRICS);
    sl_buf_printf(out, "\n# TYPE %.*s %s\n", (int)len, f->name, kind);
}

static void put_family(sl_buf *out, const metric_family *f, metric_format format)
{
    put_head(out, f, format);
    if (f->fn)
        put_sample(out, f, NULL, "", f->fn(f->fn_ctx));
    else if (f->collect)
        f->collect(f->fn_ctx, &(metric_out){ out, f });
    else if (f->view)
        put_view(out, f);
    else
        put_series(out, f);
}

void metric_render(metric_registry *r, metric_format format, sl_buf *out)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->mutex);
    for (const metric_family *f = r->head; f; f = f->next)
        put_family(out, f, format);
    pthread_mutex_unlock(&r->mutex);
    if (format == METRIC_OPENMETRICS)
        sl_buf_puts(out, "# EOF\n");
}
