/* test_jobs.c - batches from their creation to every end they can have, on a clock of the test's
 * own and over lines that end when the test says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "jobs/jobs_int.h"

#define URL         "/v1/chat/completions"
#define FLIGHTS_MAX 64
#define HOURS_MS    ((int64_t)3600 * 1000)

/* ---- a runner that waits -------------------------------------------------------------------- */

typedef struct waiting {
    char id[32]; /* the body's "id" */
    llm_line_fn fn;
    void *ctx;
    int32_t priority;
    bool is_answered;
} waiting;

static waiting lines[FLIGHTS_MAX];
static int line_count;
static int64_t now_ms;
static jobs *j;
static llm_jobs door;
static char dir[64];
static sl_err err;
static const llm_caller *who;  /* asks; NULL: keys are off */
static const char *key_status; /* of his key; NULL: nobody knows it */

static int64_t clock_ms(void)
{
    return now_ms;
}

static sl_status check(void *ctx, const char *url, const char *model, const llm_caller *caller,
                       sl_err *e)
{
    return model && strcmp(model, "nobody") == 0 ? sl_fail(e, SL_ENOTFOUND, "no model") : SL_OK;
}

static void *run(void *ctx, const llm_line *line, llm_line_fn fn, void *fn_ctx)
{
    json_t *body = json_loadb((const char *)line->body.ptr, line->body.len, 0, NULL);
    waiting *w = &lines[line_count++];

    assert_true(line_count <= FLIGHTS_MAX);
    *w = (waiting){ .fn = fn, .ctx = fn_ctx, .priority = line->priority };
    snprintf(w->id, sizeof w->id, "%s", json_string_value(json_object_get(body, "id")));
    json_decref(body);
    return w;
}

static void answer(waiting *w, llm_line_answer a)
{
    assert_false(w->is_answered);
    w->is_answered = true;
    a.request_id = "req_1";
    a.body = sl_span_str("{\"said\":\n1}");
    w->fn(w->ctx, &a);
}

static void cancel(void *handle)
{
    waiting *w = handle;

    if (!w->is_answered)
        answer(w, (llm_line_answer){ .status = 200, .is_cancelled = true });
}

static void release(void *handle)
{
}

static sl_status get_account(void *ctx, llm_account_kind kind, const char *name, json_t **ret,
                             sl_err *e)
{
    if (kind != LLM_ACCOUNT_KEY || !key_status)
        return sl_fail(e, SL_ENOTFOUND, "no account");
    *ret = json_pack("{s:s}", "status", key_status);
    return SL_OK;
}

static const llm_accounts_ops account_ops = { .get = get_account };
static const llm_line_ops ops = { check, run, cancel, release };

/* The lines that run now. */
static int under_way(void)
{
    int count = 0;

    for (int i = 0; i < line_count; i++)
        count += !lines[i].is_answered;
    return count;
}

static waiting *find(const char *id)
{
    for (int i = 0; i < line_count; i++)
        if (strcmp(lines[i].id, id) == 0 && !lines[i].is_answered)
            return &lines[i];
    return NULL;
}

static void good(const char *id)
{
    assert_non_null(find(id));
    answer(find(id),
           (llm_line_answer){
               .status = 200, .prompt_tokens = 10, .cached_tokens = 4, .output_tokens = 5 });
}

static int times_run(const char *id)
{
    int count = 0;

    for (int i = 0; i < line_count; i++)
        count += strcmp(lines[i].id, id) == 0;
    return count;
}

/* ---- the room ------------------------------------------------------------------------------- */

static void open_room(int concurrency)
{
    const jobs_options o = { .dir = dir,
                             .runner = { &ops, NULL },
                             .accounts = { &account_ops, NULL },
                             .concurrency = concurrency,
                             .clock_ms = clock_ms,
                             .is_manual = true };

    assert_int_equal(jobs_open(&o, &j, &err), SL_OK);
    assert_int_equal(jobs_start(j, &err), SL_OK);
    door = jobs_service(j);
}

