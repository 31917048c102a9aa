/* read.c - sluice read: the text of a document, or its blocks, as the service sees them; and the
 * hidden command that is the process documents are read in. */
#include <errno.h>
#include <stdio.h>

#include "base/os.h"
#include "cli/cli.h"
#include "reader/reader.h"

#define FILE_BYTES_MAX (2 * SL_GIB)

static sl_status read_file(const char *path, sl_buf *out, sl_err *err)
{
    char chunk[65536];
    size_t n;

    if (strcmp(path, "-") != 0)
        return sl_file_read(path, FILE_BYTES_MAX, out, err);
    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0)
        sl_buf_put(out, chunk, n);
    if (ferror(stdin))
        return sl_fail(err, SL_EIO, "cannot read standard input: %s", strerror(errno));
    return sl_buf_ok(out, "standard input", err);
}

static void put_block(sl_buf *b, const reader_document *d, size_t i)
{
    const reader_block *x = &d->blocks[i];

    sl_buf_printf(b, "%s{\"kind\":\"%s\",\"begin\":%zu,\"end\":%zu", i ? "," : "",
                  reader_kind_name(x->kind), x->begin, x->end);
    if (x->level)
        sl_buf_printf(b, ",\"level\":%d", x->level);
    if (x->page)
        sl_buf_printf(b, ",\"page\":%u", x->page);
    if (x->header)
        sl_buf_printf(b, ",\"header\":%u", x->header - 1);
    sl_buf_puts(b, ",\"text\":");
    sl_buf_put_json(b, d->text + x->begin, x->end - x->begin);
    sl_buf_putc(b, '}');
}

/* begin and end are bytes of "text" in UTF-8; header is the index of the block of that row. */
static sl_status print_json(const reader_document *d, sl_err *err)
{
    sl_buf b;
    sl_status status;

    sl_buf_init(&b, SIZE_MAX / 2);
    sl_buf_puts(&b, "{\"type\":");
    sl_buf_put_json(&b, d->type, strlen(d->type));
    sl_buf_puts(&b, ",\"title\":");
    sl_buf_put_json(&b, d->title, strlen(d->title));
    sl_buf_printf(&b, ",\"pages\":%u,\"text\":", d->pages);
    sl_buf_put_json(&b, d->text, d->len);
    sl_buf_puts(&b, ",\"blocks\":[");
    for (size_t i = 0; i < d->count; i++)
        put_block(&b, d, i);
    sl_buf_puts(&b, "]}");
    status = sl_buf_ok(&b, "the answer", err);
    if (status == SL_OK)
        puts(sl_buf_str(&b));
    sl_buf_deinit(&b);
    return status;
}

int cmd_read(int argc, char **argv)
{
    const char *name = NULL;
    bool json = false;
    int seconds = 0;
    const cli_option options[] = {
        { "--json", 0, CLI_FLAG, &json, NULL, "type, title, text and blocks with their places" },
        { "--name", 0, CLI_TEXT, &name, "NAME", "what to take the file's name for" },
        { "--seconds", 0, CLI_NUMBER, &seconds, "N", "time it may take (default: 60)" },
        { 0 },
    };
    const cli_command cmd = {
        "sluice read FILE [--json]",
        "Prints the text of a document as the service sees it: text, Markdown, HTML, PDF,\n"
        "DOCX, PPTX, XLSX, EPUB, CSV, TSV, JSON, JSON Lines and e-mail (.eml). What it is\n"
        "shows its content, not its name. FILE is - for standard input.",
        options, NULL
    };
    reader_options o = { 0 };
    reader_document d = { 0 };
    sl_buf bytes;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc != 2)
        return cli_usage("give one file; see: sluice read --help");
    o.time_ms = (int64_t)seconds * 1000;
    sl_buf_init(&bytes, FILE_BYTES_MAX);
    status = read_file(argv[1], &bytes, &err);
    if (status == SL_OK) {
        status = reader_read(&o, sl_span_of(bytes.ptr, bytes.len), name ? name : argv[1], &d, &err);
        if (status != SL_OK)
            sl_err_prefix(&err, status, "%s", argv[1]);
    }
    if (status == SL_OK && json)
        status = print_json(&d, &err);
    else if (status == SL_OK)
        printf("%s%s", d.text, d.len && d.text[d.len - 1] == '\n' ? "" : "\n");
    sl_buf_deinit(&bytes);
    reader_document_deinit(&d);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}

int cmd_read_document(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return reader_child();
}
