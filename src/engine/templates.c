/* templates.c - see the header. Whole texts are compared: a hash alone would let one caller's
 * template answer for another's. */
#include "engine/templates.h"

#include <pthread.h>

#include "base/limits.h"
#include "base/mem.h"

struct kept_template {
    char *text;
    token_template *compiled;
    int refs; /* the cache's and the users', under the cache's lock */
};

struct template_cache {
    pthread_mutex_t lock;
    kept_template *kept[SL_TEMPLATE_STRANGE_KEPT]; /* the one used last first; NULL: free */
};

template_cache *template_cache_create(void)
{
    template_cache *c = sl_calloc(1, sizeof *c);

    if (c)
        pthread_mutex_init(&c->lock, NULL);
    return c;
}

const token_template *template_of(const kept_template *t)
{
    return t->compiled;
}

/* With the lock held. Accepts NULL. */
static void unref(kept_template *t)
{
    if (!t || --t->refs > 0)
        return;
    token_template_destroy(t->compiled);
    sl_free(t->text);
    sl_free(t);
}

void template_cache_destroy(template_cache *c)
{
    if (!c)
        return;
    for (int i = 0; i < SL_TEMPLATE_STRANGE_KEPT; i++)
        unref(c->kept[i]);
    pthread_mutex_destroy(&c->lock);
    sl_free(c);
}

void template_release(template_cache *c, kept_template *t)
{
    pthread_mutex_lock(&c->lock);
    unref(t);
    pthread_mutex_unlock(&c->lock);
}

/* Moves kept[from] to the front. */
static void move_to_front(template_cache *c, int from)
{
    kept_template *t = c->kept[from];

    for (int i = from; i > 0; i--)
        c->kept[i] = c->kept[i - 1];
    c->kept[0] = t;
}

/* With a reference for the caller; NULL when it is not kept. */
static kept_template *find(template_cache *c, const char *text)
{
    kept_template *t = NULL;

    pthread_mutex_lock(&c->lock);
    for (int i = 0; i < SL_TEMPLATE_STRANGE_KEPT && c->kept[i] && !t; i++)
        if (strcmp(c->kept[i]->text, text) == 0) {
            t = c->kept[i];
            t->refs++;
            move_to_front(c, i);
        }
    pthread_mutex_unlock(&c->lock);
    return t;
}

static sl_status compile(const char *text, size_t len, kept_template **ret, sl_err *err)
{
    kept_template *t = sl_calloc(1, sizeof *t);
    sl_status status = SL_ENOMEM;

    if (t && (t->text = sl_strndup(text, len)))
        status = token_template_parse(text, len, &t->compiled, err);
    else
        sl_fail(err, SL_ENOMEM, "out of memory");
    if (status != SL_OK) {
        if (t)
            sl_free(t->text);
        sl_free(t);
        return status;
    }
    token_template_bound(t->compiled, SL_TEMPLATE_STRANGE_STEPS_MAX);
    t->refs = 1;
    *ret = t;
    return SL_OK;
}

sl_status template_acquire(template_cache *c, const char *text, kept_template **ret, sl_err *err)
{
    size_t len = strlen(text);
    kept_template *t;
    sl_status status;

    if (len > SL_TEMPLATE_STRANGE_BYTES_MAX)
        return sl_fail(err, SL_ELIMIT, "chat_template has %zu bytes, at most %zu are allowed", len,
                       SL_TEMPLATE_STRANGE_BYTES_MAX);
    t = find(c, text);
    if (t) {
        *ret = t;
        return SL_OK;
    }
    status = compile(text, len, &t, err);
    if (status != SL_OK)
        return sl_err_prefix(err, status, "chat_template");
    pthread_mutex_lock(&c->lock);
    unref(c->kept[SL_TEMPLATE_STRANGE_KEPT - 1]);
    c->kept[SL_TEMPLATE_STRANGE_KEPT - 1] = t;
    move_to_front(c, SL_TEMPLATE_STRANGE_KEPT - 1);
    t->refs++;
    pthread_mutex_unlock(&c->lock);
    *ret = t;
    return SL_OK;
}
