/* token_int.h - what the files of this room share: the vocabulary's tables and the splitters. */
#ifndef SL_TOKEN_TOKEN_INT_H
#define SL_TOKEN_TOKEN_INT_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/limits.h"
#include "base/mem.h"
#include "token/token.h"

#define PRETOK_STEPS_MAX 8

enum { TOK_NORMAL = 1, TOK_UNKNOWN, TOK_CONTROL, TOK_USER, TOK_UNUSED, TOK_BYTE };
enum { KIND_BPE, KIND_SPM, KIND_WPM };
/* Hand-written splitters; SPLIT_REGEX runs the compiled expressions in sequence. */
enum { SPLIT_REGEX, SPLIT_GPT2, SPLIT_DIGITS_GPT2, SPLIT_LLAMA3, SPLIT_QWEN2 };

/* One family: its expressions are applied in sequence; matches and gaps become pieces. */
typedef struct pretok_rule {
    const char *names; /* space-separated, with a space at both ends */
    const char *regex[PRETOK_STEPS_MAX];
    int fast;
    bool ignore_merges, add_bos, add_sep, raw;
} pretok_rule;

typedef struct pretok {
    const pretok_rule *rule;
    pcre2_code *code[PRETOK_STEPS_MAX];
    int count, fast;
} pretok;

/* Receives one piece. */
typedef sl_status (*piece_fn)(void *ctx, const char *piece, size_t len);
const pretok_rule *pretok_find(const char *name); /* NULL: unknown */
const pretok_rule *pretok_default(void);
SL_NODISCARD sl_status pretok_init(pretok *p, const pretok_rule *rule, sl_err *err);
void pretok_deinit(pretok *p);
SL_NODISCARD sl_status pretok_split(const pretok *p, const char *text, size_t len, piece_fn fn,
                                    void *ctx);

typedef struct tok_entry {
    uint32_t spell, spell_len; /* in pool */
    uint32_t bytes, bytes_len;
    float score;
    uint8_t type;
    bool whole;          /* BPE of its bytes yields the token itself */
    bool lstrip, rstrip; /* a special token swallows spaces beside it */
    bool eog;
} tok_entry;

typedef struct tok_merge {
    int32_t left, right, merged;
    uint32_t rank;
} tok_merge;

struct token_vocab {
    int kind;
    bool byte_level; /* pieces are bytes in the GPT-2 alphabet */
    bool escape_ws;  /* U+2581 stands for a space */
    bool add_bos, add_eos, add_sep, add_space_prefix, ignore_merges;
    bool lowercase, strip_accents;
    int32_t bos, eos, eot, eom, unk, sep;
    char pre[64];
    sl_buf pool;
    tok_entry *toks;
    size_t count;
    uint32_t *spell_map, *bytes_map; /* open addressing, id + 1 */
    size_t map_mask;
    tok_merge *merges; /* open addressing; merged < 0: empty */
    size_t merge_mask;
    int32_t byte_ids[256];
    uint32_t *special; /* ids, sorted by first byte, then longest first */
    uint32_t special_count;
    uint32_t special_from[257];
    size_t longest; /* bytes of the longest spelling */
    pretok split;
};

int32_t vocab_find_bytes(const token_vocab *v, const char *text, size_t len);
sl_status ids_push(token_ids *t, int32_t id);
sl_status bpe_piece(const token_vocab *v, const char *piece, size_t len, token_ids *out);
sl_status spm_encode(const token_vocab *v, const char *text, size_t len, token_ids *out);
sl_status wpm_encode(const token_vocab *v, const char *text, size_t len, token_ids *out);
/* Builds maps, byte ids, specials, merges' self test. After toks and pool are filled. */
sl_status vocab_finish(token_vocab *v, sl_err *err);
sl_status vocab_add(token_vocab *v, size_t id, sl_span spelling, int type, float score);
sl_status vocab_merges_init(token_vocab *v, size_t count);
void vocab_merge_add(token_vocab *v, sl_span left, sl_span right, uint32_t rank);
bool byte_alphabet_decode(sl_span spelling, sl_buf *out);

#endif
