/* secret.c - the server's secret and what is made with it: digests of keys, key texts, ids. */
#include "access/access_int.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET_BYTES_MIN 32
#define SECRET_BYTES_MAX 4096
#define RANDOM_CHARS     40 /* of 62: 238 bits */
#define CHECK_CHARS      6

void secret_hmac(const unsigned char key[ACCESS_DIGEST_BYTES], const void *bytes, size_t len,
                 unsigned char ret[ACCESS_DIGEST_BYTES])
{
    unsigned len_out = 0;

    HMAC(EVP_sha256(), key, ACCESS_DIGEST_BYTES, bytes, len, ret, &len_out);
    SL_ASSERT(len_out == ACCESS_DIGEST_BYTES);
}

/* Fetched once: to look the algorithm up costs more than the digest of a short text. */
static EVP_MD *sha256;
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;

static void fetch_sha256(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    SL_ASSERT(sha256);
}

void secret_sha256(const void *bytes, size_t len, unsigned char ret[ACCESS_DIGEST_BYTES])
{
    pthread_once(&sha256_once, fetch_sha256);
    if (EVP_Digest(bytes, len, ret, NULL, sha256, NULL) != 1)
        memset(ret, 0, ACCESS_DIGEST_BYTES); /* out of memory: fits no key */
}

static void derive(const char *text, size_t len, access_secret *ret)
{
    const struct {
        const char *label;
        unsigned char *to;
    } table[] = { { "sluice keys", ret->keys },
                  { "sluice refresh tokens", ret->refresh },
                  { "sluice access tokens", ret->tokens },
                  { "sluice audit", ret->audit },
                  { "sluice check", ret->check } };
    unsigned char root[ACCESS_DIGEST_BYTES];

    SHA256((const unsigned char *)text, len, root);
    for (size_t i = 0; i < SL_COUNT_OF(table); i++)
        secret_hmac(root, table[i].label, strlen(table[i].label), table[i].to);
    OPENSSL_cleanse(root, sizeof root);
}

/* Makes the file unless another process was faster. */
static sl_status make_file(const char *path, sl_err *err)
{
    unsigned char raw[32];
    char hex[2 * sizeof raw + 2];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok;

    if (fd < 0)
        return errno == EEXIST ? SL_OK
                               : sl_fail(err, SL_EIO, "cannot make %s: %s", path, strerror(errno));
    sl_random_bytes(raw, sizeof raw);
    sl_hex(raw, sizeof raw, hex);
    hex[2 * sizeof raw] = '\n';
    ok = write(fd, hex, 2 * sizeof raw + 1) == (ssize_t)(2 * sizeof raw + 1) && fsync(fd) == 0;
    close(fd);
    OPENSSL_cleanse(raw, sizeof raw);
    OPENSSL_cleanse(hex, sizeof hex);
    if (!ok) {
        unlink(path);
        return sl_fail(err, SL_EIO, "cannot write %s", path);
    }
    return sl_dir_sync(path, err);
}

static sl_status read_file(const char *path, sl_buf *out, sl_err *err)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        SL_TRY(make_file(path, err));
        if (stat(path, &st) != 0)
            return sl_fail(err, SL_EIO, "%s: %s", path, strerror(errno));
    }
    if (st.st_mode & 077)
        return sl_fail(err, SL_EFORBIDDEN, "%s can be read by others; run: chmod 600 %s", path,
                       path);
    return sl_file_read(path, SECRET_BYTES_MAX, out, err);
}

sl_status secret_load(const char *dir, const char *text, access_secret *ret, sl_err *err)
{
    sl_buf file, path;
    sl_status status = SL_OK;
    size_t len;

    sl_buf_init(&file, SECRET_BYTES_MAX + 1);
    sl_buf_init(&path, 8192);
    sl_buf_printf(&path, "%s/access.secret", dir);
    if (!text) {
        status = sl_buf_ok(&path, "path of the secret", err);
        if (status == SL_OK)
            status = read_file(path.ptr, &file, err);
        text = sl_buf_str(&file);
    }
    len = strcspn(text, "\r\n");
    if (status == SL_OK && len < SECRET_BYTES_MIN)
        status = sl_fail(err, SL_EINVAL, "the server's secret has %zu characters, at least %d", len,
                         SECRET_BYTES_MIN);
    if (status == SL_OK)
        derive(text, len, ret);
    if (file.ptr)
        OPENSSL_cleanse(file.ptr, file.len);
    sl_buf_deinit(&file);
    sl_buf_deinit(&path);
    return status;
}

/* ---- texts of keys ------------------------------------------------------------------------- */

static const char digits62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static void put_check(const char *text, size_t len, char ret[CHECK_CHARS])
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    uint32_t v;

    SHA256((const unsigned char *)text, len, digest);
    memcpy(&v, digest, sizeof v);
    for (int i = 0; i < CHECK_CHARS; i++, v /= 62)
        ret[i] = digits62[v % 62];
}

void secret_make_token(const char *prefix, char ret[ACCESS_TOKEN_BYTES])
{
    size_t len = strlen(prefix), end = len + RANDOM_CHARS;

    SL_ASSERT(end + CHECK_CHARS < ACCESS_TOKEN_BYTES);
    memcpy(ret, prefix, len);
    while (len < end) {
        unsigned char byte;

        sl_random_bytes(&byte, 1);
        if (byte < 248) /* 4 * 62: every digit as likely */
            ret[len++] = digits62[byte % 62];
    }
    put_check(ret, end, ret + end);
    ret[end + CHECK_CHARS] = '\0';
}

bool secret_is_token(const char *prefix, const char *text)
{
    size_t len = strlen(prefix), end = len + RANDOM_CHARS;
    char check[CHECK_CHARS];

    if (strncmp(text, prefix, len) != 0 || strlen(text) != end + CHECK_CHARS)
        return false;
    if (strspn(text + len, digits62) != RANDOM_CHARS + CHECK_CHARS)
        return false;
    put_check(text, end, check);
    return memcmp(check, text + end, CHECK_CHARS) == 0;
}

/* ---- base64url ----------------------------------------------------------------------------- */

static const char digits64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int value64(char c)
{
    const char *at = c ? strchr(digits64, c) : NULL;

    return at ? (int)(at - digits64) : -1;
}

bool base64url_decode(const char *text, size_t len, unsigned char *ret, size_t *ret_len)
{
    uint32_t bits = 0;
    int held = 0;
    size_t n = 0;

    if (len % 4 == 1)
        return false;
    for (size_t i = 0; i < len; i++) {
        int v = value64(text[i]);

        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
        held += 6;
        if (held >= 8) {
            held -= 8;
            ret[n++] = (unsigned char)(bits >> held);
            bits &= (1u << held) - 1;
        }
    }
    *ret_len = n;
    return bits == 0; /* what is left over must be zero: one spelling per value */
}

void base64url_put(sl_buf *out, const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    uint32_t bits = 0;
    int held = 0;

    for (size_t i = 0; i < len; i++) {
        bits = (bits << 8 | p[i]) & 0xffffff;
        for (held += 8; held >= 6; held -= 6)
            sl_buf_putc(out, digits64[bits >> (held - 6) & 63]);
    }
    if (held > 0)
        sl_buf_putc(out, digits64[bits << (6 - held) & 63]);
}
