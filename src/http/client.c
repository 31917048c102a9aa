/* client.c - a blocking HTTP client over libcurl, for downloads and small requests. One handle per
 * call: the callers fetch files of gigabytes or ask once in a while. */
#include "http/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"

#define REDIRECTS_MAX  10
#define ERROR_TEXT_MAX 300 /* of an error body shown to the user */

typedef struct transfer {
    const http_client_options *o;
    sl_buf *out; /* http_fetch */
    CURL *curl;
    uint64_t done;
    sl_status status; /* why a callback stopped the transfer */
    bool is_private;  /* an address was refused */
    char error_body[ERROR_TEXT_MAX + 1];
    size_t error_len;
} transfer;

static long response_code(const transfer *t)
{
    long code = 0;

    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &code);
    return code;
}

static bool take(transfer *t, const char *bytes, size_t len)
{
    const http_client_options *o = t->o;

    if (o->resume_from && t->done == 0 && response_code(t) != 206) {
        t->status = SL_ECONFLICT;
        return false;
    }
    t->done += len;
    if (o->max_bytes && t->done > o->max_bytes) {
        t->status = SL_ELIMIT;
        return false;
    }
    if (t->out) {
        sl_buf_put(t->out, bytes, len);
        if (t->out->failed)
            t->status = SL_ELIMIT;
    } else if (o->on_bytes && !o->on_bytes(o->ctx, bytes, len)) {
        t->status = SL_ECANCELLED;
    }
    return t->status == SL_OK;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *ctx)
{
    transfer *t = ctx;
    size_t len = size * count;
    long code = response_code(t);

    if (code >= 200 && code < 300)
        return take(t, bytes, len) ? len : 0;
    len = SL_MIN(len, ERROR_TEXT_MAX - t->error_len);
    memcpy(t->error_body + t->error_len, bytes, len);
    t->error_len += len;
    return size * count;
}

static int on_tick(void *ctx, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up)
{
    transfer *t = ctx;

    if (t->o->cancelled && atomic_load(t->o->cancelled)) {
        t->status = SL_ECANCELLED;
        return 1;
    }
    if (t->o->on_progress && response_code(t) / 100 == 2)
        t->o->on_progress(t->o->ctx, (uint64_t)now, (uint64_t)total);
    return 0;
}

static void global_init(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* libcurl's OpenSSL backend does not read these by itself. */
static void set_ca(CURL *c)
{
    const char *file = getenv("CURL_CA_BUNDLE");

    if (!file || !*file)
        file = getenv("SSL_CERT_FILE");
    if (file && *file)
        curl_easy_setopt(c, CURLOPT_CAINFO, file);
}

static struct curl_slist *header_list(const http_client_options *o)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");

    for (size_t i = 0; list && i < o->header_count; i++) {
        struct curl_slist *longer = curl_slist_append(list, o->headers[i]);

        if (!longer) {
            curl_slist_free_all(list);
            return NULL;
        }
        list = longer;
    }
    return list;
}

/* ---- addresses ------------------------------------------------------------------------------ */

static bool is_public4(uint32_t a)
{
    static const struct {
        uint32_t net;
        int bits;
    } closed[] = {
        { 0x00000000, 8 },  { 0x0a000000, 8 },  { 0x64400000, 10 }, { 0x7f000000, 8 },
        { 0xa9fe0000, 16 }, { 0xac100000, 12 }, { 0xc0000000, 24 }, { 0xc0000200, 24 },
        { 0xc0a80000, 16 }, { 0xc6120000, 15 }, { 0xc6336400, 24 }, { 0xcb007100, 24 },
        { 0xe0000000, 3 }, /* multicast, reserved, broadcast */
    };

    for (size_t i = 0; i < SL_COUNT_OF(closed); i++)
        if ((a ^ closed[i].net) >> (32 - closed[i].bits) == 0)
            return false;
    return true;
}

static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Global unicast (2000::/3) alone, less the ranges in it that stand for IPv4 or for examples. */
static bool is_public6(const uint8_t *a)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };

    if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0)
        return is_public4(word_at(a + 12));
    if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
        return is_public4(word_at(a + 2));
    if (word_at(a) == 0x20010000 || word_at(a) == 0x20010db8) /* Teredo, documentation */
        return false;
    return (a[0] & 0xe0) == 0x20;
}

