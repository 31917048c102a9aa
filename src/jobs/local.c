/* local.c - one file of requests to one file of answers, without a server. The output is the memory
 * of what is done: whole lines of it count, and half a line at its end, which a crash left, goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/os.h"
#include "jobs/jobs_int.h"

#define CONCURRENCY_DEFAULT 8
#define WAIT_MS             200 /* how soon a cancel is seen */
#define PAUSE_MS            20
#define LINE_BYTES_MAX      (300 * SL_MIB)

typedef struct local_run {
    const jobs_local *o;
    sl_file_map map;
    input in;
    int out, bad; /* file descriptors, -1: not open */
    flights under_way;
    jobs_progress p;
    size_t next_line, *again, again_count;
} local_run;

/* ---- before --------------------------------------------------------------------------------- */

static sl_status read_input(local_run *r, sl_err *err)
{
    const llm_line_runner *runner = &r->o->runner;
    const json_t *first;

    SL_TRY(sl_file_map_open(r->o->input, &r->map, err));
    SL_TRY(input_scan(r->map.bytes, NULL, &r->in, err));
    first = json_array_get(r->in.errors, 0);
    if (first)
        return sl_fail(err, SL_EFORMAT, "%s: line %lld: %s%s", r->o->input,
                       (long long)json_integer_value(json_object_get(first, "line")),
                       json_string_value(json_object_get(first, "message")),
                       json_array_size(r->in.errors) > 1 ? " There is more." : "");
    r->again = sl_calloc(r->in.count, sizeof *r->again);
    if (!r->again)
        return sl_fail(err, SL_ENOMEM, "out of memory for the lines");
    return runner->ops->check(runner->ctx, r->in.url, r->in.model, NULL, err);
}

/* One line of an output that is there already. */
static sl_status take_answer(local_run *r, const char *text, size_t len, sl_err *err)
{
    json_t *root = json_loadb(text, len, 0, NULL);
    const char *id = json_string_value(json_object_get(root, "custom_id"));
    input_line *line = id ? input_find(&r->in, id) : NULL;
    sl_status status = SL_OK;

    if (!line)
        status = sl_fail(err, SL_EFORMAT,
                         "%s has answers to other requests than %s (%.100s); give another file, or "
                         "remove it",
                         r->o->output, r->o->input, id ? id : "not JSON");
    else
        line->is_done = true;
    json_decref(root);
    return status;
}

static sl_status read_output(local_run *r, sl_err *err)
{
    off_t size = lseek(r->out, 0, SEEK_END);
    sl_file_map map = { 0 };
    size_t at = 0;
    sl_status status;

    if (size <= 0)
        return SL_OK;
    status = sl_file_map_open(r->o->output, &map, err);
    while (status == SL_OK && at < map.bytes.len) {
        const char *line = (const char *)map.bytes.ptr + at;
        const char *end = memchr(line, '\n', map.bytes.len - at);

        if (!end)
            break;
        status = take_answer(r, line, (size_t)(end - line), err);
        at += (size_t)(end - line) + 1;
    }
    if (status == SL_OK && at < map.bytes.len && ftruncate(r->out, (off_t)at) != 0)
        status = sl_fail(err, SL_EIO, "cannot cut %s: %s", r->o->output, strerror(errno));
    sl_file_map_close(&map);
    return status;
}

