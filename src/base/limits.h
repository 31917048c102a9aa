/* limits.h - every maximum in the house, each with its reason.
 *
 * A structure that grows takes its bound from here. Names end in the unit. */
#ifndef SL_BASE_LIMITS_H
#define SL_BASE_LIMITS_H

#define SL_KIB ((size_t)1024)
#define SL_MIB ((size_t)1024 * 1024)
#define SL_GIB ((size_t)1024 * 1024 * 1024)

/* Model files: real ones have under 3,000 tensors and 100 keys; the rest is for MoE. */
#define SL_GGUF_TENSORS_MAX             (1 << 17)
#define SL_GGUF_KEYS_MAX                (1 << 16)
#define SL_GGUF_KEY_BYTES_MAX           65535     /* the GGUF specification's bound */
#define SL_GGUF_ARRAY_MAX               (1 << 24) /* vocabularies have 262,144, merges twice that */
#define SL_GGUF_SHARDS_MAX              1024
#define SL_TENSOR_NAME_MAX              256 /* GGUF says 64; Hugging Face names reach 120 */
#define SL_TENSOR_DIMS_MAX              4
#define SL_SAFETENSORS_HEADER_BYTES_MAX (100 * SL_MIB) /* the format's own */
/* tokenizer.json of a vocabulary of 262,144 takes 33 MiB. */
#define SL_JSON_BYTES_MAX (64 * SL_MIB)

/* Shapes: bounds that keep products of two in 32 bits and catch hostile metadata early. */
#define SL_MODEL_LAYERS_MAX  512
#define SL_MODEL_DIM_MAX     (1 << 17)
#define SL_MODEL_VOCAB_MAX   (1 << 22)
#define SL_MODEL_CONTEXT_MAX (1 << 24)

/* Requests. */
#define SL_HTTP_BODY_BYTES_MAX                                                                     \
    (64 * SL_MIB) /* 128k tokens of text are under 1 MiB; documents more */
/* Bodies of all requests together: what strangers can make the server hold. */
#define SL_HTTP_BODY_BYTES_TOTAL_MAX (1 * SL_GIB)
/* Unsent bytes of all streams; past it those that hold more than their share are dropped. */
#define SL_HTTP_QUEUE_BYTES_TOTAL_MAX (512 * SL_MIB)
#define SL_HTTP_QUEUE_SHARE_BYTES     (64 * SL_KIB)
/* A token of 8 KiB and cookies fit; each connection that was used once keeps so much memory. */
#define SL_HTTP_HEAD_BYTES_MAX (16 * SL_KIB)
#define SL_HTTP_HEADERS_MAX    100          /* as Apache; browsers send 20 */
#define SL_HTTP_URI_BYTES_MAX  (8 * SL_KIB) /* as nginx and Apache */
#define SL_HTTP_QUERIES_MAX    64           /* lists of names among them */
/* JSON bodies, counted before they are parsed: each value costs up to 130 bytes of memory. */
#define SL_JSON_DEPTH_MAX        100           /* tools with schemas reach 20 */
#define SL_JSON_VALUES_MAX       (1024 * 1024) /* prompts as token ids: a million */
#define SL_JSON_STRING_BYTES_MAX (32 * SL_MIB) /* an image of 20 MB in base64 */
/* OpenAI's bound on embedding inputs; also completion prompts. */
#define SL_PROMPTS_MAX      2048
#define SL_CHOICES_MAX      128 /* OpenAI's bound on n */
#define SL_STOPS_MAX        16  /* OpenAI allows 4; vLLM and llama.cpp clients send more */
#define SL_STOP_BYTES_MAX   512
#define SL_LOGIT_BIAS_MAX   1024
#define SL_BAD_WORDS_MAX    1024 /* each is compared with the end of the text for every token */
#define SL_TOP_LOGPROBS_MAX 20   /* OpenAI's bound */
#define SL_SPEC_TOKENS_MAX  64   /* a step's rows; guesses past 16 are rarely right */

/* Answers that are kept for later turns: OpenAI's days; a caller's newest ones, in number and
 * together; what waits to be written is memory. */
#define SL_RESPONSE_DAYS           30
#define SL_RESPONSES_MAX           10000
#define SL_RESPONSE_BYTES_MAX      (8 * SL_MIB)
#define SL_RESPONSES_BYTES_MAX     (256 * SL_MIB)
#define SL_RESPONSES_UNWRITTEN_MAX (64 * SL_MIB)

/* Batch jobs: OpenAI's bounds. */
#define SL_BATCH_LINES_MAX  50000
#define SL_BATCH_BYTES_MAX  (200 * SL_MIB)
#define SL_BATCH_ERRORS_MAX 100  /* told of an input that is wrong */
#define SL_BATCHES_LOADED   16   /* run at the same time; the others wait their turn on the disk */
#define SL_PARTS_MAX        1024 /* of an upload: 64 GiB in parts of 64 MiB */

/* Backups: a stored file is one member, a model a few. */
#define SL_BACKUP_VERSION            1
#define SL_BACKUP_MEMBERS_MAX        (1 << 20)
#define SL_BACKUP_NAME_BYTES_MAX     1024 /* as paths in a model's tree */
#define SL_BACKUP_DEPTH_MAX          16   /* directories in each other; ours have 5 */
#define SL_BACKUP_MANIFEST_BYTES_MAX (256 * SL_MIB)

/* Engine. */
#define SL_THREADS_MAX     256
#define SL_KV_BLOCK_TOKENS 16
#define SL_TENANTS_MAX     1024 /* with a turn of their own; those who are away are forgotten */

/* Access. */
#define SL_ACCESS_ACCOUNTS_MAX       (1 << 17) /* all are in memory, about 1 KiB each */
#define SL_ACCESS_NAME_BYTES_MAX     128
#define SL_ACCESS_LIST_MAX           64 /* scopes, models or networks of one key */
#define SL_ACCESS_METADATA_BYTES_MAX (4 * SL_KIB)
#define SL_ACCESS_LOCKOUTS_MAX       4096         /* names and addresses remembered, each */
#define SL_PASSWORD_BYTES_MAX        512          /* libxcrypt's own bound */
#define SL_JWT_BYTES_MAX             (8 * SL_KIB) /* real ones reach 4 KiB */
#define SL_JWT_CACHED_MAX            1024         /* verified tokens remembered */
#define SL_JWKS_BYTES_MAX            (256 * SL_KIB)
#define SL_JWKS_KEYS_MAX             64
#define SL_JWT_ISSUERS_MAX           32

/* Chat templates: the longest published one is 40 KiB; hostile ones must end soon. */
#define SL_TEMPLATE_BYTES_MAX        (1 * SL_MIB)
#define SL_TEMPLATE_OUTPUT_BYTES_MAX (64 * SL_MIB)
#define SL_TEMPLATE_STEPS_MAX        (20 * 1000 * 1000)
#define SL_TEMPLATE_DEPTH_MAX        128
/* Templates that callers send: the longest published one over 1,000 messages takes a third. */
#define SL_TEMPLATE_STRANGE_BYTES_MAX (64 * SL_KIB)
#define SL_TEMPLATE_STRANGE_STEPS_MAX (2 * 1000 * 1000)
#define SL_TEMPLATE_STRANGE_KEPT      16 /* compiled */

#endif
