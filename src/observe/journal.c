/* journal.c - records on their way to the database: one JSON object per line.
 *
 * The files are mapped, so that a record costs its caller a copy and no system call: what was
 * stored in a shared mapping is the kernel's, whatever becomes of the process. Their blocks are
 * allocated before anything is stored, since a full disk would otherwise be a SIGBUS (SQLite takes
 * the same care of its own mapping). Behind the last line there are zeros.
 *
 * A line that a crash cut short is the last one, and is ignored: its request's end was not told to
 * anybody. */
#include "observe/ledger_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/os.h"

#define PAIRS_MAX     64                /* processes that share a data directory */
#define JOURNAL_BYTES ((size_t)1 << 20) /* then the other file's turn comes, when it is empty */
#define REPLAY_BYTES  ((size_t)256 << 20)
#define LINE_BYTES    (16 * SL_KIB)
#define MAPPED_BYTES  (JOURNAL_BYTES + LINE_BYTES) /* of a file, as a rule */

static const char *const column_keys[LLM_USAGE_COLUMN_COUNT] = { "key",   "user",  "team",
                                                                 "model", "route", "outcome" };

static void put_key(sl_buf *out, const char *key)
{
    sl_buf_puts(out, ",\"");
    sl_buf_puts(out, key);
    sl_buf_puts(out, "\":");
}

static void put_line(sl_buf *out, const ledger_record *r)
{
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {
        { "end", r->end_ms },           { "embedding", r->is_embedding },
        { "fresh", r->tokens.fresh },   { "cached", r->tokens.cached },
        { "output", r->tokens.output }, { "reasoning", r->tokens.reasoning },
        { "queue", r->queue_us },       { "prefill", r->prefill_us },
        { "decode", r->decode_us },     { "cost", r->cost_nusd },
    };

    sl_buf_puts(out, "{\"id\":");
    sl_buf_put_json(out, r->id, strlen(r->id));
    for (int i = 0; i < LLM_USAGE_COLUMN_COUNT; i++) {
        put_key(out, column_keys[i]);
        sl_buf_put_json(out, r->columns[i], strlen(r->columns[i]));
    }
    for (size_t i = 0; i < SL_COUNT_OF(numbers); i++) {
        put_key(out, numbers[i].key);
        sl_buf_put_int(out, numbers[i].value);
    }
    sl_buf_puts(out, "}\n");
}

static int64_t number(const json_t *line, const char *key)
{
    return json_integer_value(json_object_get(line, key));
}

static bool read_line(const json_t *line, ledger_record *r)
{
    r->id = json_string_value(json_object_get(line, "id"));
    for (int i = 0; i < LLM_USAGE_COLUMN_COUNT; i++) {
        r->columns[i] = json_string_value(json_object_get(line, column_keys[i]));
        if (!r->columns[i])
            return false;
    }
    r->end_ms = number(line, "end");
    r->is_embedding = number(line, "embedding") != 0;
    r->tokens = (llm_tokens){ number(line, "fresh"), number(line, "cached"), number(line, "output"),
                              number(line, "reasoning") };
    r->queue_us = number(line, "queue");
    r->prefill_us = number(line, "prefill");
    r->decode_us = number(line, "decode");
    r->cost_nusd = number(line, "cost");
    return r->id != NULL;
}

static void replay(const char *path, const journal_reader *reader)
{
    const char *p, *end;
    sl_err err;
    sl_buf b;

    sl_buf_init(&b, REPLAY_BYTES);
    if (sl_file_read(path, REPLAY_BYTES, &b, &err) == SL_OK) {
        for (p = sl_buf_str(&b); (end = strchr(p, '\n')); p = end + 1) {
            json_t *line = json_loadb(p, (size_t)(end - p), 0, NULL);
            ledger_record r = { 0 };

            if (line && read_line(line, &r))
                reader->on_record(reader->ctx, &r);
            json_decref(line);
        }
    }
    sl_buf_deinit(&b);
}

static void pair_paths(const char *dir, int pair, char path[2][4096])
{
    for (int i = 0; i < 2; i++)
        snprintf(path[i], sizeof path[i], "%s/usage-%d%c.journal", dir, pair, 'a' + i);
}

/* Closes it and tells why. */
static sl_status give_up(journal *j, const char *verb, int which, sl_err *err)
{
    sl_status status =
        sl_fail(err, SL_EIO, "cannot %s %s: %s", verb, j->path[which], strerror(errno));

    journal_close(j);
    return status;
}

