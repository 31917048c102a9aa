/* rag_watch.c - sluice rag add --watch: folders and the collection in step, by inotify. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/rag.h"

#define DEPTH_MAX   32
#define FOLDERS_MAX 65536
#define LOOK_MS     100 /* while documents are under way */
#define EVENTS                                                                                     \
    (IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF |       \
     IN_ONLYDIR)

typedef struct folder {
    int wd;
    char *path;
} folder;

typedef struct watching {
    rag_adding *a;
    int fd;
    folder *folders; /* [count] */
    size_t count, cap;
    bool is_lost; /* a folder cannot be watched */
} watching;

static folder *find_folder(watching *w, int wd)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->folders[i].wd == wd)
            return &w->folders[i];
    return NULL;
}

static void drop_folder(watching *w, int wd)
{
    folder *f = find_folder(w, wd);

    if (!f)
        return;
    sl_free(f->path);
    *f = w->folders[--w->count];
}

static bool add_folder(watching *w, const char *path)
{
    int wd = inotify_add_watch(w->fd, path, EVENTS);
    folder *old = wd >= 0 ? find_folder(w, wd) : NULL;
    char *copy = wd >= 0 ? sl_strdup(path) : NULL;

    if (wd < 0 && errno == ENOTDIR)
        return false;
    if (old) {
        sl_free(old->path);
        old->path = copy;
    } else if (copy && sl_grow((void **)&w->folders, &w->cap, w->count + 1, sizeof *w->folders,
                               FOLDERS_MAX)) {
        w->folders[w->count++] = (folder){ wd, copy };
        copy = NULL;
        return true;
    }
    if (!old) {
        sl_free(copy);
        fprintf(stderr, "sluice: %s cannot be watched: %s\n", path, strerror(errno));
        w->is_lost = true;
    }
    return false;
}

/* The folder and those in it. */
static void add_folders(watching *w, const char *path, int depth)
{
    struct dirent **entries = NULL;
    int count;

    if (!add_folder(w, path) || depth >= DEPTH_MAX)
        return;
    count = scandir(path, &entries, NULL, NULL);
    for (int i = 0; i < count; i++) {
        struct stat st;
        sl_buf child;

        sl_buf_init(&child, 8192);
        sl_buf_printf(&child, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && !child.failed && lstat(child.ptr, &st) == 0 &&
            S_ISDIR(st.st_mode))
            add_folders(w, child.ptr, depth + 1);
        sl_buf_deinit(&child);
        free(entries[i]);
    }
    free(entries);
}

static void on_event(watching *w, const struct inotify_event *ev)
{
    const folder *f = find_folder(w, ev->wd);
    sl_buf path;

    if (ev->mask & IN_Q_OVERFLOW) {
        fprintf(stderr, "sluice: too much happened at once; start again to be in step\n");
        w->is_lost = true;
    }
    if (ev->mask & IN_IGNORED)
        drop_folder(w, ev->wd);
    if (!f || ev->len == 0 || ev->name[0] == '.')
        return;
    sl_buf_init(&path, 8192);
    sl_buf_printf(&path, "%s/%s", f->path, ev->name);
    if (path.failed) {
        sl_buf_deinit(&path);
        return;
    }
    if ((ev->mask & IN_ISDIR) && (ev->mask & (IN_CREATE | IN_MOVED_TO))) {
        add_folders(w, path.ptr, 0); /* first, so that nothing is missed */
        rag_add_path(w->a, path.ptr, 0);
    } else if (!(ev->mask & IN_ISDIR) && rag_is_document(path.ptr)) {
        if (ev->mask & (IN_CLOSE_WRITE | IN_MOVED_TO))
            rag_add_path(w->a, path.ptr, 0);
        else if (ev->mask & (IN_DELETE | IN_MOVED_FROM))
            rag_remove_path(w->a, path.ptr);
    }
    sl_buf_deinit(&path);
}

static bool read_events(watching *w)
{
    char bytes[65536] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n = read(w->fd, bytes, sizeof bytes);

    for (ssize_t at = 0; at < n;) {
        struct inotify_event *ev = (struct inotify_event *)(void *)(bytes + at);

        on_event(w, ev);
        at += (ssize_t)sizeof *ev + ev->len;
    }
    return n > 0 || errno == EINTR || errno == EAGAIN;
}

int rag_watch(rag_adding *a, int argc, char **argv)
{
    watching w = { .a = a, .fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK) };
    bool ok = w.fd >= 0;

    for (int i = 0; ok && i < argc; i++) {
        size_t len = strlen(argv[i]);

        while (len > 1 && argv[i][len - 1] == '/')
            argv[i][--len] = '\0';
        add_folders(&w, argv[i], 0);
    }
    if (ok && w.count == 0)
        fprintf(stderr, "sluice: --watch needs a folder\n");
    else if (ok)
        fprintf(stderr, "sluice: watching %zu folders; Ctrl-C ends it\n", w.count);
    while (ok && w.count > 0 && !w.is_lost && !atomic_load(&cli_interrupted)) {
        struct pollfd p = { .fd = w.fd, .events = POLLIN };

        if (poll(&p, 1, rag_look(a) > 0 ? LOOK_MS : -1) > 0)
            ok = read_events(&w);
    }
    ok = ok && !w.is_lost && atomic_load(&cli_interrupted);
    while (w.count > 0)
        drop_folder(&w, w.folders[0].wd);
    sl_free(w.folders);
    if (w.fd >= 0)
        close(w.fd);
    return ok ? CLI_OK : CLI_FAILED;
}