static bool is_public(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return is_public4(ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr));
    if (a->sa_family == AF_INET6)
        return is_public6(((const struct sockaddr_in6 *)(const void *)a)->sin6_addr.s6_addr);
    return false;
}

/* Sees every address that is really connected to, after names were resolved. */
static curl_socket_t on_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
    transfer *t = ctx;

    if (!is_public(&a->addr)) {
        t->is_private = true;
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static void set_options(transfer *t, struct curl_slist *headers, char *error_text)
{
    const http_client_options *o = t->o;
    CURL *c = t->curl;

    curl_easy_setopt(c, CURLOPT_URL, o->url);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error_text);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, o->no_redirects ? 0L : 1L);
    curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "sluice/" SLUICE_VERSION);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT,
                     (long)(o->connect_timeout_s > 0 ? o->connect_timeout_s : 20));
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME,
                     (long)(o->stall_timeout_s > 0 ? o->stall_timeout_s : 60));
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_tick);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
    if (o->resume_from)
        curl_easy_setopt(c, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)o->resume_from);
    if (o->post) {
        curl_easy_setopt(c, CURLOPT_POST, 1L);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)o->post_len);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, o->post);
    }
    if (o->public_only) {
        curl_easy_setopt(c, CURLOPT_PROXY, "");
        curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_socket);
        curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, t);
    }
    set_ca(c);
}

static sl_status status_of_code(long code)
{
    switch (code) {
    case 401:
    case 403:
        return SL_EAUTH;
    case 404:
        return SL_ENOTFOUND;
    case 416:
        return SL_ECONFLICT;
    case 429:
        return SL_ERATE;
    default:
        return SL_EUPSTREAM;
    }
}

/* Turns what libcurl and the callbacks said into one status. */
static sl_status outcome(transfer *t, CURLcode rc, const char *error_text, long code, sl_err *err)
{
    const char *url = t->o->url;

    if (t->status == SL_ECONFLICT || (rc == CURLE_RANGE_ERROR && t->status == SL_OK))
        return sl_fail(err, SL_ECONFLICT, "%s: the server cannot resume; start again", url);
    if (t->status == SL_ELIMIT)
        return sl_fail(err, SL_ELIMIT, "%s: the answer is larger than allowed", url);
    if (t->status == SL_ECANCELLED)
        return sl_fail(err, SL_ECANCELLED, "%s: cancelled", url);
    if (rc != CURLE_OK && t->is_private)
        return sl_fail(err, SL_EFORBIDDEN, "%s: leads to an address that is not public", url);
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return sl_fail(err, SL_ETIMEOUT, "%s: no data for too long (%s)", url, error_text);
    if (rc != CURLE_OK)
        return sl_fail(err, SL_EUPSTREAM, "%s: %s", url,
                       error_text[0] ? error_text : curl_easy_strerror(rc));
    if (code < 200 || code >= 300)
        return sl_fail(err, status_of_code(code), "%s: HTTP %ld%s%.*s", url, code,
                       t->error_len ? ": " : "", (int)t->error_len, t->error_body);
    return SL_OK;
}

static sl_status perform(const http_client_options *o, sl_buf *out, int *ret_status, sl_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char error_text[CURL_ERROR_SIZE] = "";
    transfer t = { .o = o, .out = out };
    struct curl_slist *headers;
    sl_status status;
    long code = 0;
    CURLcode rc;

    if (ret_status)
        *ret_status = 0;
    pthread_once(&once, global_init);
    t.curl = curl_easy_init();
    headers = header_list(o);
    if (!t.curl || !headers) {
        status = sl_fail(err, SL_ENOMEM, "HTTP client");
        goto out;
    }
    set_options(&t, headers, error_text);
    rc = curl_easy_perform(t.curl);
    code = response_code(&t);
    if (ret_status)
        *ret_status = (int)code;
    status = outcome(&t, rc, error_text, code, err);

out:
    curl_slist_free_all(headers);
    if (t.curl)
        curl_easy_cleanup(t.curl);
    return status;
}

sl_status http_download(const http_client_options *options, int *ret_status, sl_err *err)
{
    return perform(options, NULL, ret_status, err);
}

sl_status http_fetch(const http_client_options *options, sl_buf *out, int *ret_status, sl_err *err)
{
    return perform(options, out, ret_status, err);
}
