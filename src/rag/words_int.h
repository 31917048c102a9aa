/* words_int.h - what the two halves of the splitter share: words_fold.c knows characters, words.c
 * puts them together. */
#ifndef SL_RAG_WORDS_INT_H
#define SL_RAG_WORDS_INT_H

#include <stddef.h>
#include <stdint.h>

#define WORDS_FOLDED_MAX 20 /* what one character becomes: the longest of NFKC has 18 */

/* What a character is to the splitter. */
typedef enum words_kind {
    WORDS_SPACE,   /* separates */
    WORDS_LETTER,  /* of a script that is written in words */
    WORDS_DIGIT,   /* also letters that are numbers */
    WORDS_MARK,    /* belongs to the character in front of it */
    WORDS_HAN,     /* Chinese characters: each may be a word */
    WORDS_KANA,    /* stands in one run with them */
    WORDS_HANGUL,  /* runs of its own */
    WORDS_CLUSTER, /* Thai, Lao, Khmer, Burmese: a letter, with marks around it */
} words_kind;

typedef enum words_script {
    WORDS_LATIN,
    WORDS_GREEK,
    WORDS_CYRILLIC,
    WORDS_ARABIC,
    WORDS_DEVANAGARI,
    WORDS_OTHER,
    WORDS_SCRIPT_COUNT
} words_script;

/* The character without case, width and, where words are read without them, marks; none for what
 * is not seen. Returns how many went to out. */
size_t words_fold(uint32_t cp, uint32_t out[WORDS_FOLDED_MAX]);
/* Of a folded character. */
words_kind words_kind_of(uint32_t cp);
words_script words_script_of(uint32_t cp);

#endif
