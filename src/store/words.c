/* words.c - the full-text index: a tokenizer of the caller's, and the lists of rows that have a
 * word. See the header.
 *
 * FTS5 ranks with statistics over its whole table. The room that searches has its own idea of what
 * counts, so it takes the lists themselves: an auxiliary function, called for one row of a query,
 * walks all rows of each of the query's words. */
#include <stdio.h>

#include "base/limits.h"
#include "base/mem.h"
#include "store/store_int.h"

#define POSTINGS "sluice_postings" /* the auxiliary function, and the type of its pointer */

/* ---- the tokenizer ------------------------------------------------------------------------- */

typedef struct splitter {
    const store_tokenizer *t;
    void *state;
} splitter;

typedef struct feeding {
    void *ctx; /* FTS5's */
    int (*token)(void *ctx, int flags, const char *text, int len, int begin, int end);
    int rc;
} feeding;

static void splitter_destroy(Fts5Tokenizer *self)
{
    splitter *s = (splitter *)self;

    if (s) {
        s->t->destroy(s->state);
        sl_free(s);
    }
}

static int splitter_create(void *ctx, const char **args, int arg_count, Fts5Tokenizer **ret)
{
    splitter *s = sl_calloc(1, sizeof *s);

    (void)args;
    (void)arg_count;
    if (!s)
        return SQLITE_NOMEM;
    s->t = ctx;
    s->state = s->t->create();
    if (!s->state) {
        sl_free(s);
        return SQLITE_NOMEM;
    }
    *ret = (Fts5Tokenizer *)s;
    return SQLITE_OK;
}

static bool feed(void *ctx, const char *token, size_t len)
{
    feeding *f = ctx;

    f->rc = f->token(f->ctx, 0, token, (int)len, 0, 0); /* nobody asks where they stand */
    return f->rc == SQLITE_OK;
}

/* A word of a query came from the same splitter already. */
static int splitter_run(Fts5Tokenizer *self, void *ctx, int flags, const char *text, int len,
                        int (*token)(void *, int, const char *, int, int, int))
{
    splitter *s = (splitter *)self;
    feeding f = { .ctx = ctx, .token = token, .rc = SQLITE_OK };

    if (flags & FTS5_TOKENIZE_QUERY)
        return token(ctx, 0, text, len, 0, len);
    if (!s->t->split(s->state, text ? text : "", text ? (size_t)len : 0, feed, &f) &&
        f.rc == SQLITE_OK)
        return SQLITE_NOMEM;
    return f.rc;
}

/* ---- lists of rows ------------------------------------------------------------------------- */

typedef struct walk {
    store_posting_fn fn;
    void *ctx;
    size_t word;
} walk;

static int on_row(const Fts5ExtensionApi *api, Fts5Context *fts, void *ctx)
{
    const walk *w = ctx;
    Fts5PhraseIter iter;
    int column = 0, offset = 0, count = 0;

    if (api->xPhraseFirst(fts, 0, &iter, &column, &offset) != SQLITE_OK)
        return SQLITE_ERROR;
    for (; column >= 0; api->xPhraseNext(fts, &iter, &column, &offset))
        count++;
    return w->fn(w->ctx, w->word, api->xRowid(fts), count) ? SQLITE_OK : SQLITE_DONE;
}

static void postings(const Fts5ExtensionApi *api, Fts5Context *fts, sqlite3_context *ctx, int count,
                     sqlite3_value **values)
{
    walk *w = count == 1 ? sqlite3_value_pointer(values[0], POSTINGS) : NULL;
    int phrases = api->xPhraseCount(fts), rc = w ? SQLITE_OK : SQLITE_MISUSE;

    for (int i = 0; i < phrases && rc == SQLITE_OK; i++) {
        w->word = (size_t)i;
        rc = api->xQueryPhrase(fts, i, w, on_row);
    }
    if (rc == SQLITE_OK)
        sqlite3_result_int(ctx, phrases);
    else
        sqlite3_result_error_code(ctx, rc);
}

static void put_quoted(sl_buf *out, const char *text, size_t len)
{
    sl_buf_puts(out, out->len ? " OR \"" : "\"");
    for (size_t i = 0; i < len; i++)
        sl_buf_put(out, text[i] == '"' ? "\"\"" : text + i, text[i] == '"' ? 2 : 1);
    sl_buf_puts(out, "\"");
}

static sl_status walk_words(store *s, const char *table, const sl_buf *match, walk *w, sl_err *err)
{
    char sql[256];
    store_stmt *st;
    bool row;
    sl_status status;

    snprintf(sql, sizeof sql, "SELECT " POSTINGS "(%s, ?2) FROM %s WHERE %s MATCH ?1 LIMIT 1",
             table, table, table);
    SL_TRY(store_prepare(s, sql, &st, err));
    store_bind_text(st, 1, match->ptr, match->len);
    if (sqlite3_bind_pointer(st->raw, 2, w, POSTINGS, NULL) != SQLITE_OK)
        status = sl_fail(err, SL_ENOMEM, "out of memory");
    else
        status = store_step(st, &row, err);
    store_finish(st);
    return status;
}

sl_status store_postings(store *s, const char *table, const sl_span *words, size_t count,
                         store_posting_fn fn, void *ctx, sl_err *err)
{
    walk w = { .fn = fn, .ctx = ctx };
    sl_buf match;
    sl_status status;

    if (count == 0)
        return SL_OK;
    SL_ASSERT(count <= STORE_POSTING_WORDS_MAX);
    sl_buf_init(&match, SL_MIB);
    for (size_t i = 0; i < count; i++)
        put_quoted(&match, (const char *)words[i].ptr, words[i].len);
    status = sl_buf_ok(&match, "query", err);
    if (status == SL_OK)
        status = walk_words(s, table, &match, &w, err);
    sl_buf_deinit(&match);
    return status;
}

/* ---- set-up -------------------------------------------------------------------------------- */

sl_status store_add_tokenizer(store *s, const store_tokenizer *t, sl_err *err)
{
    static fts5_tokenizer methods = { splitter_create, splitter_destroy, splitter_run };
    fts5_api *api = NULL;
    store_stmt *st;
    bool row;
    sl_status status;
    int rc;

    SL_TRY(store_prepare(s, "SELECT fts5(?1)", &st, err));
    rc = sqlite3_bind_pointer(st->raw, 1, (void *)&api, "fts5_api_ptr", NULL);
    status = rc == SQLITE_OK ? store_step(st, &row, err) : store_fail(s, rc, err);
    store_finish(st);
    if (status != SL_OK)
        return status;
    if (!api)
        return sl_fail(err, SL_ENOTSUP, "this SQLite has no full-text search (FTS5)");
    rc = api->xCreateTokenizer(api, t->name, (void *)t, &methods, NULL);
    if (rc == SQLITE_OK)
        rc = api->xCreateFunction(api, POSTINGS, NULL, postings, NULL);
    return rc == SQLITE_OK ? SL_OK : store_fail(s, rc, err);
}