static sl_status open_outputs(local_run *r, sl_err *err)
{
    r->out = open(r->o->output, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (r->out < 0)
        return sl_fail(err, SL_EIO, "cannot open %s: %s", r->o->output, strerror(errno));
    if (flock(r->out, LOCK_EX | LOCK_NB) != 0)
        return sl_fail(err, SL_ECONFLICT, "another run writes to %s", r->o->output);
    SL_TRY(read_output(r, err));
    r->bad = open(r->o->errors, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (r->bad < 0)
        return sl_fail(err, SL_EIO, "cannot open %s: %s", r->o->errors, strerror(errno));
    return SL_OK;
}

/* ---- meanwhile ------------------------------------------------------------------------------ */

static sl_status write_whole(int fd, const char *path, const sl_buf *text, sl_err *err)
{
    if (!sl_write_all(fd, text->ptr, text->len))
        return sl_fail(err, SL_EIO, "cannot write to %s: %s", path, strerror(errno));
    if (text->len > 0 && fdatasync(fd) != 0 && errno != EINVAL) /* a pipe cannot */
        return sl_fail(err, SL_EIO, "cannot write to %s: %s", path, strerror(errno));
    return SL_OK;
}

static void take_one(local_run *r, const flight *f, sl_buf *good, sl_buf *bad)
{
    bool is_good = f->status == 200;

    if (f->again || f->is_cancelled) {
        r->again[r->again_count++] = f->line;
        return;
    }
    output_line(is_good ? good : bad, r->in.lines[f->line].custom_id, f);
    sl_buf_putc(is_good ? good : bad, '\n');
    r->p.done += is_good;
    r->p.failed += !is_good;
    r->p.prompt_tokens += f->prompt_tokens;
    r->p.cached_tokens += f->cached_tokens;
    r->p.output_tokens += f->output_tokens;
}

/* Takes what ended, writes it down, and tells of it. */
static sl_status take_finished(local_run *r, bool *ret_refused, sl_err *err)
{
    flight *f = flights_take(&r->under_way);
    bool any = f != NULL;
    sl_buf good, bad;
    sl_status status;

    sl_buf_init(&good, LINE_BYTES_MAX);
    sl_buf_init(&bad, LINE_BYTES_MAX);
    *ret_refused = false;
    while (f) {
        flight *next = f->next_finished;

        *ret_refused = *ret_refused || f->again;
        take_one(r, f, &good, &bad);
        flight_free(f);
        f = next;
    }
    status = sl_buf_ok(&good, "answers", err);
    if (status == SL_OK)
        status = sl_buf_ok(&bad, "answers", err);
    if (status == SL_OK)
        status = write_whole(r->out, r->o->output, &good, err);
    if (status == SL_OK)
        status = write_whole(r->bad, r->o->errors, &bad, err);
    sl_buf_deinit(&good);
    sl_buf_deinit(&bad);
    if (status == SL_OK && any && r->o->on_progress)
        r->o->on_progress(r->o->ctx, &r->p);
    return status;
}

static sl_status start_line(local_run *r, size_t at, sl_err *err)
{
    llm_line line = { .url = r->in.url };
    sl_buf body;
    sl_status status;

    sl_buf_init(&body, SL_HTTP_BODY_BYTES_MAX);
    status = input_body(r->map.bytes, &r->in.lines[at], &body, err);
    line.body = sl_span_of(sl_buf_str(&body), body.len);
    if (status == SL_OK && !flights_start(&r->under_way, r, at, &line))
        status = sl_fail(err, SL_ENOMEM, "out of memory for a line");
    sl_buf_deinit(&body);
    return status;
}

/* The next line to start; false: there is none. */
static bool next_line(local_run *r, size_t *ret)
{
    while (r->next_line < r->in.count && r->in.lines[r->next_line].is_done)
        r->next_line++;
    if (r->again_count > 0)
        *ret = r->again[--r->again_count];
    else if (r->next_line < r->in.count)
        *ret = r->next_line++;
    else
        return false;
    return true;
}

static bool is_cancelled(const local_run *r)
{
    return r->o->cancelled && atomic_load(r->o->cancelled);
}

static sl_status run_lines(local_run *r, sl_err *err)
{
    int room = r->o->concurrency > 0 ? r->o->concurrency : CONCURRENCY_DEFAULT;
    sl_status status = SL_OK;
    bool refused = false;
    size_t at;

    for (;;) {
        while (status == SL_OK && !refused && !is_cancelled(r) && r->under_way.count < room &&
               next_line(r, &at))
            status = start_line(r, at, err);
        if (status != SL_OK || is_cancelled(r))
            flights_cancel(&r->under_way, NULL);
        if (r->under_way.count == 0 && !refused)
            break;
        flights_wait(&r->under_way, refused ? PAUSE_MS : WAIT_MS);
        if (status == SL_OK)
            status = take_finished(r, &refused, err);
        else
            (void)take_finished(r, &refused, NULL);
        refused = refused && status == SL_OK && !is_cancelled(r);
    }
    if (status == SL_OK && is_cancelled(r))
        status = sl_fail(err, SL_ECANCELLED, "interrupted; the same command goes on where it was");
    return status;
}

sl_status jobs_run_local(const jobs_local *options, jobs_progress *ret, sl_err *err)
{
    local_run r = { .o = options, .out = -1, .bad = -1 };
    sl_status status;

    flights_init(&r.under_way, options->runner);
    status = read_input(&r, err);
    if (status == SL_OK)
        status = open_outputs(&r, err);
    if (status == SL_OK) {
        r.p.total = r.in.count;
        for (size_t i = 0; i < r.in.count; i++)
            r.p.done += r.in.lines[i].is_done;
        if (options->on_progress)
            options->on_progress(options->ctx, &r.p);
        input_order(&r.in);
        status = run_lines(&r, err);
    }
    *ret = r.p;
    if (r.out >= 0)
        close(r.out);
    if (r.bad >= 0)
        close(r.bad);
    if (status == SL_OK && r.p.failed == 0)
        unlink(options->errors);
    flights_deinit(&r.under_way);
    input_deinit(&r.in);
    sl_file_map_close(&r.map);
    sl_free(r.again);
    return status;
}
