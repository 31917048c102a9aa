/* words.h - the words of a text, as the full-text index keeps them.
 *
 * Letters are folded (NFKC, case, marks of scripts that are read without them) and Latin, Greek,
 * Cyrillic, Arabic and Devanagari words are stemmed. Scripts written without spaces become
 * overlapping pairs of characters. Pure; a splitter serves one thread at a time. */
#ifndef SL_RAG_WORDS_H
#define SL_RAG_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#define WORDS_TOKEN_BYTES 64 /* longer words are cut: nobody asks for the rest of a hash */

enum {
    WORDS_STOP = 1,  /* so common that it says nothing about the text */
    WORDS_EXTRA = 2, /* another form of words that came already: "x15" of "x-15" */
    WORDS_PART = 4,  /* one character of a pair: found when somebody asks for it alone */
};

typedef struct words words;

words *words_create(void);    /* NULL: out of memory */
void words_destroy(words *w); /* accepts NULL */

/* Whether there is a stemmer of that name ("english", "german"); "none" is one too. */
bool words_has_language(const char *language);

/* Calls fn for every token in the order of the text; flags is an OR of WORDS_*. language is that of
 * the words in Latin letters. Bytes that are not UTF-8 separate words. Stops with false when fn
 * says false, or when memory is short. */
typedef bool (*words_fn)(void *ctx, const char *token, size_t len, unsigned flags);
bool words_split(words *w, const char *language, const char *text, size_t len, words_fn fn,
                 void *ctx);

/* How many words the text counts as: without stop words and other forms. */
size_t words_count(words *w, const char *language, const char *text, size_t len);

#endif
