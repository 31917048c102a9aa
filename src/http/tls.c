/* tls.c - see the header. An identity is immutable and reference counted: the slot that names the
 * installed one holds a reference, and so does a handshake while it copies. */
#include "http/tls.h"

#include <gnutls/x509.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/os.h"

#define CHAIN_MAX     16
#define PEM_BYTES_MAX (256 * SL_KIB)
#define SERIAL_BYTES  20

typedef struct tls_identity {
    atomic_int refs;
    gnutls_datum_t chain[CHAIN_MAX]; /* DER, the server's own first */
    unsigned chain_count;
    gnutls_x509_privkey_t key;
    tls_info info;
} tls_identity;

static struct {
    pthread_mutex_t mutex; /* the field below */
    tls_identity *now;
} installed = { PTHREAD_MUTEX_INITIALIZER, NULL };

/* ---- life ---------------------------------------------------------------------------------- */

static void identity_unref(tls_identity *id)
{
    if (!id || atomic_fetch_sub(&id->refs, 1) != 1)
        return;
    for (unsigned i = 0; i < id->chain_count; i++)
        gnutls_free(id->chain[i].data);
    gnutls_x509_privkey_deinit(id->key);
    sl_free(id);
}

static tls_identity *identity_take(void)
{
    tls_identity *id;

    pthread_mutex_lock(&installed.mutex);
    id = installed.now;
    if (id)
        atomic_fetch_add(&id->refs, 1);
    pthread_mutex_unlock(&installed.mutex);
    return id;
}

/* Takes the reference. */
static void identity_install(tls_identity *id)
{
    tls_identity *old;

    pthread_mutex_lock(&installed.mutex);
    old = installed.now;
    installed.now = id;
    pthread_mutex_unlock(&installed.mutex);
    identity_unref(old);
}

/* ---- files --------------------------------------------------------------------------------- */

static void note_certificate(tls_identity *id, gnutls_x509_crt_t crt)
{
    unsigned char serial[SERIAL_BYTES];
    size_t len = sizeof serial;

    id->info.expires_s = (int64_t)gnutls_x509_crt_get_expiration_time(crt);
    if (gnutls_x509_crt_get_serial(crt, serial, &len) == 0)
        sl_hex(serial, len, id->info.serial);
}

static sl_status read_chain(tls_identity *id, const gnutls_datum_t *pem, const char *path,
                            sl_err *err)
{
    gnutls_x509_crt_t list[CHAIN_MAX];
    unsigned count = CHAIN_MAX;
    int rc = gnutls_x509_crt_list_import(list, &count, pem, GNUTLS_X509_FMT_PEM,
                                         GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);

    if (rc < 0)
        return sl_fail(err, SL_EFORMAT, "certificate %s: %s", path, gnutls_strerror(rc));
    note_certificate(id, list[0]);
    for (unsigned i = 0; i < (unsigned)rc; i++) {
        if (id->chain_count == i &&
            gnutls_x509_crt_export2(list[i], GNUTLS_X509_FMT_DER, &id->chain[i]) == 0)
            id->chain_count++;
        gnutls_x509_crt_deinit(list[i]);
    }
    id->info.chain_count = (int)id->chain_count;
    if (id->chain_count != (unsigned)rc)
        return sl_fail(err, SL_ENOMEM, "certificate %s: out of memory", path);
    return SL_OK;
}

/* The key must be the certificate's: the library says so when it is asked to use the pair. */
static sl_status check_pair(const gnutls_datum_t *certificate, const gnutls_datum_t *key,
                            const char *path, sl_err *err)
{
    gnutls_certificate_credentials_t c;
    int rc = gnutls_certificate_allocate_credentials(&c);

    if (rc == 0) {
        rc = gnutls_certificate_set_x509_key_mem(c, certificate, key, GNUTLS_X509_FMT_PEM);
        gnutls_certificate_free_credentials(c);
    }
    if (rc < 0)
        return sl_fail(err, SL_EFORMAT, "certificate %s: %s", path, gnutls_strerror(rc));
    return SL_OK;
}

