/* fuzz_backup_manifest.c - any bytes as the manifest of a backup: what is accepted is well-formed,
 * and written again it is accepted again. */
#include <stdlib.h>

#include "backup/backup_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    members list = { 0 }, again = { 0 };
    char created[32];
    sl_buf text;

    if (manifest_parse(sl_span_of(data, size), &list, created, NULL) != SL_OK)
        return 0;
    for (size_t i = 0; i < list.count; i++) {
        const member *m = &list.items[i];

        if (!backup_name_ok(m->path) || members_find(&list, m->path) != m ||
            (m->kind == MEMBER_LINK) != (m->blob != NULL))
            abort();
    }
    sl_buf_init(&text, 16 * SL_MIB);
    if (manifest_write(&list, created, &text, NULL) == SL_OK &&
        (manifest_parse(sl_span_of(text.ptr, text.len), &again, created, NULL) != SL_OK ||
         again.count != list.count))
        abort();
    sl_buf_deinit(&text);
    members_free(&list);
    members_free(&again);
    return 0;
}
