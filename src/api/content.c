/* content.c - texts kept, or only their SHA-256, until the request's log line is written.
 *
 * A hash tells whether two texts are the same, and whether a text that somebody has is the one; it
 * does not hide a text that can be guessed. */
#include "api/content.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/os.h"

#define TEXT_BYTES_MAX (17 * SL_KIB) /* a little more than a line shows, so that it says "more" */
#define HASH_SHOWN     16            /* bytes */

/* One text: what of it is kept. */
typedef struct part {
    EVP_MD_CTX *hash; /* NULL: the text itself is kept */
    sl_buf text;
    uint64_t bytes;
    char shown[2 * HASH_SHOWN + 8];
} part;

struct api_content {
    api_log_content how;
    part prompt, answer;
};

static void part_init(part *p, api_log_content how)
{
    sl_buf_init(&p->text, TEXT_BYTES_MAX);
    p->hash = how == API_LOG_HASH ? EVP_MD_CTX_new() : NULL;
    if (p->hash)
        EVP_DigestInit_ex(p->hash, EVP_sha256(), NULL);
}

static void part_deinit(part *p)
{
    EVP_MD_CTX_free(p->hash);
    sl_buf_deinit(&p->text);
}

static void part_put(const api_content *c, part *p, const char *text, size_t len)
{
    p->bytes += len;
    if (p->hash)
        EVP_DigestUpdate(p->hash, text, len);
    else if (c->how == API_LOG_FULL && p->text.len < TEXT_BYTES_MAX)
        sl_buf_put(&p->text, text, SL_MIN(len, TEXT_BYTES_MAX - p->text.len));
}

/* "sha256:" and the first half of the hash. Once. */
static const char *part_text(part *p)
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    int len = 0;

    if (!p->hash)
        return sl_buf_str(&p->text);
    EVP_DigestFinal_ex(p->hash, raw, NULL);
    len = snprintf(p->shown, sizeof p->shown, "sha256:");
    sl_hex(raw, HASH_SHOWN, p->shown + len);
    return p->shown;
}

api_content *api_content_create(api_log_content how)
{
    api_content *c = how == API_LOG_NONE ? NULL : sl_calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->how = how;
    part_init(&c->prompt, how);
    part_init(&c->answer, how);
    return c;
}

void api_content_destroy(api_content *c)
{
    if (!c)
        return;
    part_deinit(&c->prompt);
    part_deinit(&c->answer);
    sl_free(c);
}

static void ask_prompt(api_content *c, const llm_prompt *p)
{
    char id[16];

    if (p->text) {
        part_put(c, &c->prompt, p->text, p->text_len);
        return;
    }
    for (size_t i = 0; i < p->id_count; i++)
        part_put(c, &c->prompt, id,
                 (size_t)snprintf(id, sizeof id, "%s%d", i ? "," : "", (int)p->ids[i]));
}

void api_content_ask(api_content *c, const llm_request *req)
{
    char *text = c && req->messages ? json_dumps(req->messages, JSON_COMPACT) : NULL;

    if (text)
        part_put(c, &c->prompt, text, strlen(text));
    free(text);
    for (size_t i = 0; c && i < req->prompt_count; i++) {
        if (i > 0)
            part_put(c, &c->prompt, "\n", 1);
        ask_prompt(c, &req->prompts[i]);
    }
}

void api_content_ask_text(api_content *c, const char *text)
{
    if (c)
        part_put(c, &c->prompt, text, strlen(text));
}

void api_content_answer(api_content *c, const char *text, size_t len)
{
    if (c && len > 0)
        part_put(c, &c->answer, text, len);
}

int api_content_fields(api_content *c, sl_log_field *f)
{
    const char *prompt = c ? part_text(&c->prompt) : NULL;
    const char *answer = c ? part_text(&c->answer) : NULL;
    int n = 0;

    if (!c)
        return 0;
    f[n++] = SL_F_STR("prompt", prompt);
    f[n++] = SL_F_NUM("prompt_bytes", c->prompt.bytes);
    f[n++] = SL_F_STR("answer", answer);
    f[n++] = SL_F_NUM("answer_bytes", c->answer.bytes);
    return n;
}
