/* excerpt.c - a part of a stored document's text, by its byte span. */
#include "rag/rag_int.h"

static sl_status read_part(rag *r, int64_t document, int64_t begin, int64_t end, char **ret,
                           sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(
        r->db, "SELECT substr(CAST(text AS BLOB), ?1, ?2) FROM documents WHERE id = ?3", &st, err));
    store_bind_int(st, 1, begin + 1);
    store_bind_int(st, 2, end - begin);
    store_bind_int(st, 3, document);
    status = store_step(st, &row, err);
    if (status == SL_OK && row) {
        sl_span part = store_bytes(st, 0);

        if (part.len == (size_t)(end - begin) && sl_utf8_valid((const char *)part.ptr, part.len)) {
            *ret = sl_strndup((const char *)part.ptr, part.len);
            if (!*ret)
                status = sl_fail(err, SL_ENOMEM, "out of memory");
        }
    }
    store_finish(st);
    return status;
}

sl_status index_text(rag *r, int64_t document, int64_t begin, int64_t end, char **ret, sl_err *err)
{
    sl_status status;

    *ret = NULL;
    SL_ASSERT(begin >= 0 && end > begin);
    store_lock(r->db);
    status = read_part(r, document, begin, end, ret, err);
    store_unlock(r->db);
    return status;
}
