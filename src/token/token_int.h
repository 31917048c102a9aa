/* token_int.h - what the room's files share: the vocabulary's inside and the steps of encoding.
 *
 * Text becomes ids in fixed steps: special tokens are cut out, the rest is normalised, cut into
 * pieces by the pre-tokenizer, and each piece is turned into ids by the model (BPE, SPM or
 * WordPiece). Every step is a function on spans; only the ids grow. */
#ifndef SL_TOKEN_TOKEN_INT_H
#define SL_TOKEN_TOKEN_INT_H

#include "base/limits.h"
#include "base/mem.h"
#include "token/token.h"

typedef enum vocab_kind { VOCAB_BPE, VOCAB_SPM, VOCAB_WPM, VOCAB_UNIGRAM } vocab_kind;

/* GGUF's numbers. */
typedef enum token_type {
    TT_NORMAL = 1,
    TT_UNKNOWN,
    TT_CONTROL,
    TT_USER,
    TT_UNUSED,
    TT_BYTE
} token_type;

enum {
    TF_EOG = 1,
    TF_LSTRIP = 2,
    TF_RSTRIP = 4,
    TF_SINGLE_WORD = 8,
    TF_NORMALIZED = 16, /* matched after normalisation (tokenizer.json) */
    TF_WHOLE = 32,      /* merging the token's own bytes gives exactly this token */
    TF_ADDED = 64,      /* cut out before everything else */
};

/* Open addressing from bytes to an id; the bytes live in a str_list. */
typedef struct str_slot {
    uint32_t hash;
    int32_t id; /* -1: free */
} str_slot;

typedef struct str_table {
    str_slot *slots;
    uint32_t mask;
} str_table;

/* Many strings in one block: string i is blob[off[i] .. off[i + 1]). */
typedef struct str_list {
    char *blob;
    size_t blob_len, blob_cap;
    uint32_t *off;
    size_t count, off_cap;
} str_list;

typedef struct merge_slot {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: free */
    int32_t rank, id;
} merge_slot;

typedef struct special_entry {
    int32_t id;
    uint32_t len;
} special_entry;

#define VOCAB_FRAME_MAX 16 /* ids that a post-processor puts in front or behind; real ones: 1 */

struct pretok;
struct normalizer;

struct token_vocab {
    vocab_kind kind;
    bool byte_level;    /* BPE over bytes in the GPT-2 alphabet; otherwise over UTF-8 */
    bool escape_spaces; /* ' ' becomes U+2581 before the model sees it */
    bool add_space_prefix;
    bool prefix_each; /* the prefix also follows special tokens */
    bool ignore_merges;
    bool byte_fallback;
    bool fuse_unk;
    bool spm_words;         /* no token holds U+2581 behind another character */
    bool leftmost_specials; /* tokenizer.json: leftmost-longest instead of longest-first */
    bool newline_runs;      /* a piece of newlines only is looked up whole (Gemma 4) */
    bool word_spaces;       /* mmBERT: each escaped space starts a word */
    bool add_bos, add_eos;
    bool lowercase, strip_accents, clean_text, cjk_spaces; /* WordPiece's own normaliser */
    bool strip_all_marks;
    char pre[64];

    str_list spelling; /* as in the file */
    str_list bytes;    /* what the token stands for */
    uint8_t *type, *flags;
    float *score;
    size_t meta_cap;

    str_table by_spelling, by_bytes;
    str_list ghosts; /* strings that merges speak of but that are no tokens */
    str_table by_ghost;
    merge_slot *merges;
    uint32_t merge_mask;
    size_t merge_count;
    int32_t byte_sym[256];   /* starting symbol of a byte; token or ghost */
    int32_t byte_token[256]; /* <0xHH>, or -1 */

    int32_t bos, eos, unk, sep;
    int32_t prefix[VOCAB_FRAME_MAX], suffix[VOCAB_FRAME_MAX];
    size_t prefix_len, suffix_len;

    special_entry *specials; /* sorted by spelling */
    size_t special_count;
    uint32_t special_first[257]; /* range of specials that begin with a byte */
    size_t token_bytes_max;
    double unknown_score;  /* unigram: of a character that is no token */
    size_t word_chars_max; /* WordPiece: longer words are unknown; 0: no bound */

    struct pretok *pretok;
    struct normalizer *norm;
};

/* vocab.c */
uint64_t str_hash(const char *s, size_t len);
sl_span str_list_get(const str_list *l, size_t i);
bool str_list_add(str_list *l, const char *s, size_t len) SL_NODISCARD;
void str_list_deinit(str_list *l);
bool str_table_init(str_table *t, size_t count) SL_NODISCARD;
void str_table_deinit(str_table *t);
void str_table_put(str_table *t, const str_list *l, int32_t id);
int32_t str_table_get(const str_table *t, const str_list *l, const char *s, size_t len);

token_vocab *vocab_new(void);
bool vocab_add(token_vocab *v, const char *s, size_t len, token_type type,
               float score) SL_NODISCARD;
