/* mime.h - the grammar of mail: headers, encoded words, bodies in base64 and quoted-printable. */
#ifndef SL_READER_MIME_H
#define SL_READER_MIME_H

#include "reader/reader_int.h"

#define MIME_VALUE_BYTES 2048 /* of a header that is looked at; longer ones are cut */

/* One entity: headers, an empty line, a body. */
typedef struct mime_part {
    sl_span headers, body;
    char type[128];     /* "text/plain", in lower case; "text/plain" when it says nothing */
    char charset[64];   /* or "" */
    char boundary[256]; /* of multiparts, or "" */
    char name[256];     /* of the file it is, or "" */
    bool is_attachment;
} mime_part;

/* Splits an entity. Never fails: what is no header is body. */
void mime_parse(sl_span bytes, mime_part *ret);
/* The value of the first header of this name, unfolded, encoded words decoded to UTF-8; "" when
 * there is none. */
void mime_header(const mime_part *part, const char *name, char ret[MIME_VALUE_BYTES]);
/* The next entity of a multipart body behind *at; false: there is none. */
bool mime_next(const mime_part *whole, size_t *at, sl_span *ret);
/* The body with its transfer encoding undone, appended to ret. */
void mime_body(const mime_part *part, sl_buf *ret);

#endif
