/* tls.h - the server's certificate and key, replaced while connections live.
 *
 * Each handshake gets a copy of what is installed at that moment, so that a replacement touches no
 * connection that exists. There is one installed identity per process, to its end: libmicrohttpd's
 * callback carries no context by which a second server could have its own. */
#ifndef SL_HTTP_TLS_H
#define SL_HTTP_TLS_H

#include <gnutls/abstract.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* TLS 1.2 and 1.3, forward secrecy always, the server's order of ciphers. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA:%SERVER_PRECEDENCE"

/* Which bytes two files hold, as far as the file system tells: to see that they changed. */
typedef struct tls_stamp {
    int64_t mtime_ns[2], bytes[2];
    uint64_t inode[2];
} tls_stamp;

typedef struct tls_info {
    int chain_count;   /* certificates in the file */
    int64_t expires_s; /* of the first, since 1970 */
    char serial[48];   /* hex */
} tls_info;

/* Reads the PEM files, checks that key and certificate belong together, and installs them for
 * handshakes from now on. On failure what was installed stays. must_last: an expired certificate
 * is refused too. ret_info may be NULL. Any thread. */
SL_NODISCARD sl_status tls_load(const char *certificate, const char *key, bool must_last,
                                tls_info *ret_info, sl_err *err);

tls_stamp tls_stamp_of(const char *certificate, const char *key);
bool tls_stamp_eq(const tls_stamp *a, const tls_stamp *b);

/* A gnutls_certificate_retrieve_function3. */
int tls_retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                 gnutls_pcert_st **ret_certs, unsigned int *ret_count,
                 gnutls_ocsp_data_st **ret_ocsp, unsigned int *ret_ocsp_count,
                 gnutls_privkey_t *ret_key, unsigned int *ret_flags);

#endif