static sl_status identity_read(tls_identity *id, const sl_buf *certificate, const sl_buf *key,
                               const char *certificate_path, const char *key_path, sl_err *err)
{
    gnutls_datum_t chain = { (unsigned char *)certificate->ptr, (unsigned)certificate->len };
    gnutls_datum_t secret = { (unsigned char *)key->ptr, (unsigned)key->len };
    int rc;

    SL_TRY(read_chain(id, &chain, certificate_path, err));
    rc = gnutls_x509_privkey_init(&id->key);
    if (rc == 0)
        rc = gnutls_x509_privkey_import2(id->key, &secret, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (rc < 0)
        return sl_fail(err, SL_EFORMAT, "key %s: %s", key_path, gnutls_strerror(rc));
    return check_pair(&chain, &secret, certificate_path, err);
}

sl_status tls_load(const char *certificate, const char *key, bool must_last, tls_info *ret_info,
                   sl_err *err)
{
    tls_identity *id = sl_calloc(1, sizeof *id);
    sl_buf pem, secret;
    sl_status status;

    if (!id)
        return sl_fail(err, SL_ENOMEM, "certificate %s: out of memory", certificate);
    atomic_init(&id->refs, 1);
    sl_buf_init(&pem, PEM_BYTES_MAX);
    sl_buf_init(&secret, PEM_BYTES_MAX);
    status = sl_file_read(certificate, PEM_BYTES_MAX, &pem, err);
    if (status == SL_OK)
        status = sl_file_read(key, PEM_BYTES_MAX, &secret, err);
    if (status == SL_OK)
        status = identity_read(id, &pem, &secret, certificate, key, err);
    if (status == SL_OK && must_last && id->info.expires_s * 1000 <= sl_clock_wall_ms())
        status = sl_fail(err, SL_EFORMAT, "certificate %s: it has expired", certificate);
    if (secret.ptr)
        gnutls_memset(secret.ptr, 0, secret.len);
    sl_buf_deinit(&secret);
    sl_buf_deinit(&pem);
    if (status != SL_OK) {
        identity_unref(id);
        return status;
    }
    if (ret_info)
        *ret_info = id->info;
    identity_install(id);
    return SL_OK;
}

tls_stamp tls_stamp_of(const char *certificate, const char *key)
{
    const char *paths[2] = { certificate, key };
    tls_stamp s = { 0 };

    for (int i = 0; i < 2; i++) {
        struct stat st;

        if (stat(paths[i], &st) != 0)
            continue;
        s.mtime_ns[i] = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
        s.bytes[i] = (int64_t)st.st_size;
        s.inode[i] = st.st_ino;
    }
    return s;
}

bool tls_stamp_eq(const tls_stamp *a, const tls_stamp *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* ---- handshakes ---------------------------------------------------------------------------- */

/* Copies of the chain; NULL when out of memory. The library frees them. */
static gnutls_pcert_st *copy_chain(const tls_identity *id)
{
    gnutls_pcert_st *list = gnutls_malloc(id->chain_count * sizeof *list);

    for (unsigned i = 0; list && i < id->chain_count; i++) {
        if (gnutls_pcert_import_x509_raw(&list[i], &id->chain[i], GNUTLS_X509_FMT_DER, 0) == 0)
            continue;
        while (i-- > 0)
            gnutls_pcert_deinit(&list[i]);
        gnutls_free(list);
        return NULL;
    }
    return list;
}

static gnutls_privkey_t copy_key(const tls_identity *id)
{
    gnutls_privkey_t key;

    if (gnutls_privkey_init(&key) != 0)
        return NULL;
    if (gnutls_privkey_import_x509(key, id->key, GNUTLS_PRIVKEY_IMPORT_COPY) == 0)
        return key;
    gnutls_privkey_deinit(key);
    return NULL;
}

int tls_retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                 gnutls_pcert_st **ret_certs, unsigned int *ret_count,
                 gnutls_ocsp_data_st **ret_ocsp, unsigned int *ret_ocsp_count,
                 gnutls_privkey_t *ret_key, unsigned int *ret_flags)
{
    tls_identity *id = identity_take();
    gnutls_pcert_st *chain = id ? copy_chain(id) : NULL;
    gnutls_privkey_t key = chain ? copy_key(id) : NULL;

    (void)session;
    (void)info;
    *ret_count = id ? id->chain_count : 0;
    *ret_ocsp = NULL;
    *ret_ocsp_count = 0;
    *ret_flags = GNUTLS_CERT_RETR_DEINIT_ALL;
    if (chain && !key) {
        for (unsigned i = 0; i < *ret_count; i++)
            gnutls_pcert_deinit(&chain[i]);
        gnutls_free(chain);
    }
    *ret_certs = key ? chain : NULL;
    *ret_key = key;
    identity_unref(id);
    return key ? 0 : -1;
}
