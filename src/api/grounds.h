/* grounds.h - answers over documents in every dialect: what a request says about them, and how
 * passages, citations and the way to them look as JSON. Internal to the room. */
#ifndef SL_API_GROUNDS_H
#define SL_API_GROUNDS_H

#include "api/fields.h"
#include "api/schema.h"

/* The field `rag` of a chat request: fills req->docs. */
sl_status grounds_take(const json_t *v, const field_rule *rule, const field_target *to,
                       openai_error *err);
#define GROUNDS_SCHEMA                                                                             \
    "{\"type\":\"object\",\"properties\":{\"collection\":{\"type\":\"string\"},\"top_k\":{"        \
    "\"type\":\"integer\",\"minimum\":1,\"maximum\":64},\"filters\":{\"type\":\"object\"},"        \
    "\"mode\":{\"enum\":[\"best\",\"lexical\",\"dense\",\"fused\",\"reranked\"]},\"citations\":{"  \
    "\"type\":\"boolean\"},\"rewrite\":{\"type\":\"boolean\"}},\"required\":[\"collection\"]}"
/* The rule of that field. */
#define GROUNDS_RULE                                                                               \
    {                                                                                              \
        .name = "rag", .kind = FIELD_OTHER, .take = grounds_take, .json_schema = GROUNDS_SCHEMA,   \
        .help = "answer over a collection of documents"                                            \
    }
/* The same where there is no conversation to answer in. */
#define GROUNDS_REFUSED                                                                            \
    {                                                                                              \
        .name = "rag", .kind = FIELD_OTHER, .support = FIELD_REFUSED,                              \
        .help = "documents are answered over in chats"                                             \
    }

/* "best", "lexical" ... to *ret; false: no such mode. */
bool grounds_mode(const char *name, llm_docs_mode *ret);

/* An object: number, document, document_id, title, heading, source, page, trust, attributes, start,
 * end, text, score, scores; quote, quote_start and quote_end where it is a citation. */
void grounds_put_passage(sl_buf *out, const llm_passage *p);
void grounds_put_passages(sl_buf *out, const llm_passage *p, size_t count); /* an array */
/* {"question","rewritten","language","nothing_found","timings_ms":{...}} */
void grounds_put_trace(sl_buf *out, const llm_docs_report *r);
/* The whole as the object that dialects carry as "rag". */
void grounds_put(sl_buf *out, const llm_grounds *g);
/* "rag": the object, with a comma in front; nothing when g is NULL. */
void grounds_put_field(sl_buf *out, const llm_grounds *g);
/* OpenAI's annotations: an array. is_flat: as in Responses. */
void grounds_put_annotations(sl_buf *out, const llm_grounds *g, bool is_flat);

#endif
