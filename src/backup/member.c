/* member.c - lists of members, their names, and sums. */
#include <openssl/evp.h>
#include <stdlib.h>

#include "backup/backup_int.h"
#include "base/os.h"

sl_status members_add(members *list, const char *path, member_kind kind, const char *blob,
                      member **ret, sl_err *err)
{
    member m = { .path = sl_strdup(path), .kind = kind, .blob = blob ? sl_strdup(blob) : NULL };

    if (!m.path || (blob && !m.blob) ||
        !sl_grow((void **)&list->items, &list->cap, list->count + 1, sizeof m,
                 SL_BACKUP_MEMBERS_MAX)) {
        sl_free(m.path);
        sl_free(m.blob);
        return list->count >= SL_BACKUP_MEMBERS_MAX
                   ? sl_fail(err, SL_ELIMIT, "more than %d files in a backup",
                             SL_BACKUP_MEMBERS_MAX)
                   : sl_fail(err, SL_ENOMEM, "out of memory for a list of files");
    }
    list->items[list->count] = m;
    if (ret)
        *ret = &list->items[list->count];
    list->count++;
    return SL_OK;
}

void members_free(members *list)
{
    for (size_t i = 0; i < list->count; i++) {
        sl_free(list->items[i].path);
        sl_free(list->items[i].blob);
    }
    sl_free(list->items);
    *list = (members){ 0 };
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const member *)a)->path, ((const member *)b)->path);
}

void members_sort(members *list)
{
    if (list->count > 0)
        qsort(list->items, list->count, sizeof *list->items, by_path);
}

member *members_find(const members *list, const char *path)
{
    member key = { .path = (char *)(uintptr_t)path };

    return list->count == 0 ? NULL
                            : bsearch(&key, list->items, list->count, sizeof *list->items, by_path);
}

static bool part_ok(const char *part, size_t len)
{
    if (len == 0 || len > 255 || (len == 1 && part[0] == '.') ||
        (len == 2 && part[0] == '.' && part[1] == '.'))
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)part[i] < 0x20 || part[i] == 0x7f)
            return false;
    return true;
}

bool backup_name_ok(const char *name)
{
    size_t len = strlen(name);
    int depth = 0;

    if (len > SL_BACKUP_NAME_BYTES_MAX || !sl_utf8_valid(name, len))
        return false;
    for (const char *p = name;; p++) {
        size_t part = strcspn(p, "/");

        if (!part_ok(p, part) || ++depth > SL_BACKUP_DEPTH_MAX)
            return false;
        p += part;
        if (!*p)
            return true;
    }
}

/* ---- sums ---------------------------------------------------------------------------------- */

sl_status sum_begin(sum **ret, sl_err *err)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();

    if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(md);
        return sl_fail(err, SL_ENOMEM, "out of memory for a sum");
    }
    *ret = (sum *)md;
    return SL_OK;
}

void sum_add(sum *s, const void *bytes, size_t len)
{
    int ok = EVP_DigestUpdate((EVP_MD_CTX *)s, bytes, len);

    SL_ASSERT(ok == 1);
}

void sum_end(sum *s, char ret[BACKUP_HEX_BYTES])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (s && ret) {
        int ok = EVP_DigestFinal_ex((EVP_MD_CTX *)s, digest, &len);

        SL_ASSERT(ok == 1);
        SL_ASSERT(2 * len + 1 == BACKUP_HEX_BYTES);
        sl_hex(digest, len, ret);
    }
    EVP_MD_CTX_free((EVP_MD_CTX *)s);
}
