/* ollama_int.h - what ollama.c and ollama_models.c share. */
#ifndef SL_API_OLLAMA_INT_H
#define SL_API_OLLAMA_INT_H

#include "api/api_int.h"
#include "api/ollama.h"

extern const body_schema ollama_show_body, ollama_pull_body, ollama_create_body, ollama_copy_body,
    ollama_delete_body;

/* The fields of every body that manages models; each route has its own of them. */
typedef struct ollama_manage {
    const char *model, *source, *destination, *from, *template_text, *system;
    bool stream, verbose;
    json_t *files, *parameters, *messages, *licenses; /* owned, or NULL */
} ollama_manage;

/* Strings go to the arena. SL_EINVAL: *err says why, and *ret must be released all the same. */
SL_NODISCARD sl_status ollama_parse_manage(const body_schema *s, const char *body, size_t len,
                                           sl_arena *arena, ollama_manage *ret, openai_error *err);
void ollama_manage_deinit(ollama_manage *m);

/* Answers 404 in Ollama's words. */
void ollama_not_found(const api *a, http_exchange *x, const char *model);

void ollama_tags(api *a, http_exchange *x);
void ollama_ps(api *a, http_exchange *x);
void ollama_show(api *a, http_exchange *x);
void ollama_pull(api *a, http_exchange *x);
void ollama_create(api *a, http_exchange *x);
void ollama_copy(api *a, http_exchange *x);
void ollama_delete(api *a, http_exchange *x);
void ollama_blob_head(api *a, http_exchange *x);
/* The body went to a file as it came: ollama_blob_begin, ollama_blob_write. */
void ollama_blob_put(api *a, http_exchange *x);
bool ollama_blob_begin(api *a, http_exchange *x);
void ollama_blob_write(api *a, http_exchange *x, const void *bytes, size_t len);

#endif