/* Opens and locks a pair: SL_EBUSY when another process has it. Closed on failure. */
static sl_status take_pair(journal *j, const char *dir, int pair, sl_err *err)
{
    pair_paths(dir, pair, j->path);
    for (int i = 0; i < 2; i++) {
        j->fds[i] = open(j->path[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (j->fds[i] < 0)
            return give_up(j, "open", i, err);
    }
    if (flock(j->fds[0], LOCK_EX | LOCK_NB) == 0)
        return SL_OK;
    journal_close(j);
    return sl_fail(err, SL_EBUSY, "%s is in use", j->path[0]);
}

/* Cuts a file off, as far as that can be done: what stays are zeros, or records that are read
 * again, which doubles nothing. */
static void cut(int fd, size_t bytes)
{
    if (ftruncate(fd, (off_t)bytes) != 0) {
        /* See above. */
    }
}

/* Maps so many bytes of a file, more or fewer than before; what is added is zero. False: nothing
 * was added. */
static bool map_file(journal *j, int which, size_t bytes)
{
    size_t old = j->mapped[which];
    char *p;

    if (bytes > old && (errno = posix_fallocate(j->fds[which], 0, (off_t)bytes)) != 0)
        return false;
    p = old ? mremap(j->map[which], old, bytes, MREMAP_MAYMOVE)
            : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, j->fds[which], 0);
    if (p == MAP_FAILED)
        return false;
    j->map[which] = p;
    j->mapped[which] = bytes;
    if (bytes < old)
        cut(j->fds[which], bytes);
    return true;
}

/* Empties a pair that was replayed, and makes it ready for records. Closed on failure. */
static sl_status start_pair(journal *j, sl_err *err)
{
    for (int i = 0; i < 2; i++)
        if (ftruncate(j->fds[i], 0) != 0 || !map_file(j, i, MAPPED_BYTES))
            return give_up(j, "map", i, err);
    return SL_OK;
}

/* Tells a pair's records; true when they may be forgotten. */
static bool replay_pair(const journal *j, const journal_reader *reader)
{
    for (int i = 0; i < 2; i++)
        replay(j->path[i], reader);
    return reader->on_end(reader->ctx);
}

/* Of a pair that is not wanted: its files stay, empty. */
static void empty_pair(journal *j)
{
    for (int i = 0; i < 2; i++)
        cut(j->fds[i], 0);
    journal_close(j);
}

sl_status journal_open(journal *j, const char *dir, const journal_reader *reader, sl_err *err)
{
    bool has_one = false;

    *j = (journal){ .fds = { -1, -1 } };
    for (int pair = 0; pair < PAIRS_MAX; pair++) {
        journal other = { .fds = { -1, -1 } };
        sl_status status;

        pair_paths(dir, pair, other.path);
        if (has_one && !sl_file_exists(other.path[0]))
            break;
        status = take_pair(&other, dir, pair, err);
        if (status == SL_EBUSY)
            continue;
        SL_TRY(status);
        if (!replay_pair(&other, reader)) {
            journal_close(&other); /* its records wait for a better time */
        } else if (has_one) {
            empty_pair(&other);
        } else {
            SL_TRY(start_pair(&other, err));
            *j = other;
            has_one = true;
        }
    }
    return has_one ? SL_OK : sl_fail(err, SL_EBUSY, "no usage journal in %s could be used", dir);
}

void journal_close(journal *j)
{
    for (int i = 0; i < 2; i++) {
        if (j->mapped[i]) {
            munmap(j->map[i], j->mapped[i]);
            cut(j->fds[i], j->bytes[i]);
        }
        if (j->fds[i] >= 0)
            close(j->fds[i]);
        j->mapped[i] = 0;
        j->fds[i] = -1;
    }
}

bool journal_append(journal *j, const ledger_record *r)
{
    size_t *bytes;
    int which;
    bool ok;
    sl_buf b;

    if (j->bytes[j->active] > JOURNAL_BYTES && j->bytes[!j->active] == 0)
        j->active = !j->active;
    which = j->active;
    bytes = &j->bytes[which];
    sl_buf_init(&b, LINE_BYTES);
    put_line(&b, r);
    ok = !b.failed &&
         (*bytes + b.len <= j->mapped[which] || map_file(j, which, j->mapped[which] * 2));
    if (ok)
        memcpy(j->map[which] + *bytes, b.ptr, b.len);
    *bytes += ok ? b.len : 0;
    sl_buf_deinit(&b);
    return ok;
}

void journal_clear(journal *j, int which)
{
    memset(j->map[which], 0, j->bytes[which]);
    if (j->mapped[which] > MAPPED_BYTES) /* it grew while the database failed */
        (void)map_file(j, which, MAPPED_BYTES);
}
