/* http.h - an HTTP/1.1 server over libmicrohttpd and a client over libcurl.
 *
 * Server: a handler gets an exchange: one request, read whole, and the answer to it. It may answer
 * at once, or keep the exchange (http_ref) and answer later from any thread, either with one body
 * or as a stream; no thread waits meanwhile. A client that goes away is noticed within
 * milliseconds, also while nothing flows, and reported through http_on_close. */
#ifndef SL_HTTP_HTTP_H
#define SL_HTTP_HTTP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* ---- server -------------------------------------------------------------------------------- */

typedef struct http_server http_server;
typedef struct http_exchange http_exchange;

#define HTTP_ADDRESS_BYTES    128
#define HTTP_LISTENERS_MAX    16
#define HTTP_REQUEST_ID_BYTES 48

/* Runs on an io thread and must not block. */
typedef void (*http_handler_fn)(void *ctx, http_exchange *x);

/* An address to listen on: "127.0.0.1:8080", "[::]:80", ":8080" (all), "localhost:0";
 * "https://ADDRESS" with TLS; "unix:/PATH" a Unix socket, removed at the end. */
typedef struct http_server_options {
    const char *address; /* one, or several: */
    const char *const *addresses;
    size_t address_count;
    int unix_mode;               /* 0: 0660; of Unix sockets */
    const char *tls_certificate; /* PEM files, for https:// addresses; looked at again when they */
    const char *tls_key;         /* change and by http_server_reload_tls */
    /* Networks ("10.0.0.0/8", "::1", "unix") whose word counts for the client's address. */
    const char *const *trusted_proxies;
    size_t trusted_proxy_count;
    const char *forwarded_header; /* the one they write: NULL or "x-forwarded-for"; "forwarded" */
    int io_threads;               /* 0: 2; of each address */
    int connections_max;          /* 0: 10,000; of each address; less where open files are scarce */
    int request_timeout_s;        /* 0: 30; to read a request head, and idle keep-alive */
    int body_timeout_s;           /* 0: 300; to read a body */
    int write_timeout_s;          /* 0: 60; a client that reads nothing for so long is dropped */
    int ping_s;            /* 0: 15; silence after which a stream gets a `: ping` line; -1: never */
    size_t head_bytes_max; /* 0: SL_HTTP_HEAD_BYTES_MAX; also what an idle connection costs */
    size_t body_bytes_max; /* 0: SL_HTTP_BODY_BYTES_MAX; more is answered with 413 */
    size_t body_bytes_total_max; /* 0: SL_HTTP_BODY_BYTES_TOTAL_MAX; of all bodies; 503 */
    size_t queue_bytes_max; /* 0: 8 MiB; unsent bytes of one stream before its client is dropped */
    size_t queue_bytes_total_max; /* 0: SL_HTTP_QUEUE_BYTES_TOTAL_MAX; of all streams */
    const char *cors_origin;      /* NULL: no CORS headers; "*", or origins with commas between */
    /* Called once per exchange when nobody holds it any more, on the thread that let go last. */
    void (*on_done)(void *ctx, http_exchange *x);
    void *on_done_ctx;
} http_server_options;

/* Binds and listens, so that the port is known, but answers nobody before http_server_start. Raises
 * the process's soft limit of open files to the hard one. */
SL_NODISCARD sl_status http_server_create(const http_server_options *options,
                                          http_server **ret_server, sl_err *err);
/* Adds a route before the start. pattern: "/v1/models/{model}"; `{name}` is one segment,
 * `{name...}` the rest of the path. A GET route answers HEAD too. */
SL_NODISCARD sl_status http_server_route(http_server *s, const char *method, const char *pattern,
                                         http_handler_fn fn, void *ctx, sl_err *err);
/* Requests of the route added last have bodies of any length, which are not kept. begin runs once
 * the head was read and may answer: then it returns false and the body is not read. write gets the
 * body piece by piece; the route's handler runs at its end, and not for a client that left. Both
 * run on an io thread; ctx is the route's. */
void http_server_upload(http_server *s, bool (*begin)(void *ctx, http_exchange *x),
                        void (*write)(void *ctx, http_exchange *x, const void *bytes, size_t len));
