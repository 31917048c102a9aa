/* manifest.c - the last member of a backup: what the others are, and their sums. */
#include "backup/backup_int.h"

static const char *const kinds[MEMBER_COUNT] = { "file", "database", "link" };

static json_t *member_json(const member *m)
{
    return m->kind == MEMBER_LINK
               ? json_pack("{s:s, s:s, s:s}", "path", m->path, "kind", kinds[m->kind], "blob",
                           m->blob)
               : json_pack("{s:s, s:s, s:I, s:s}", "path", m->path, "kind", kinds[m->kind], "bytes",
                           (json_int_t)m->bytes, "sha256", m->sha256);
}

sl_status manifest_write(const members *list, const char *created, sl_buf *out, sl_err *err)
{
    json_t *array = json_array();
    json_t *root = json_pack("{s:s, s:i, s:s, s:s, s:o?}", "format", "sluice-backup", "version",
                             SL_BACKUP_VERSION, "program", SLUICE_VERSION, "created", created,
                             "members", array);
    char *text = NULL;
    bool ok = root != NULL;

    for (size_t i = 0; i < list->count && ok; i++)
        ok = json_array_append_new(array, member_json(&list->items[i])) == 0;
    if (ok)
        text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    if (!text)
        return sl_fail(err, SL_ENOMEM, "out of memory for the manifest");
    sl_buf_puts(out, text);
    sl_buf_putc(out, '\n');
    free(text);
    return sl_buf_ok(out, "manifest", err);
}

static bool is_hex(const char *text, size_t len)
{
    return text && strlen(text) == len && strspn(text, "0123456789abcdef") == len;
}

static bool is_blob_name(const char *name)
{
    return name && strncmp(name, "sha256-", 7) == 0 && is_hex(name + 7, 64);
}

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static sl_status parse_member(const json_t *j, size_t number, members *list, sl_err *err)
{
    const char *path = json_string_value(json_object_get(j, "path"));
    const char *kind = json_string_value(json_object_get(j, "kind"));
    const char *sha256 = json_string_value(json_object_get(j, "sha256"));
    const char *blob = json_string_value(json_object_get(j, "blob"));
    json_int_t bytes = json_integer_value(json_object_get(j, "bytes"));
    member *m;
    int k = 0;

    while (k < MEMBER_COUNT && !(kind && strcmp(kind, kinds[k]) == 0))
        k++;
    if (!path || !backup_name_ok(path) || strcmp(path, BACKUP_MANIFEST) == 0 || k == MEMBER_COUNT)
        return sl_fail(err, SL_EFORMAT, "the manifest's member %zu has no allowed name or kind",
                       number);
    if (k == MEMBER_LINK ? !is_blob_name(blob) || !starts(path, BACKUP_DATA "models/trees/")
                         : !is_hex(sha256, 64) || bytes < 0 || blob)
        return sl_fail(err, SL_EFORMAT, "the manifest's member %.200s is malformed", path);
    SL_TRY(members_add(list, path, (member_kind)k, blob, &m, err));
    m->bytes = (uint64_t)bytes;
    if (k != MEMBER_LINK)
        memcpy(m->sha256, sha256, BACKUP_HEX_BYTES);
    return SL_OK;
}

static sl_status parse_root(const json_t *root, members *list, char ret_created[32], sl_err *err)
{
    const char *format = json_string_value(json_object_get(root, "format"));
    const char *created = json_string_value(json_object_get(root, "created"));
    const json_t *version = json_object_get(root, "version"), *m;
    json_t *array = json_object_get(root, "members");
    size_t i;

    if (!format || strcmp(format, "sluice-backup") != 0 || !json_is_integer(version) || !created ||
        strlen(created) > 31 || !json_is_array(array))
        return sl_fail(err, SL_EFORMAT, "%s is not the manifest of a backup", BACKUP_MANIFEST);
    if (json_integer_value(version) != SL_BACKUP_VERSION)
        return sl_fail(err, SL_ENOTSUP,
                       "the backup has version %lld, this program knows %d; use the program that "
                       "made it",
                       (long long)json_integer_value(version), SL_BACKUP_VERSION);
    json_array_foreach(array, i, m) SL_TRY(parse_member(m, i, list, err));
    members_sort(list);
    for (i = 1; i < list->count; i++)
        if (strcmp(list->items[i - 1].path, list->items[i].path) == 0)
            return sl_fail(err, SL_EFORMAT, "the manifest names %.200s twice", list->items[i].path);
    memcpy(ret_created, created, strlen(created) + 1);
    return SL_OK;
}

sl_status manifest_parse(sl_span text, members *ret, char ret_created[32], sl_err *err)
{
    json_error_t error;
    json_t *root = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES, &error);
    members list = { 0 };
    sl_status status;

    if (!root)
        return sl_fail(err, SL_EFORMAT, "%s, line %d: %.200s", BACKUP_MANIFEST, error.line,
                       error.text);
    status = parse_root(root, &list, ret_created, err);
    json_decref(root);
    if (status == SL_OK)
        *ret = list;
    else
        members_free(&list);
    return status;
}
