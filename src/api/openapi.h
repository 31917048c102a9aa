/* openapi.h - the OpenAPI 3.1 document of all routes, made from the tables that dispatch and check.
 */
#ifndef SL_API_OPENAPI_H
#define SL_API_OPENAPI_H

#include "api/endpoint.h"

/* Appends the document as JSON. Each property of a body carries x-support: works, no-effect or
 * refused. */
void openapi_write(const api_endpoints *const *tables, size_t table_count, const char *version,
                   sl_buf *out);

#endif
