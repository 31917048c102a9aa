/* first.c - what a server fetches before it serves for the first time. */
#include "app/app.h"

#include <signal.h>
#include <stdio.h>

#include "base/log.h"

typedef struct first {
    atomic_bool cancelled;
} first;

/* SIGTERM and SIGINT are blocked until the server waits for them; a download must not keep a
 * container from ending. */
static void look_for_end(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    first *f = ctx;
    sigset_t set;

    (void)what;
    (void)done;
    (void)total;
    if (sigpending(&set) == 0 && (sigismember(&set, SIGTERM) || sigismember(&set, SIGINT)))
        atomic_store(&f->cancelled, true);
}

static sl_status fetch(model_store *s, const char *name, sl_err *err)
{
    first f = { false };
    pull_options o = { .on_progress = look_for_end, .ctx = &f, .cancelled = &f.cancelled };
    char kept[129];
    sl_buf path;
    sl_err why = { 0 };
    bool has;

    sl_buf_init(&path, 8192);
    has = model_store_resolve(s, name, &path, NULL) == SL_OK;
    sl_buf_deinit(&path);
    if (has)
        return SL_OK;
    SL_LOG(SL_LOG_INFO, "models.pulling", SL_F_STR("model", name));
    if (pull_model(s, name, &o, kept, &why) == SL_OK) {
        SL_LOG(SL_LOG_INFO, "models.pulled", SL_F_STR("model", kept));
        return SL_OK;
    }
    if (atomic_load(&f.cancelled))
        return sl_fail(err, SL_ECANCELLED, "told to end while fetching %s", name);
    SL_LOG(SL_LOG_ERROR, "models.not_pulled", SL_F_STR("model", name), SL_F_STR("error", why.text));
    return SL_OK;
}

sl_status app_fetch_first(const config *c, sl_err *err)
{
    const char *p = c->loading.pull ? c->loading.pull : "";
    model_store *s = NULL;
    sl_status status = p[0] ? model_store_open(c->data, &s, err) : SL_OK;

    while (status == SL_OK && *(p += strspn(p, ", "))) {
        size_t len = strcspn(p, ", ");
        char name[512];

        if (len >= sizeof name)
            status = sl_fail(err, SL_EINVAL, "loading.pull: '%.40s...' is too long", p);
        else
            snprintf(name, sizeof name, "%.*s", (int)len, p);
        if (status == SL_OK)
            status = fetch(s, name, err);
        p += len;
    }
    model_store_close(s);
    return status;
}
