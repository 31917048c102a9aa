/* reader_test.h - reads documents of tests and says what came out, block by block. */
#ifndef READER_TEST_H
#define READER_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "reader/reader_int.h"

/* Blocks in order, apart, of whole characters; headers are rows before theirs. */
static inline void check_document(const reader_document *d)
{
    size_t at = 0;

    assert_true(d->count > 0);
    assert_int_equal(d->text[d->len], 0);
    assert_int_equal(strlen(d->text), d->len);
    assert_true(sl_utf8_valid(d->text, d->len));
    for (size_t i = 0; i < d->count; i++) {
        const reader_block *b = &d->blocks[i];

        assert_true(b->begin >= at && b->begin < b->end && b->end <= d->len);
        assert_true(sl_utf8_valid(d->text + b->begin, b->end - b->begin));
        assert_null(strchr(" \t\r\n", d->text[b->begin]));
        assert_null(strchr(" \t\r\n", d->text[b->end - 1]));
        assert_true(b->page <= d->pages);
        assert_true(b->header <= i);
        assert_true(b->kind < READER_KIND_COUNT);
        at = b->end;
    }
}

/* However slow the machine is, time decides nothing here. */
static inline reader_options test_options(void)
{
    return (reader_options){ .program = getenv("SLUICE_BIN"), .time_ms = 600000 };
}

/* One line a block: its kind by letter, level, @page, ^its header's index, then its text, line
 * breaks in it as "/". */
static inline void describe(const reader_document *d, sl_buf *ret)
{
    for (size_t i = 0; i < d->count; i++) {
        const reader_block *b = &d->blocks[i];

        sl_buf_putc(ret, "phltc"[b->kind]);
        if (b->level)
            sl_buf_printf(ret, "%d", b->level);
        if (b->page)
            sl_buf_printf(ret, "@%u", b->page);
        if (b->header)
            sl_buf_printf(ret, "^%u", b->header - 1);
        sl_buf_puts(ret, ": ");
        for (size_t k = b->begin; k < b->end; k++)
            sl_buf_putc(ret, d->text[k] == '\n' ? '/' : d->text[k]);
        sl_buf_putc(ret, '\n');
    }
}

/* Reads bytes and compares what comes out with want. */
static inline void expect_bytes(const void *bytes, size_t len, const char *name, const char *type,
                                const char *want)
{
    reader_options o = test_options();
    reader_document d;
    sl_err err = { 0 };
    sl_buf got;

    if (reader_read(&o, sl_span_of(bytes, len), name, &d, &err) != SL_OK)
        fail_msg("%s: %s", name ? name : "?", err.text);
    check_document(&d);
    sl_buf_init(&got, 1 << 24);
    describe(&d, &got);
    assert_string_equal(sl_buf_str(&got), want);
    assert_string_equal(d.type, type);
    sl_buf_deinit(&got);
    reader_document_deinit(&d);
}

static inline void expect(const char *text, const char *name, const char *type, const char *want)
{
    expect_bytes(text, strlen(text), name, type, want);
}

/* Reads bytes, which must fail with this status and words. */
static inline void expect_failure(const void *bytes, size_t len, const char *name, sl_status status,
                                  const char *words)
{
    reader_options o = test_options();
    reader_document d;
    sl_err err = { 0 };

    if (reader_read(&o, sl_span_of(bytes, len), name, &d, &err) != status)
        fail_msg("%s: status %d, not %d: %s", name ? name : "?", err.status, status, err.text);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
    assert_null(d.text);
    assert_null(d.blocks);
}

#endif
