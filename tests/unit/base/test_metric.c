/* test_metric.c - families, both text formats, views, bounds of label sets, and counting from many
 * threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>

#include "base/metric.h"
#include "base/process.h"

static double seven(void *ctx)
{
    return 7;
}

static void collect(void *ctx, metric_out *out)
{
    metric_put(out, (const char *const[]){ "a" }, 1);
    metric_put(out, (const char *const[]){ "b" }, 0.1);
}

static void expect(metric_registry *r, metric_format format, const char *want)
{
    sl_buf b;

    sl_buf_init(&b, 1 << 20);
    metric_render(r, format, &b);
    assert_string_equal(sl_buf_str(&b), want);
    sl_buf_deinit(&b);
}

static void test_text(void **state)
{
    static const char *const labels[] = { "l", NULL };
    static const double bounds[] = { 0.5, 2 };
    metric_registry *r = metric_registry_create();
    metric_family *f = metric_counter(r, "c_total", "Help\n\\\".", labels);
    metric_series *h = metric_only(metric_histogram(r, "h", "H.", NULL, bounds, 2));

    metric_gauge_fn(r, "g", "G.", seven, NULL);
    metric_collected(r, METRIC_COUNTER, "k", "K.", labels, collect, NULL);
    metric_add(metric_with1(f, "a\"b"), 2.5);
    metric_add(metric_with1(f, "a\"b"), 1);
    metric_observe(h, 0.5);
    metric_observe(h, 1.5);
    metric_observe(h, 9);
    expect(r, METRIC_TEXT,
           "# HELP c_total Help\\n\\\\\".\n# TYPE c_total counter\nc_total{l=\"a\\\"b\"} 3.5\n"
           "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"2.0\"} 2\n"
           "h_bucket{le=\"+Inf\"} 3\nh_sum 11\nh_count 3\n# HELP g G.\n# TYPE g gauge\ng 7\n"
           "# HELP k K.\n# TYPE k counter\nk{l=\"a\"} 1\nk{l=\"b\"} 0.1\n");
    expect(r, METRIC_OPENMETRICS,
           "# HELP c Help\\n\\\\\\\".\n# TYPE c counter\nc_total{l=\"a\\\"b\"} 3.5\n"
           "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"2.0\"} 2\n"
           "h_bucket{le=\"+Inf\"} 3\nh_sum 11\nh_count 3\n# HELP g G.\n# TYPE g gauge\ng 7\n"
           "# HELP k K.\n# TYPE k unknown\nk{l=\"a\"} 1\nk{l=\"b\"} 0.1\n# EOF\n");
    metric_registry_destroy(r);
}

static void test_label_sets_are_bounded(void **state)
{
    static const char *const labels[] = { "l", NULL };
    metric_registry *r = metric_registry_create();
    metric_family *f = metric_counter(r, "c_total", "C.", labels);
    char name[16];

    for (int i = 0; i < METRIC_SERIES_MAX + 50; i++) {
        snprintf(name, sizeof name, "%d", i);
        metric_add(metric_with1(f, name), 1);
    }
    assert_float_equal(metric_value(metric_with1(f, "other")), 50, 0);
    assert_float_equal(metric_value(metric_with1(f, "7")), 1, 0);
    assert_float_equal(metric_total(f, 0, NULL), METRIC_SERIES_MAX + 50, 0);
    assert_float_equal(metric_total(f, 0, "7"), 1, 0);
    metric_registry_destroy(r);
}

static const char *kind_of(const char *status)
{
    return status[0] == '5' ? NULL : status[0] == '2' ? "good" : "bad";
}

/* A view tells the source's numbers in other words, also of bounds the source does not show. */
static void test_views(void **state)
{
    static const char *const labels[] = { "model", "status", NULL };
    static const double own[] = { 1, 10 }, theirs[] = { 0.5, 10 };
    metric_registry *r = metric_registry_create();
    metric_family *c = metric_counter(r, "c_total", "C.", labels);
    metric_family *h = metric_histogram(r, "h", "H.", labels, own, 2);
    metric_view v = { .name = "t:c",
                      .help = "T.",
                      .of = c,
                      .labels = { { "engine", -1, "0" }, { "kind", 1, NULL, kind_of } },
                      .label_count = 2 };
    sl_buf b;

    metric_refine(h, theirs, 2);
    metric_add_view(r, &v);
    v = (metric_view){ .name = "t_h", .help = "T.", .of = h, .only = 0, .only_value = "a" };
    v.bounds = theirs;
    v.bound_count = 2;
    metric_add_view(r, &v);
    v = (metric_view){ .name = "t_sum_total", .help = "T.", .of = h, .what = METRIC_VIEW_SUM };
    metric_add_view(r, &v);
    v.name = "t_count_total";
    v.what = METRIC_VIEW_COUNT;
    metric_add_view(r, &v);
    metric_add(metric_with2(c, "a", "200"), 1);
    metric_add(metric_with2(c, "b", "201"), 2);
    metric_add(metric_with2(c, "b", "404"), 4);
    metric_add(metric_with2(c, "b", "500"), 8);
    metric_observe(metric_with2(h, "a", "200"), 0.25);
    metric_observe(metric_with2(h, "a", "400"), 0.75);
    metric_observe(metric_with2(h, "b", "200"), 5);
    sl_buf_init(&b, 1 << 20);
    metric_render(r, METRIC_TEXT, &b);
    assert_non_null(strstr(sl_buf_str(&b), "h_bucket{model=\"a\",status=\"200\",le=\"1.0\"} 1\n"
                                           "h_bucket{model=\"a\",status=\"200\",le=\"10.0\"} 1\n"
                                           "h_bucket{model=\"a\",status=\"200\",le=\"+Inf\"} 1\n"));
    assert_string_equal(strstr(sl_buf_str(&b), "# HELP t:c"),
                        "# HELP t:c T.\n# TYPE t:c counter\n"
                        "t:c{engine=\"0\",kind=\"good\"} 3\nt:c{engine=\"0\",kind=\"bad\"} 4\n"
                        "# HELP t_h T.\n# TYPE t_h histogram\nt_h_bucket{le=\"0.5\"} 1\n"
                        "t_h_bucket{le=\"10.0\"} 2\nt_h_bucket{le=\"+Inf\"} 2\nt_h_sum 1\n"
                        "t_h_count 2\n# HELP t_sum_total T.\n# TYPE t_sum_total counter\n"
                        "t_sum_total 6\n# HELP t_count_total T.\n# TYPE t_count_total counter\n"
                        "t_count_total 3\n");
    sl_buf_deinit(&b);
    metric_registry_destroy(r);
}