/* As the options of that name, for owners made after the server. Before the start. */
void http_server_on_done(http_server *s, void (*fn)(void *ctx, http_exchange *x), void *ctx);
/* Why a request gets no handler; texts are valid during the call. */
typedef struct http_refusal {
    int status;
    const char *type, *code, *message; /* OpenAI's terms */
} http_refusal;
/* fn may answer such a request in its own shape and return true; on false the server answers.
 * Before the start. */
void http_server_on_refusal(http_server *s,
                            bool (*fn)(void *ctx, http_exchange *x, const http_refusal *why),
                            void *ctx);
SL_NODISCARD sl_status http_server_start(http_server *s, sl_err *err);
/* The first bound TCP address with its real port, "127.0.0.1:40123"; a Unix socket's
 * ("unix:/run/x.sock") when there is no other. */
const char *http_server_address(const http_server *s);
int http_server_port(const http_server *s); /* 0: only Unix sockets */
/* Appends all of them, as "http://127.0.0.1:40123 https://[::]:443 unix:/run/x.sock". */
void http_server_addresses(const http_server *s, sl_buf *out);
/* Reads certificate and key again; connections that exist keep theirs, and on failure so does
 * everybody. Logs the outcome. SL_OK without TLS. Any thread. */
sl_status http_server_reload_tls(http_server *s, sl_err *err);
/* Stops accepting, lets running answers finish for up to deadline_ms, then drops the rest (their
 * on_close is called). Returns how many were dropped. */
int http_server_drain(http_server *s, int64_t deadline_ms);
/* Drains with deadline 0 when still running, then frees. Accepts NULL. Exchanges that others still
 * hold stay valid until they are released. */
void http_server_destroy(http_server *s);

/* The request. Strings live as long as the exchange; NULL when absent. Header names in any case. */
const char *http_method(const http_exchange *x);
const char *http_path(const http_exchange *x);
const char *http_param(const http_exchange *x, const char *name); /* of the route's pattern */
const char *http_query(const http_exchange *x, const char *name);
/* All values of a query parameter, also written name[]=, in order; how many there are, also past
 * max. */
size_t http_query_all(const http_exchange *x, const char *name, const char **ret, size_t max);
const char *http_header(const http_exchange *x, const char *name);
sl_span http_body(const http_exchange *x);
/* The client, "10.0.0.7" or "2001:db8::1", behind trusted proxies; "127.0.0.1" by a Unix socket. */
const char *http_remote(const http_exchange *x);
const char *http_request_id(const http_exchange *x); /* the caller's if sane, else generated */
const char *http_route(const http_exchange *x);      /* pattern matched, or "" */
int http_status(const http_exchange *x);             /* of the answer; 0 before */
int64_t http_started_ns(const http_exchange *x);     /* monotonic */
/* True when the client went away before its answer was complete. */
bool http_gone(const http_exchange *x);

/* Keeps the exchange beyond the handler's return; each http_ref needs one http_unref. */
void http_ref(http_exchange *x);
void http_unref(http_exchange *x);

/* Hangs the owner's data on the exchange; destroy (may be NULL) runs when the exchange ends, after
 * on_done. */
void http_set_user(http_exchange *x, void *user, void (*destroy)(void *user));
void *http_user(const http_exchange *x);
/* The same for who dispatches to handlers; destroyed after the handler's data. */
void http_set_context(http_exchange *x, void *context, void (*destroy)(void *context));
void *http_context(const http_exchange *x);

/* fn is called at most once, on an io or watcher thread or from within this call, if the client
 * goes away before http_respond or http_stream_end. It must not block. */
void http_on_close(http_exchange *x, void (*fn)(void *ctx), void *ctx);

/* Answer header; before http_respond or http_stream_begin. */
void http_set_header(http_exchange *x, const char *name, const char *value);

/* One body; copied. Once per exchange, from any thread. */
void http_respond(http_exchange *x, int status, const char *content_type, const void *body,
                  size_t len);
/* The same with the buffer's own bytes, which are taken: the buffer is empty afterwards. */
void http_respond_buf(http_exchange *x, int status, const char *content_type, sl_buf *body);
/* The bytes of an open file, which is taken and closed; not read into memory. */
void http_respond_file(http_exchange *x, int status, const char *content_type, int fd,
                       uint64_t bytes);
