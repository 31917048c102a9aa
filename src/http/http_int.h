/* http_int.h - the server's structures, shared by the files of the room.
 *
 * Lock order: server.mutex, then exchange.mutex, then whatever libmicrohttpd takes inside. The
 * owner's callbacks (handler, on_close, on_done) are called with no lock held. */
#ifndef SL_HTTP_HTTP_INT_H
#define SL_HTTP_HTTP_INT_H

#include <microhttpd.h>
#include <pthread.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/os.h"
#include "http/forwarded.h"
#include "http/http.h"
#include "http/tls.h"

#define ROUTES_MAX        256
#define PARAMS_MAX        4
#define ARENA_BYTES_MAX   (256 * SL_KIB) /* heads are bounded by the connection memory below */
#define STREAM_BLOCK      (4 * SL_KIB)   /* for HTTP/1.0; chunks use the connection's memory */
#define EXTRA_HEADERS_MAX 32
#define LINGER_NS         50000 /* an answer to a lone request finds its thread awake so long */
#define SWEEP_PERIOD_MS   250   /* how exact timeouts and pings are */
#define FORM_MEMORY_BYTES (64 * SL_KIB) /* heads of parts, and the pieces that are handed on */
#define BODY_EXCESS_MAX   (16 * SL_MIB) /* read and thrown away so that a 413 reaches the client */

typedef struct http_pair {
    const char *name, *value;
    struct http_pair *next;
} http_pair;

typedef struct http_route_entry {
    const char *method, *pattern; /* owned */
    http_handler_fn fn;
    void *ctx;
    bool (*begin)(void *ctx, http_exchange *x); /* uploads: see http_server_upload */
    void (*write)(void *ctx, http_exchange *x, const void *bytes, size_t len);
} http_route_entry;

/* One TCP connection, from accept to close. In the server's list, under server.mutex. */
typedef struct http_conn {
    struct http_conn *prev, *next;
    int fd;
    int64_t
        since_ns; /* accepted, last answer finished, or head read: what the timeouts count from */
    enum { CONN_IDLE, CONN_READING_BODY, CONN_BUSY } state;
    bool hung_up;     /* its client closed its end */
    bool told;        /* x was told that its client left */
    http_exchange *x; /* CONN_BUSY: the one being answered; a reference */
} http_conn;

/* One address. */
typedef struct http_listener {
    int fd; /* -1: none */
    struct MHD_Daemon *daemon;
    pthread_t acceptor;
    bool accepts; /* the acceptor runs */
    int stop_fd;  /* eventfd: it ends; -1: none */
    unsigned connections_max;
    bool is_tls, is_unix;
    int port;                         /* 0: a Unix socket */
    char address[HTTP_ADDRESS_BYTES]; /* "127.0.0.1:8080", "unix:/run/x.sock" */
    ino_t inode;                      /* of a Unix socket */
} http_listener;

struct http_server {
    atomic_int refs; /* the owner and every exchange */
    http_server_options options;
    char *cors_origin, *tls_certificate, *tls_key; /* NULL: none */
    http_listener listeners[HTTP_LISTENERS_MAX];
    size_t listener_count;
    bool started;
    proxy_list proxies;
    proxy_header proxy_header;
    atomic_size_t body_bytes, queue_bytes; /* of all exchanges */
    http_route_entry routes[ROUTES_MAX];
    size_t route_count;
    bool (*on_refusal)(void *ctx, http_exchange *x, const http_refusal *why);
    void *on_refusal_ctx;

    pthread_mutex_t mutex; /* the fields below */
    pthread_cond_t idle;   /* busy_count reached 0 */
    http_conn *conns;
    http_conn **by_fd; /* [by_fd_cap], by socket; NULL: none in the watcher's epoll */
    size_t by_fd_cap;
    int busy_count;
    bool stop_watcher;

    atomic_bool draining; /* set under the mutex, read anywhere */
    pthread_t watcher;
    bool watcher_runs;
    int wake_fd;  /* eventfd: the watcher looks at once */
    int watch_fd; /* epoll: wake_fd, and every connection for its client's hanging up */

    /* The watcher's. */
    int64_t tls_looked_ns;
    tls_stamp tls_seen, tls_loaded; /* at the last look; when last read */
};

typedef enum answer_kind {
    ANSWER_NONE,
    ANSWER_FIXED,
    ANSWER_STREAM,
    ANSWER_FILE,
} answer_kind;

struct http_exchange {
    atomic_int refs;
    http_server *server; /* a reference */
    int64_t started_ns;