typedef struct shared {
    metric_registry *r;
    metric_family *c, *h;
} shared;

static void *count(void *ctx)
{
    const shared *s = ctx;
    char name[16];
    sl_buf b;

    sl_buf_init(&b, 1 << 22);
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "%d", i % 7);
        metric_add(metric_with1(s->c, name), 1);
        metric_observe(metric_with1(s->h, name), i);
        if (i % 500 == 0)
            metric_render(s->r, METRIC_TEXT, &b);
    }
    sl_buf_deinit(&b);
    return NULL;
}

static void test_threads(void **state)
{
    static const char *const labels[] = { "l", NULL };
    static const double bounds[] = { 10, 100 };
    metric_registry *r = metric_registry_create();
    shared s = { r, metric_counter(r, "c_total", "C.", labels),
                 metric_histogram(r, "h", "H.", labels, bounds, 2) };
    pthread_t threads[4];

    for (size_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, count, &s);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_float_equal(metric_total(s.c, 0, NULL), 8000, 0);
    assert_float_equal(metric_total(s.h, 0, NULL), 4.0 * 1999 * 1000, 0);
    metric_registry_destroy(r);
}

static void test_process(void **state)
{
    sl_process p;

    sl_process_read(&p);
    assert_true(p.cpu_seconds >= 0 && p.start_seconds > 1.6e9);
    assert_true(p.resident_bytes > 100000 && p.virtual_bytes >= p.resident_bytes);
    assert_true(p.open_fds >= 2 && p.open_fds < p.max_fds && p.threads >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),    cmocka_unit_test(test_label_sets_are_bounded),
        cmocka_unit_test(test_views),   cmocka_unit_test(test_threads),
        cmocka_unit_test(test_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