/* The error object that all routes share (OpenAI's). param and code may be NULL. */
void http_respond_error(http_exchange *x, int status, const char *type, const char *param,
                        const char *code, const char *message);

/* A stream. http_stream_write never blocks: false when the client is gone (or was dropped because
 * it reads too slowly), and then nothing more needs to be written. */
void http_stream_begin(http_exchange *x, int status, const char *content_type);
bool http_stream_write(http_exchange *x, const void *bytes, size_t len);
void http_stream_end(http_exchange *x);

/* ---- multipart/form-data ------------------------------------------------------------------- */

typedef struct http_part {
    const char *name, *filename, *content_type; /* "" when absent */
    sl_span body;
} http_part;

/* Calls fn for each part of a body. SL_EFORMAT when it is no well-formed multipart body; parts seen
 * before stay delivered. A status from fn ends the walk and is returned. */
SL_NODISCARD sl_status http_multipart(const char *content_type, sl_span body,
                                      sl_status (*fn)(void *ctx, const http_part *part,
                                                      sl_err *err),
                                      void *ctx, sl_err *err);

/* The same of an upload (http_server_upload), piece by piece. */
typedef struct http_form http_form;

typedef struct http_form_piece {
    const char *name, *filename, *content_type; /* "" when absent */
    uint64_t at; /* where in the part the bytes belong; 0: it begins */
    sl_span bytes;
} http_form_piece;

/* False ends the reading: http_form_write is false from then on. */
typedef bool (*http_form_fn)(void *ctx, const http_form_piece *piece);

/* For the request's head in hand, on its io thread. NULL: no multipart/form-data with a boundary,
 * or out of memory. */
http_form *http_form_create(http_exchange *x, http_form_fn fn, void *ctx);
/* False: malformed, or fn said so. */
bool http_form_write(http_form *f, const void *bytes, size_t len);
/* Frees; true when the form was whole. f may be NULL: false. */
bool http_form_end(http_form *f);

/* ---- client -------------------------------------------------------------------------------- */

typedef struct http_client_options {
    const char *url;            /* http or https */
    const char *const *headers; /* [header_count] "Name: value"; Authorization is not sent on to
                                   another host after a redirect */
    size_t header_count;
    const void *post; /* POST body, or NULL for GET */
    size_t post_len;
    uint64_t resume_from; /* bytes already here: sent as Range */
    /* Body bytes of a 2xx answer as they come; false stops with SL_ECANCELLED. */
    bool (*on_bytes)(void *ctx, const void *bytes, size_t len);
    /* Several times a second; total 0 when unknown; both count from resume_from. May be NULL. */
    void (*on_progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
    void *ctx;
    int connect_timeout_s;        /* 0: 20 */
    int stall_timeout_s;          /* 0: 60; fewer than 1 byte a second for so long is SL_ETIMEOUT */
    uint64_t max_bytes;           /* of the body; 0: no bound; past it SL_ELIMIT */
    bool no_redirects;            /* a redirect is SL_EUPSTREAM */
    bool public_only;             /* connect to no loopback, link-local, private or multicast
                                     address, whatever name or redirect leads there: SL_EFORBIDDEN;
                                     without proxy */
    const atomic_bool *cancelled; /* or NULL; polled: SL_ECANCELLED */
} http_client_options;

/* Blocks until the answer was read. SL_OK for any 2xx. For others a status that fits (404
 * SL_ENOTFOUND, 401/403 SL_EAUTH, 429 SL_ERATE, 416 SL_ECONFLICT, else SL_EUPSTREAM) and the
 * beginning of the body in err. *ret_status, when given, gets the HTTP status even on failure, 0
 * without one. A resumed download whose server answers 200 fails with SL_ECONFLICT before any
 * byte: start again from 0. TLS is always verified; the proxy variables, SSL_CERT_FILE and
 * CURL_CA_BUNDLE are honoured. */
SL_NODISCARD sl_status http_download(const http_client_options *options, int *ret_status,
                                     sl_err *err);
/* GET, or POST with options->post, into out, up to out->max. on_bytes is not used. */
SL_NODISCARD sl_status http_fetch(const http_client_options *options, sl_buf *out, int *ret_status,
                                  sl_err *err);

#endif