/* After all tokens: bytes, tables, specials. */
SL_NODISCARD sl_status vocab_index(token_vocab *v, sl_err *err);
SL_NODISCARD sl_status vocab_index_specials(token_vocab *v, sl_err *err);
/* By the well-known spellings; also eos. */
void vocab_mark_eog(token_vocab *v);
void vocab_frame_put(int32_t *ids, size_t *count, int32_t id);

/* bytes.c: the GPT-2 alphabet. */
/* Length of the bytes written to out (at most len), or SIZE_MAX when a character is foreign. */
size_t alphabet_decode(const char *s, size_t len, char *out);
size_t alphabet_encode(uint8_t byte, char out[4]);

/* bpe.c */
SL_NODISCARD sl_status bpe_merges_init(token_vocab *v, size_t count, sl_err *err);
/* One merge; unknown strings become ghosts. Later duplicates are ignored. */
SL_NODISCARD sl_status bpe_merge_add(token_vocab *v, const char *a, size_t a_len, const char *b,
                                     size_t b_len, int32_t rank, sl_err *err);
SL_NODISCARD sl_status bpe_finish(token_vocab *v, sl_err *err);

/* Scratch of one token_encode call. */
typedef struct bpe_sym {
    int32_t id; /* -1: merged away; -2: a character that is no token */
    int32_t prev, next;
    uint32_t start, len;
} bpe_sym;

typedef struct heap_item {
    double key; /* smaller first */
    int32_t left, size;
    int32_t id;
} heap_item;

typedef struct piece_slot {
    const char *text;
    uint32_t hash, len, out_at, out_count;
} piece_slot;

/* Unigram: the best way to a byte of the text. */
typedef struct unigram_node {
    double score;
    uint32_t from; /* where its last token begins; UINT32_MAX: no way leads here */
    int32_t id;    /* of that token; -1: unknown */
    uint32_t next; /* on the best way of all */
} unigram_node;

typedef struct scratch {
    const token_vocab *v;
    token_ids *out;
    sl_err *err;
    bpe_sym *syms;
    size_t sym_cap;
    heap_item *heap;
    size_t heap_len, heap_cap;
    unigram_node *nodes;
    size_t node_cap;
    piece_slot *cache;
    uint32_t cache_mask;
    sl_buf text; /* normalised fragment */
} scratch;

SL_NODISCARD sl_status ids_push(scratch *s, int32_t id);
bool heap_push(scratch *s, heap_item item) SL_NODISCARD;
heap_item heap_pop(scratch *s);
void scratch_forget(scratch *s); /* drops cached pieces whose text goes away */

SL_NODISCARD sl_status bpe_piece(scratch *s, const char *text, size_t len);
void spm_finish(token_vocab *v); /* once the tokens are in */
SL_NODISCARD sl_status spm_encode(scratch *s, const char *text, size_t len);
void unigram_finish(token_vocab *v);
SL_NODISCARD sl_status unigram_encode(scratch *s, const char *text, size_t len);
SL_NODISCARD sl_status wpm_encode(scratch *s, const char *text, size_t len);
SL_NODISCARD sl_status wpm_word(scratch *s, const char *text, size_t len);

/* special.c */
typedef struct fragment {
    int32_t id; /* -1: text */
    size_t off, len;
} fragment;

typedef struct fragment_list {
    fragment *items;
    size_t count, cap;
} fragment_list;

/* Cuts text at the special tokens that flags allow. normalized: which kind (tokenizer.json). */
SL_NODISCARD sl_status special_split(const token_vocab *v, const char *text, size_t len,
                                     unsigned flags, bool normalized, fragment_list *out,
                                     sl_err *err);

/* unicode.c */
typedef enum uc_class { UC_OTHER, UC_LETTER, UC_NUMBER, UC_SPACE, UC_MARK } uc_class;
extern const uint8_t uc_ascii[128];
/* Class of the character at p[0..len), len > 0; *ret_len its bytes (1 for an invalid byte). */
uc_class uc_class_slow(const char *p, size_t len, size_t *ret_len);
static inline uc_class uc_class_at(const char *p, size_t len, size_t *ret_len)
{
    uint8_t c = (uint8_t)*p;

    if (SL_LIKELY(c < 128)) {
        *ret_len = 1;
        return (uc_class)uc_ascii[c];
    }
    return uc_class_slow(p, len, ret_len);
}
bool uc_is_space(uint32_t cp);
bool uc_is_punct(uint32_t cp);   /* category P */
bool uc_is_control(uint32_t cp); /* category C */
bool uc_is_mark(uint32_t cp);    /* category M */
bool uc_is_mn(uint32_t cp);      /* category Mn */
bool uc_is_word(uint32_t cp);    /* \w */
uint32_t uc_lower(uint32_t cp);
/* One of utf8proc's normal forms of text, appended to out; invalid bytes pass through. */
typedef enum uc_form { UC_NFC, UC_NFD, UC_NFKC, UC_NFKD } uc_form;
SL_NODISCARD sl_status uc_normalize(const char *text, size_t len, uc_form form, sl_buf *out,
                                    sl_err *err);

