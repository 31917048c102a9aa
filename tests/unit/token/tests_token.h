/* tests_token.h - what the files of this test share. */
#ifndef TESTS_TOKEN_H
#define TESTS_TOKEN_H

#include "token/token_int.h"

void expect_ids(const token_vocab *v, const char *text, unsigned flags, const char *ids);

void test_json_bpe(void **state);
void test_json_wordpiece(void **state);
void test_json_unigram(void **state);
void test_json_refusals(void **state);
void test_json_no_memory(void **state);

#endif
