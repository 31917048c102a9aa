/* lang.h - which language a question is in, as far as it decides what is said without a model. */
#ifndef SL_RAG_LANG_H
#define SL_RAG_LANG_H

#include <stddef.h>

/* A tag such as "en", "zh-Hant"; "en" when nothing tells. By script first; languages of the Latin
 * script by their most frequent words and their own letters. Never NULL; static. */
const char *lang_of(const char *text, size_t len);

/* "I found nothing about this in the documents." in a language of lang_of; static. */
const char *lang_nothing(const char *tag);

#endif
