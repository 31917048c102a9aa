/* package.c - opens archives, expands parts under bounds, and says which format an archive is. */
#include <stdio.h>

#include "reader/package.h"

sl_status package_open(sl_span bytes, package *ret, sl_err *err)
{
    zip_error_t why;
    zip_source_t *source;
    zip_int64_t entries;

    *ret = (package){ .packed = bytes.len };
    zip_error_init(&why);
    source = zip_source_buffer_create(bytes.ptr, bytes.len, 0, &why);
    ret->zip = source ? zip_open_from_source(source, ZIP_RDONLY, &why) : NULL;
    if (!ret->zip) {
        if (source)
            zip_source_free(source);
        sl_status status = sl_fail(err, SL_EFORMAT, "its archive is damaged: %s; make it anew",
                                   zip_error_strerror(&why));
        zip_error_fini(&why);
        return status;
    }
    zip_error_fini(&why);
    entries = zip_get_num_entries(ret->zip, 0);
    if (entries > READER_ENTRIES_MAX) {
        package_close(ret);
        return sl_fail(err, SL_ELIMIT, "its archive has %lld files; %d are allowed",
                       (long long)entries, READER_ENTRIES_MAX);
    }
    return SL_OK;
}

void package_close(package *p)
{
    if (p->zip)
        zip_discard(p->zip);
    *p = (package){ 0 };
}

bool package_has(const package *p, const char *name)
{
    return zip_name_locate(p->zip, name, ZIP_FL_NOCASE) >= 0;
}

/* The bounds, asked as bytes come out, since what a directory says about sizes may be a lie. */
static sl_status check_bounds(const package *p, size_t part, size_t packed, const char *name,
                              sl_err *err)
{
    if (part > READER_RATIO_FREE && part / READER_RATIO_MAX > packed)
        return sl_fail(err, SL_ELIMIT,
                       "%s in it is more than %d times larger than its packed form: a bomb", name,
                       READER_RATIO_MAX);
    if (part > READER_PART_BYTES || p->expanded > READER_EXPANDED_MAX)
        return sl_fail(err, SL_ELIMIT,
                       "%s in it is too large unpacked: %zu MiB a part and %zu MiB in all are "
                       "allowed",
                       name, READER_PART_BYTES / SL_MIB, READER_EXPANDED_MAX / SL_MIB);
    return SL_OK;
}

sl_status package_read(package *p, const char *name, sl_buf *ret, sl_err *err)
{
    zip_int64_t index = zip_name_locate(p->zip, name, ZIP_FL_NOCASE), n;
    zip_stat_t st;
    zip_file_t *f;
    sl_status status = SL_OK;
    char chunk[32768];

    sl_buf_clear(ret);
    if (index < 0)
        return sl_fail(err, SL_ENOTFOUND, "its archive has no %s", name);
    if (zip_stat_index(p->zip, (zip_uint64_t)index, 0, &st) != 0)
        st.valid = 0;
    if ((st.valid & ZIP_STAT_ENCRYPTION_METHOD) && st.encryption_method != ZIP_EM_NONE)
        return sl_fail(err, SL_EFORMAT, "it is encrypted; save it without a password");
    f = zip_fopen_index(p->zip, (zip_uint64_t)index, 0);
    if (!f)
        return sl_fail(err, SL_EFORMAT, "%s in its archive cannot be unpacked: %s", name,
                       zip_strerror(p->zip));
    while (status == SL_OK && (n = zip_fread(f, chunk, sizeof chunk)) > 0) {
        sl_buf_put(ret, chunk, (size_t)n);
        p->expanded += (size_t)n;
        status = check_bounds(p, ret->len,
                              (st.valid & ZIP_STAT_COMP_SIZE) ? SL_MIN(st.comp_size, p->packed)
                                                              : p->packed,
                              name, err);
    }
    if (status == SL_OK && n < 0)
        status = sl_fail(err, SL_EFORMAT, "%s in its archive is damaged: %s", name,
                         zip_file_strerror(f));
    zip_fclose(f);
    return status == SL_OK ? sl_buf_ok(ret, name, err) : status;
}

bool package_resolve(const char *base, const char *target, char *ret, size_t ret_bytes)
{
    const char *slash = strrchr(base, '/');
    size_t len = target[0] == '/' || !slash ? 0 : (size_t)(slash - base);

    if (len >= ret_bytes)
        return false;
    memcpy(ret, base, len);
    while (*target) {
        size_t n;

        target += strspn(target, "/");
        n = strcspn(target, "/");
        if (n == 2 && memcmp(target, "..", 2) == 0) {
            if (len == 0)
                return false;
            while (len > 0 && ret[len - 1] != '/')
                len--;
            len -= len > 0;
        } else if (n > 0 && !(n == 1 && target[0] == '.')) {
            if (len + n + 2 > ret_bytes)
                return false;
            if (len)
                ret[len++] = '/';
            memcpy(ret + len, target, n);
            len += n;
        }
        target += n;
    }
    ret[len] = '\0';
    return len > 0;
}

/* ---- which format --------------------------------------------------------------------------- */

/* Archives that are documents of a kind we do not read, by their mimetype part or a file in them.
 */
static sl_status refuse(package *p, sl_err *err)
{
    sl_buf mime;
    sl_status status = SL_OK;

    sl_buf_init(&mime, 4096);
    if (package_has(p, "mimetype") && package_read(p, "mimetype", &mime, NULL) == SL_OK &&
        strstr(sl_buf_str(&mime), "opendocument"))
        status = sl_fail(err, SL_ENOTSUP,
                         "it is an OpenDocument file; save it as DOCX, XLSX, PPTX or PDF");
    else if (package_has(p, "xl/workbook.bin"))
        status = sl_fail(err, SL_ENOTSUP, "it is a binary Excel file (.xlsb); save it as XLSX");
    else if (package_has(p, "Index/Document.iwa") || package_has(p, "Index.zip"))
        status = sl_fail(err, SL_ENOTSUP, "it is an Apple iWork file; export it as DOCX or PDF");
    else
        status =
            sl_fail(err, SL_ENOTSUP, "it is a ZIP archive; unpack it and give the files in it");
    sl_buf_deinit(&mime);
    return status;
}

sl_status reader_zip(sl_span bytes, reader_out *out, sl_err *err)
{
    static const struct {
        const char *part;
        reader_type type;
        sl_status (*read)(package *p, reader_out *out, sl_err *err);
    } formats[] = {
        { "word/document.xml", READER_DOCX, reader_docx },
        { "ppt/presentation.xml", READER_PPTX, reader_pptx },
        { "xl/workbook.xml", READER_XLSX, reader_xlsx },
        { "META-INF/container.xml", READER_EPUB, reader_epub },
    };
    package p;
    sl_status status;

    SL_TRY(package_open(bytes, &p, err));
    for (size_t i = 0; i < SL_COUNT_OF(formats); i++) {
        if (!package_has(&p, formats[i].part))
            continue;
        if (out->depth == 0)
            out->type = formats[i].type;
        status = package_title(&p, out, err);
        if (status == SL_OK)
            status = formats[i].read(&p, out, err);
        package_close(&p);
        return status;
    }
    status = refuse(&p, err);
    package_close(&p);
    return status;
}