static int setup(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/test_jobs_XXXXXX");
    assert_non_null(mkdtemp(dir));
    now_ms = 1800000000000;
    line_count = 0;
    who = NULL;
    key_status = NULL;
    open_room(4);
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    jobs_close(j);
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

static void put_file(const char *text, const char *purpose, int64_t expires_s, char id[ID_BYTES])
{
    const llm_file_spec spec = { .filename = "in.jsonl",
                                 .purpose = purpose,
                                 .expires_after_s = expires_s };
    llm_draft *d = NULL;
    json_t *file = NULL;

    assert_int_equal(door.ops->draft_open(j, &d, &err), SL_OK);
    assert_int_equal(door.ops->draft_write(d, text, strlen(text), &err), SL_OK);
    assert_int_equal(door.ops->file_create(j, who, &spec, d, &file, &err), SL_OK);
    snprintf(id, ID_BYTES, "%s", json_string_value(json_object_get(file, "id")));
    json_decref(file);
}

/* A batch of lines with the ids "0", "1", ... */
static void make_batch(int count, char id[ID_BYTES])
{
    llm_batch_spec spec = { .endpoint = URL, .completion_window = "24h" };
    json_t *batch = NULL;
    char file[ID_BYTES];
    sl_buf text;

    sl_buf_init(&text, SL_MIB);
    for (int i = 0; i < count; i++)
        sl_buf_printf(&text,
                      "{\"custom_id\":\"%d\",\"url\":\"" URL
                      "\",\"body\":{\"model\":\"m\",\"id\":\"%d\"}}\n",
                      i, i);
    put_file(sl_buf_str(&text), "batch", 0, file);
    sl_buf_deinit(&text);
    spec.input_file_id = file;
    assert_int_equal(door.ops->batch_create(j, who, &spec, &batch, &err), SL_OK);
    snprintf(id, ID_BYTES, "%s", json_string_value(json_object_get(batch, "id")));
    assert_string_equal(json_string_value(json_object_get(batch, "status")), "validating");
    json_decref(batch);
}

static json_t *seen; /* the batch as it was last looked at */

static const char *look(const char *id)
{
    json_decref(seen);
    seen = NULL;
    assert_int_equal(door.ops->batch_get(j, NULL, id, &seen, &err), SL_OK);
    return json_string_value(json_object_get(seen, "status"));
}

static int64_t number(const char *key)
{
    return json_integer_value(json_object_get(seen, key));
}

static void counts(int total, int completed, int failed)
{
    const json_t *c = json_object_get(seen, "request_counts");

    assert_int_equal(json_integer_value(json_object_get(c, "total")), total);
    assert_int_equal(json_integer_value(json_object_get(c, "completed")), completed);
    assert_int_equal(json_integer_value(json_object_get(c, "failed")), failed);
}

/* The lines of a file that the batch names under key; the caller's. */
static json_t *read_lines(const char *key)
{
    const char *id = json_string_value(json_object_get(seen, key));
    json_t *list = json_array(), *file = NULL;
    char *line = NULL;
    size_t cap = 0;
    FILE *f;
    int fd;

    if (!id)
        return list;
    assert_int_equal(door.ops->file_open(j, NULL, id, &fd, &file, &err), SL_OK);
    json_decref(file);
    f = fdopen(fd, "r");
    while (getline(&line, &cap, f) > 0)
        json_array_append_new(list, json_loads(line, 0, NULL));
    fclose(f);
    free(line);
    return list;
}

static void has_lines(const char *key, int count, const char *error_code)
{
    json_t *list = read_lines(key), *line;
    size_t i;

    assert_int_equal(json_array_size(list), count);
    json_array_foreach(list, i, line)
    {
        const json_t *error = json_object_get(line, "error");

        assert_non_null(json_object_get(line, "custom_id"));
        if (error_code)
            assert_string_equal(json_string_value(json_object_get(error, "code")), error_code);
        else
            assert_true(json_is_null(error));
    }
    json_decref(list);
}

static void end_seen(void)
{
    json_decref(seen);
    seen = NULL;
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void test_to_the_end(void **state)
{
    char id[ID_BYTES];
    json_t *out;

    make_batch(6, id);
    jobs_tick(j);
    assert_string_equal(look(id), "in_progress");
    assert_int_equal(number("in_progress_at"), now_ms / 1000);
    assert_int_equal(number("expires_at"), now_ms / 1000 + 86400);
    counts(6, 0, 0);
    assert_int_equal(under_way(), 4); /* as many as may be */
    assert_int_equal(lines[0].priority, LLM_PRIORITY_IDLE);
    good(lines[0].id);
    answer(&lines[1], (llm_line_answer){ .status = 400 });
    now_ms += 5000;
    jobs_tick(j);
    look(id);
    counts(6, 1, 1);
    assert_int_equal(under_way(), 4);
    while (under_way() > 0) {
        for (int i = 0; i < line_count; i++)
            if (!lines[i].is_answered)
                good(lines[i].id);
        jobs_tick(j);
    }
    assert_string_equal(look(id), "completed");
    assert_int_equal(number("finalizing_at"), now_ms / 1000);
    assert_int_equal(number("completed_at"), now_ms / 1000);
    counts(6, 5, 1);
    out = json_object_get(seen, "usage");
    assert_int_equal(json_integer_value(json_object_get(out, "input_tokens")), 50);
    assert_int_equal(json_integer_value(json_object_get(out, "total_tokens")), 75);
    has_lines("output_file_id", 5, NULL);
    has_lines("error_file_id", 1, NULL);
    assert_int_equal(line_count, 6);
    jobs_tick(j); /* and nothing more */
    assert_string_equal(look(id), "completed");
    end_seen();
}

static void test_wrong_input(void **state)
{
    llm_batch_spec spec = { .endpoint = URL, .completion_window = "24h" };
    char file[ID_BYTES], id[ID_BYTES];
    json_t *batch = NULL;

    put_file("{}\n", "batch", 0, file);
    spec.input_file_id = file;
    assert_int_equal(door.ops->batch_create(j, NULL, &spec, &batch, &err), SL_OK);
    snprintf(id, sizeof id, "%s", json_string_value(json_object_get(batch, "id")));
    json_decref(batch);
    jobs_tick(j);
    assert_string_equal(look(id), "failed");
    assert_int_equal(number("failed_at"), now_ms / 1000);
    assert_true(json_array_size(json_object_get(json_object_get(seen, "errors"), "data")) > 0);
    assert_true(json_is_null(json_object_get(seen, "in_progress_at")));
    assert_int_equal(line_count, 0);
    end_seen();
}

static void test_cancel(void **state)
{
    char id[ID_BYTES];
    json_t *batch = NULL;

    make_batch(10, id);
    jobs_tick(j);
    good(lines[0].id);
    jobs_tick(j);
    now_ms += 1000;
    assert_int_equal(door.ops->batch_cancel(j, NULL, id, &batch, &err), SL_OK);
    assert_string_equal(json_string_value(json_object_get(batch, "status")), "cancelling");
    json_decref(batch);
    assert_int_equal(door.ops->batch_cancel(j, NULL, id, &batch, &err), SL_OK); /* again */
    json_decref(batch);
    good(lines[1].id); /* just before it was told */
    jobs_tick(j);
    jobs_tick(j);
    assert_int_equal(under_way(), 0);
    assert_string_equal(look(id), "cancelled");
    assert_int_equal(number("cancelling_at"), now_ms / 1000);
    counts(10, 2, 8);
    has_lines("output_file_id", 2, NULL);
    has_lines("error_file_id", 8, "batch_cancelled");
    assert_int_equal(door.ops->batch_cancel(j, NULL, id, &batch, &err), SL_ECONFLICT);
    end_seen();
}

static void test_cancel_before_it_begins(void **state)
{
    char id[ID_BYTES];
    json_t *batch = NULL;

    make_batch(3, id);
    assert_int_equal(door.ops->batch_cancel(j, NULL, id, &batch, &err), SL_OK);
    json_decref(batch);
    jobs_tick(j);
    assert_string_equal(look(id), "cancelled");
    counts(0, 0, 0);
    assert_true(json_is_null(json_object_get(seen, "output_file_id")));
    assert_true(json_is_null(json_object_get(seen, "error_file_id")));
    assert_int_equal(line_count, 0);
    end_seen();
}

static void test_expiry(void **state)
{
    char id[ID_BYTES];

    make_batch(6, id);
    jobs_tick(j);
    good(lines[0].id);
    now_ms += 24 * HOURS_MS - 1;
    jobs_tick(j);
    assert_string_equal(look(id), "in_progress");
    now_ms += 1;
    jobs_tick(j);
    jobs_tick(j);
    assert_int_equal(under_way(), 0);
    assert_string_equal(look(id), "expired");
    assert_int_equal(number("expired_at"), now_ms / 1000);
    assert_true(json_is_null(json_object_get(seen, "completed_at")));
    counts(6, 1, 5);
    has_lines("output_file_id", 1, NULL);
    has_lines("error_file_id", 5, "batch_expired");
    end_seen();
}

static void test_refused_lines_wait(void **state)
{
    char id[ID_BYTES];
    int64_t start;

    make_batch(1, id);
    jobs_tick(j);
    answer(&lines[0], (llm_line_answer){ .status = 503, .again = true });
    jobs_tick(j);
    assert_int_equal(line_count, 1); /* not at once */
    assert_true(jobs_tick(j) <= 50); /* but soon */
    now_ms += 50;
    jobs_tick(j);
    assert_int_equal(line_count, 2);
    answer(&lines[1], (llm_line_answer){ .status = 503, .again = true });
    jobs_tick(j);
    now_ms += 50;
    jobs_tick(j);
    assert_int_equal(line_count, 2); /* longer each time */
    now_ms += 50;
    jobs_tick(j);
    assert_int_equal(line_count, 3);
    answer(&lines[2], (llm_line_answer){ .status = 429, .again = true, .again_ms = 60000 });
    start = now_ms;
    jobs_tick(j);
    for (; now_ms < start + 59000; now_ms += 1000)
        jobs_tick(j);
    assert_int_equal(line_count, 3); /* as long as the limiter said */
    now_ms = start + 60000;
    jobs_tick(j);
    assert_int_equal(line_count, 4);
    good("0");
    jobs_tick(j);
    assert_string_equal(look(id), "completed");
    counts(1, 1, 0);
    end_seen();
}

static void test_others_go_first(void **state)
{
    llm_request live = { .priority = 0 }, own = { .priority = LLM_PRIORITY_IDLE };
    char id[ID_BYTES];

    make_batch(6, id);
    jobs_stage.on_admit(j, &live, NULL, NULL);
    jobs_tick(j);
    assert_string_equal(look(id), "in_progress");
    assert_int_equal(line_count, 0);
    jobs_stage.on_admit(j, &own, NULL, NULL); /* a line does not count */
    jobs_stage.on_done(j, &own, NULL);
    jobs_tick(j);
    assert_int_equal(line_count, 0);
    jobs_stage.on_done(j, &live, NULL);
    jobs_tick(j);
    assert_int_equal(line_count, 4);
    jobs_stage.on_admit(j, &live, NULL, NULL);
    good(lines[0].id);
    jobs_tick(j);
    assert_int_equal(line_count, 4);
    now_ms += 18 * HOURS_MS; /* the last quarter of its time: one at a time, whatever comes */
    for (int i = 1; i < 4; i++)
        good(lines[i].id);
    jobs_tick(j);
    assert_int_equal(under_way(), 1);
    assert_int_equal(lines[4].priority, LLM_PRIORITY_BATCH);
    good(lines[4].id);
    jobs_tick(j);
    assert_int_equal(under_way(), 1);
    jobs_stage.on_refused(j, &live, NULL);
    end_seen();
}

static void test_batches_take_turns(void **state)
{
    char a[ID_BYTES], b[ID_BYTES];

    make_batch(30, a);
    make_batch(30, b);
    jobs_tick(j);
    assert_int_equal(under_way(), 4);
    while (line_count < 20) {
        for (int i = 0; i < line_count; i++)
            if (!lines[i].is_answered)
                good(lines[i].id);
        jobs_tick(j);
    }
    look(a);
    assert_true(json_integer_value(
                    json_object_get(json_object_get(seen, "request_counts"), "completed")) >= 8);
    look(b);
    assert_true(json_integer_value(
                    json_object_get(json_object_get(seen, "request_counts"), "completed")) >= 8);
    end_seen();
}

/* What has an answer is not run again, what was under way is. */
static void test_another_start(void **state)
{
    char id[ID_BYTES];

    make_batch(8, id);
    jobs_tick(j);
    good("0");
    good("2");
    jobs_tick(j);
    good("1"); /* answered, and taken while the room stops */
    jobs_close(j);
    assert_int_equal(under_way(), 0);
    open_room(4);
    while (strcmp(look(id), "in_progress") == 0) {
        jobs_tick(j);
        for (int i = 0; i < line_count; i++)
            if (!lines[i].is_answered)
                good(lines[i].id);
    }
    assert_string_equal(look(id), "completed");
    counts(8, 8, 0);
    has_lines("output_file_id", 8, NULL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(times_run((char[]){ (char)('0' + i), '\0' }), 1);
    assert_int_equal(times_run("3"), 2);
    end_seen();
}

/* Two processes on one directory: one runs the batches, the other takes over when it ends. */
static void test_one_leads(void **state)
{
    jobs *first = j;
    char id[ID_BYTES];

    jobs_tick(first);
    open_room(4);
    make_batch(2, id);
    jobs_tick(j);
    assert_string_equal(look(id), "validating");
    assert_int_equal(line_count, 0);
    now_ms += 3000; /* the first looks by itself */
    jobs_tick(first);
    assert_string_equal(look(id), "in_progress");
    assert_int_equal(line_count, 2);
    good("0");
    jobs_close(first);
    jobs_tick(j);
    assert_int_equal(times_run("0"), 1);
    assert_int_equal(times_run("1"), 2);
    good("1");
    jobs_tick(j);
    assert_string_equal(look(id), "completed");
    end_seen();
}

static void test_things_expire(void **state)
{
    const llm_file_spec spec = { .filename = "x", .purpose = "batch", .bytes = 3 };
    char short_id[ID_BYTES], long_id[ID_BYTES], path[PATH_BYTES + 64];
    json_t *v = NULL;
    char upload[ID_BYTES];
    llm_draft *d = NULL;

    put_file("a", "batch", 3600, short_id);
    put_file("b", "batch", 7200, long_id);
    assert_int_equal(door.ops->upload_create(j, NULL, &spec, &v, &err), SL_OK);
    snprintf(upload, sizeof upload, "%s", json_string_value(json_object_get(v, "id")));
    json_decref(v);
    assert_int_equal(door.ops->draft_open(j, &d, &err), SL_OK);
    assert_int_equal(door.ops->draft_write(d, "abc", 3, &err), SL_OK);
    assert_int_equal(door.ops->upload_part(j, NULL, upload, d, &v, &err), SL_OK);
    blob_path(j, json_string_value(json_object_get(v, "id")), path);
    json_decref(v);
    assert_true(sl_file_exists(path));
    now_ms += HOURS_MS;
    assert_int_equal(door.ops->file_get(j, NULL, short_id, &v, &err), SL_ENOTFOUND);
    jobs_tick(j);
    assert_false(sl_file_exists(path));
    blob_path(j, short_id, path);
    assert_false(sl_file_exists(path));
    blob_path(j, long_id, path);
    assert_true(sl_file_exists(path));
    assert_int_equal(door.ops->upload_cancel(j, NULL, upload, &v, &err), SL_ECONFLICT);
    assert_non_null(strstr(err.text, "expired"));
}

static void test_inputs_of_batches_stay(void **state)
{
    llm_batch_spec spec = { .endpoint = URL, .completion_window = "24h" };
    char file[ID_BYTES], path[PATH_BYTES + 64];
    json_t *v = NULL;

    put_file("{\"custom_id\":\"0\",\"url\":\"" URL "\",\"body\":{\"id\":\"0\"}}", "batch", 3600,
             file);
    spec.input_file_id = file;
    assert_int_equal(door.ops->batch_create(j, NULL, &spec, &v, &err), SL_OK);
    json_decref(v);
    jobs_tick(j);
    assert_int_equal(door.ops->file_delete(j, NULL, file, &err), SL_ECONFLICT);
    now_ms += 2 * HOURS_MS;
    jobs_tick(j);
    blob_path(j, file, path);
    assert_true(sl_file_exists(path));
    good("0");
    jobs_tick(j);
    now_ms += HOURS_MS;
    jobs_tick(j);
    assert_false(sl_file_exists(path));
}

/* Whoever loses his key loses what he left running; those whom nobody keeps stay. */
static void test_a_key_is_revoked(void **state)
{
    const llm_caller ann = { .id = "key_1",
                             .name = "ann",
                             .user = "",
                             .team = "",
                             .role = "member",
                             .permissions = LLM_MAY_FILES | LLM_MAY_GENERATE };
    char id[ID_BYTES];

    who = &ann;
    make_batch(6, id);
    who = NULL; /* look() sees all */
    jobs_tick(j);
    now_ms += 120000;
    jobs_tick(j);
    assert_string_equal(look(id), "in_progress");
    key_status = "active";
    now_ms += 120000;
    jobs_tick(j);
    good(lines[0].id);
    jobs_tick(j);
    assert_string_equal(look(id), "in_progress");
    key_status = "revoked";
    now_ms += 60000;
    jobs_tick(j);
    jobs_tick(j);
    assert_string_equal(look(id), "cancelled");
    counts(6, 1, 5);
    end_seen();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_to_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_input, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_before_it_begins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expiry, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_lines_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_others_go_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_batches_take_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_start, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_leads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_things_expire, setup, teardown),
        cmocka_unit_test_setup_teardown(test_inputs_of_batches_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_key_is_revoked, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
