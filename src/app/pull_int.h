/* pull_int.h - what the sources of models share. */
#ifndef SL_APP_PULL_INT_H
#define SL_APP_PULL_INT_H

#include "app/pull.h"

#define PULL_FILES_MAX 1100
#define PULL_TRIES     4

typedef struct pull {
    model_store *s;
    const pull_options *o;
    sl_err *err;
    const char *what; /* shown with the progress */
} pull;

/* Downloads url to the store's partial file of this key, resuming and retrying. ret_path: where the
 * bytes are. bearer: a token for the Authorization header, or NULL. */
SL_NODISCARD sl_status pull_download(pull *p, const char *url, const char *key, const char *bearer,
                                     sl_buf *ret_path);
/* GET of a JSON document. accept: media type, or NULL. */
SL_NODISCARD sl_status pull_json(pull *p, const char *url, const char *accept, const char *bearer,
                                 json_t **ret);
/* Hex SHA-256 of a text, for keys. */
void pull_key(const char *text, char ret[MODEL_SHA256_HEX]);

SL_NODISCARD sl_status pull_from_catalogue(pull *p, const char *name, char ret_name[129]);
SL_NODISCARD sl_status pull_from_hub(pull *p, const char *spec, char ret_name[129]);
SL_NODISCARD sl_status pull_from_url(pull *p, const char *url, char ret_name[129]);
SL_NODISCARD sl_status pull_from_path(pull *p, const char *path, char ret_name[129]);

#endif