/* charsmap.c. Both append the mapped text: by graphemes as the tokenizers library does, or by the
 * longest sequences as SentencePiece does. blob may go away. */
typedef struct charsmap charsmap;
SL_NODISCARD sl_status charsmap_parse(sl_span blob, charsmap **ret, sl_err *err);
void charsmap_destroy(charsmap *m); /* accepts NULL */
void charsmap_graphemes(const charsmap *m, const char *text, size_t len, sl_buf *out);
void charsmap_longest(const charsmap *m, const char *text, size_t len, sl_buf *out);

/* normalize.c: the normalizer of a tokenizer.json. */
typedef enum norm_kind {
    NORM_FORM, /* flags: a uc_form */
    NORM_CHARS,
    NORM_REPLACE,
    NORM_REPLACE_REGEX,
    NORM_STRIP,
    NORM_PREPEND, /* `to` in front */
    NORM_CHARSMAP /* from: the compiled map */
} norm_kind;

enum {
    NORM_CLEAN = 1, /* drops control characters, every space becomes ' ' */
    NORM_STRIP_MARKS = 2,
    NORM_ALL_MARKS = 4, /* category M instead of Mn */
    NORM_CJK = 8,
    NORM_LOWER = 16,
    NORM_LONGEST = 1, /* character maps */
    NORM_LEFT = 1,
    NORM_RIGHT = 2,
    NORM_FIRST_ONLY = 1,  /* only at the beginning of the whole text */
    NORM_UNLESS_THERE = 2 /* not when the text begins so already */
};

typedef struct normalizer normalizer;
normalizer *normalizer_new(void);
void normalizer_destroy(normalizer *n);
bool normalizer_is_empty(const normalizer *n);
SL_NODISCARD sl_status normalizer_add(normalizer *n, norm_kind kind, unsigned flags, sl_span from,
                                      sl_span to, sl_err *err);
/* Appends the normal form of text to out. first: text begins the whole input. */
SL_NODISCARD sl_status normalizer_run(const normalizer *n, const char *text, size_t len, bool first,
                                      sl_buf *out, sl_err *err);

/* pretok.c */
typedef struct pretok pretok;
typedef sl_status (*piece_fn)(void *ctx, const char *text, size_t len);
typedef size_t (*split_fn)(const char *p, size_t len); /* length of the first piece, > 0 */

/* What becomes of the text that a pattern matches. */
typedef enum split_mode {
    SPLIT_ISOLATED,
    SPLIT_REMOVED,
    SPLIT_MERGED_PREVIOUS,
    SPLIT_MERGED_NEXT,
    SPLIT_CONTIGUOUS
} split_mode;

/* Compiles an expression into a pcre2_code. */
SL_NODISCARD sl_status pattern_compile(const char *pattern, size_t len, void **ret, sl_err *err);
pretok *pretok_new(void);
void pretok_destroy(pretok *p);
bool pretok_is_empty(const pretok *p);
SL_NODISCARD sl_status pretok_add_regex(pretok *p, const char *pattern, size_t len, split_mode mode,
                                        bool invert, sl_err *err);
SL_NODISCARD sl_status pretok_add_split(pretok *p, split_fn fn, sl_err *err);
/* A space in front of each piece that has none: metaspace (the piece then is U+2581...) or byte
 * level's add_prefix_space. */
SL_NODISCARD sl_status pretok_run(const pretok *p, const char *text, size_t len, piece_fn fn,
                                  void *ctx, sl_err *err);

/* pretok_fast.c: hand-written splitters, each equal to its pattern in pretok_table.c. */
size_t split_gpt2(const char *p, size_t len);
size_t split_digits_gpt2(const char *p, size_t len);
size_t split_llama3(const char *p, size_t len);
size_t split_qwen2(const char *p, size_t len);
size_t split_qwen35(const char *p, size_t len);

/* pretok_table.c */
typedef struct pre_rule {
    const char *names;       /* separated by spaces */
    const char *patterns[7]; /* applied in sequence, matches and gaps are pieces */
    split_fn fast[2];        /* instead of the patterns, where set */
    unsigned flags;
} pre_rule;

enum {
    PRE_IGNORE_MERGES = 1,
    PRE_ADD_BOS = 2,
    PRE_NO_BOS = 4,
    PRE_RAW = 8,     /* UTF-8 instead of the byte alphabet */
    PRE_ESCAPE = 16, /* spaces become U+2581 */
    PRE_NEWLINES = 32,
    PRE_FORCE_BOS = 64,
    PRE_WORDS = 128, /* mmBERT */
};

/* The rule of a name; the default rule, with *ret_known false, for an unknown one. */
const pre_rule *pre_rule_find(const char *name, size_t len, bool *ret_known);
const pre_rule *pre_rule_at(size_t i); /* NULL past the end; for tests */
SL_NODISCARD sl_status pre_rule_build(const pre_rule *rule, bool use_fast, pretok **ret,
                                      sl_err *err);

#endif