    /* The request: written by the io thread before the handler runs, then read-only. */
    sl_arena arena;
    const char *method, *path, *remote;
    char request_id[HTTP_REQUEST_ID_BYTES];
    http_pair *headers, *queries;
    http_pair params[PARAMS_MAX];
    size_t param_count;
    const http_route_entry *route;
    sl_buf body;
    size_t body_excess, body_counted; /* counted: in server.body_bytes */
    bool too_large, dispatched;
    bool is_alone;   /* no other request was being answered when it was dispatched */
    bool overloaded; /* the bodies of all requests are too large */
    int head_status; /* 0, or why the head is refused: 414, 431, 400 */
    bool uri_too_long;

    atomic_bool gone;

    pthread_mutex_t mutex;       /* the fields below */
    struct MHD_Connection *conn; /* NULL once MHD is done with the request */
    bool suspended, queued;
    int64_t linger_until_ns; /* 0: nobody looked for the answer yet */
    answer_kind kind;
    bool complete; /* http_respond or http_stream_end was called */
    int status;
    const char *content_type; /* in extra_arena */
    http_pair *extra;         /* answer headers, in extra_arena */
    sl_arena extra_arena;
    sl_buf out; /* the fixed body, or the stream's unsent bytes from out_pos on */
    size_t out_pos;
    size_t queue_counted; /* in server.queue_bytes */
    int file;             /* ANSWER_FILE: open until MHD takes it; else -1 */
    uint64_t file_bytes;
    int64_t last_write_ns;
    int64_t stalled_since_ns; /* unsent bytes wait since; 0: none */
    bool is_sse;
    void (*on_close)(void *ctx);
    void *on_close_ctx;
    bool close_told;

    void *user;
    void (*user_destroy)(void *user);
    void *context;
    void (*context_destroy)(void *context);
};

/* exchange.c */
http_exchange *exchange_create(http_server *s, struct MHD_Connection *conn, bool uri_too_long,
                               const char *method, const char *path);
/* Its body is gone: takes it out of the server's sum. */
void exchange_uncount(http_exchange *x);
/* MHD is done with the request: the answer went out whole, or the client is gone. */
void exchange_closed(http_exchange *x, bool whole);
/* The client is gone: tells the owner once, wakes the connection so that MHD ends it. */
void exchange_abandon(http_exchange *x);
/* Called by the access handler once the handler ran, and again while there is no answer: queues the
 * answer, or after a while suspends. */
enum MHD_Result exchange_proceed(http_exchange *x);
/* Watcher: writes a ping when the stream was silent; true when its client is stuck. */
bool exchange_tick(http_exchange *x, int64_t now_ns);

/* listener.c */
SL_NODISCARD sl_status listener_open(http_listener *l, const char *address,
                                     const http_server_options *o, sl_err *err);
SL_NODISCARD sl_status listener_start(http_listener *l, http_server *s, sl_err *err);
void listener_quiesce(http_listener *l); /* accepts nobody any more */
void listener_stop(http_listener *l);    /* ends its threads; no connection is suspended */
void listener_close(http_listener *l);   /* one that was never started */

/* acceptor.c */
SL_NODISCARD sl_status acceptor_start(http_listener *l, sl_err *err);
void acceptor_stop(http_listener *l); /* one that runs or not */

/* cors.c */
void cors_add(const http_exchange *x, struct MHD_Response *r);
void cors_preflight(http_exchange *x, const char *allow);

/* head.c */
/* What is wrong with a head that could be read: 414, 431 or 400; 0: nothing. */
int head_check(const http_exchange *x, struct MHD_Connection *conn);
/* The error's code and, into text, what to tell about it. */
const char *head_reason(int status, char *text, size_t bytes);
/* The client's address: the socket's other end, or behind trusted proxies. */
const char *head_remote(http_exchange *x);

/* server.c */
void server_ref(http_server *s);
void server_unref(http_server *s);
void server_wake(http_server *s);
void server_dispatch(http_exchange *x);
/* Callbacks of libmicrohttpd; cls is the server. */
void *server_on_uri(void *cls, const char *uri, struct MHD_Connection *conn);
enum MHD_Result server_on_request(void *cls, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_len, void **con_cls);
void server_on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                         enum MHD_RequestTerminationCode code);
/* Watcher: reads the certificate again when its files changed. */
void server_watch_tls(http_server *s, int64_t now_ns);

/* watcher.c */
void *watcher_main(void *server);
void watcher_conn_event(void *cls, struct MHD_Connection *c, void **socket_ctx,
                        enum MHD_ConnectionNotificationCode code);
/* Marks the connection of x as reading a body, busy with x, or idle again. */
void watcher_mark(http_exchange *x, int state);

/* route.c */
/* The route of method and path with its parameters set in x; NULL: none, and *ret_allow (in x's
 * arena) lists the methods the path has, or is NULL. */
const http_route_entry *route_match(http_exchange *x, const char **ret_allow);
bool route_pattern_ok(const char *pattern);

#endif
