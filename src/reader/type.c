/* type.c - what bytes are, by their content.
 *
 * Signatures first, then the shape of a mail, of HTML, JSON and tables. Names only decide between
 * what content cannot: Markdown or text, and whether lines with commas are meant as a table. */
#include <strings.h>

#include "reader/reader_int.h"

#define HEAD_BYTES 4096 /* in which text shows what it is */

static const char *const type_names[READER_TYPE_COUNT] = {
    [READER_TEXT] = "text/plain",
    [READER_MARKDOWN] = "text/markdown",
    [READER_CSV] = "text/csv",
    [READER_TSV] = "text/tab-separated-values",
    [READER_JSON] = "application/json",
    [READER_JSONL] = "application/jsonl",
    [READER_HTML] = "text/html",
    [READER_MAIL] = "message/rfc822",
    [READER_PDF] = "application/pdf",
    [READER_ZIP] = "application/zip",
    [READER_DOCX] = "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    [READER_PPTX] = "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    [READER_XLSX] = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    [READER_EPUB] = "application/epub+zip",
    [READER_REFUSED] = "application/octet-stream",
};

const char *reader_type_name(reader_type type)
{
    return type_names[type];
}

bool reader_name_is(const char *name, const char *suffix)
{
    size_t n = name ? strlen(name) : 0, k = strlen(suffix);

    return n > k && name[n - k - 1] == '.' && strcasecmp(name + n - k, suffix) == 0;
}

bool reader_holds(sl_span bytes, size_t limit, const char *what)
{
    return memmem(bytes.ptr, SL_MIN(bytes.len, limit), what, strlen(what)) != NULL;
}

/* ---- what is refused ------------------------------------------------------------------------ */

static const struct {
    size_t at, len;
    const char *bytes, *what;
} refused[] = {
    { 0, 5, "{\\rtf", "an RTF file; save it as DOCX or PDF" },
    { 0, 4, "\x89PNG", "a picture (PNG); reading it would need OCR" },
    { 0, 3, "\xff\xd8\xff", "a picture (JPEG); reading it would need OCR" },
    { 0, 4, "GIF8", "a picture (GIF); reading it would need OCR" },
    { 0, 4, "II*\0", "a picture (TIFF); reading it would need OCR" },
    { 0, 4, "MM\0*", "a picture (TIFF); reading it would need OCR" },
    { 8, 4, "WEBP", "a picture (WebP); reading it would need OCR" },
    { 0, 2, "\x1f\x8b", "a gzip archive; unpack it and give the files in it" },
    { 0, 3, "BZh", "a bzip2 archive; unpack it and give the files in it" },
    { 0, 6,
      "\xfd"
      "7zXZ\0",
      "an xz archive; unpack it and give the files in it" },
    { 0, 4, "\x28\xb5\x2f\xfd", "a zstd archive; unpack it and give the files in it" },
    { 0, 6, "7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it and give the files in it" },
    { 0, 4, "Rar!", "a RAR archive; unpack it and give the files in it" },
    { 257, 5, "ustar", "a tar archive; unpack it and give the files in it" },
    { 0, 4,
      "\x7f"
      "ELF",
      "a program" },
    { 0, 15, "SQLite format 3", "an SQLite database; export it as CSV" },
    { 0, 4, "PAR1", "a Parquet file; export it as CSV or JSONL" },
    { 0, 4, "%!PS", "a PostScript file; make a PDF of it" },
    { 4, 4, "ftyp", "a film or sound file; give its transcript" },
    { 0, 3, "ID3", "a sound file; give its transcript" },
    { 0, 4, "OggS", "a sound file; give its transcript" },
};

/* The old office formats are file systems in a file; the names in it are UTF-16. */
static const struct {
    const char *name;
    size_t len;
    sl_status status;
    const char *what;
} inside_ole[] = {
    { "E\0n\0c\0r\0y\0p\0t\0e\0d\0P", 17, SL_EFORMAT,
      "it is encrypted; save it without a password" },
    { "W\0o\0r\0d\0D\0o\0c\0u\0m", 17, SL_ENOTSUP,
      "it is in Word's old format (.doc); save it as DOCX" },
    { "W\0o\0r\0k\0b\0o\0o\0k", 15, SL_ENOTSUP,
      "it is in Excel's old format (.xls); save it as XLSX" },
    { "P\0o\0w\0e\0r\0P\0o\0i\0n\0t", 19, SL_ENOTSUP,
      "it is in PowerPoint's old format (.ppt); save it as PPTX" },
    { "_\0_\0s\0u\0b\0s\0t\0g", 15, SL_ENOTSUP,
      "it is in Outlook's format (.msg); save it as .eml" },
};

static sl_status refuse_ole(sl_span b, sl_err *err)
{
    for (size_t i = 0; i < SL_COUNT_OF(inside_ole); i++)
        if (memmem(b.ptr, b.len, inside_ole[i].name, inside_ole[i].len))
            return sl_fail(err, inside_ole[i].status, "%s", inside_ole[i].what);
    return sl_fail(err, SL_ENOTSUP,
                   "it is in an old format of Microsoft Office; save it as DOCX, "
                   "XLSX or PPTX");
}

static sl_status refuse_known(sl_span b, sl_err *err)
{
    if (b.len >= 8 && memcmp(b.ptr, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 8) == 0)
        return refuse_ole(b, err);
    for (size_t i = 0; i < SL_COUNT_OF(refused); i++)
        if (b.len >= refused[i].at + refused[i].len &&
            memcmp(b.ptr + refused[i].at, refused[i].bytes, refused[i].len) == 0)
            return sl_fail(err, SL_ENOTSUP, "it is %s", refused[i].what);
    return SL_OK;
}

/* ---- the shapes of text --------------------------------------------------------------------- */

/* The head of the text in lower case, without the zero bytes of UTF-16. */
static size_t fold_head(sl_span b, char *ret)
{
    size_t n = 0;

    for (size_t i = 0; i < b.len && n < HEAD_BYTES; i++) {
        uint8_t c = b.ptr[i];

        if (c == 0 || (n == 0 && (c == 0xef || c == 0xbb || c == 0xbf || c >= 0xfe || c <= ' ')))
            continue;
        ret[n++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
    }
    ret[n] = '\0';
    return n;
}

static bool is_text_name(const char *name)
{
    static const char *const suffixes[] = { "md", "markdown", "txt", "text", "log" };

    for (size_t i = 0; i < SL_COUNT_OF(suffixes); i++)
        if (reader_name_is(name, suffixes[i]))
            return true;
    return false;
}

static bool is_html(const char *head, const char *name)
{
    static const char *const starts[] = {
        "<!doctype html", "<html",    "<head",    "<body", "<title", "<meta",
        "<div",           "<p>",      "<p ",      "<h1",   "<table", "<script",
        "<style",         "<article", "<section", "<main", "<ul",    "<ol"
    };

    if (head[0] != '<')
        return false;
    for (size_t i = 0; i < SL_COUNT_OF(starts); i++)
        if (strncmp(head, starts[i], strlen(starts[i])) == 0)
            return i < 4 || !is_text_name(name);
    if (strncmp(head, "<?xml", 5) == 0 || strncmp(head, "<!--", 4) == 0)
        return strstr(head, "<html") != NULL;
    return reader_name_is(name, "html") || reader_name_is(name, "htm") ||
           reader_name_is(name, "xhtml");
}

/* Lines "Name: value" of which enough are those that every message has. */
static bool is_mail(const char *head)
{
    static const char *const origins[] = { "from:",       "received:",     "return-path:",
                                           "message-id:", "delivered-to:", "x-mozilla-status:" };
    static const char *const others[] = { "date:",       "subject:",      "to:",
                                          "message-id:", "mime-version:", "content-type:" };
    size_t origin = 0, other = 0;
    const char *p = head;

    if (strncmp(p, "from ", 5) == 0) /* the line in front of a message in a mailbox */
        p += strcspn(p, "\n") + (strchr(p, '\n') != NULL);
    while (*p && *p != '\n' && *p != '\r') {
        size_t line = strcspn(p, "\n"), name = strcspn(p, ": \t\n");

        if (*p != ' ' && *p != '\t' && (name == 0 || p[name] != ':'))
            return false;
        for (size_t i = 0; i < SL_COUNT_OF(origins); i++) {
            origin += strncmp(p, origins[i], strlen(origins[i])) == 0;
            other += strncmp(p, others[i], strlen(others[i])) == 0;
        }
        p += line + (p[line] == '\n');
    }
    return origin >= 1 && other >= 1 && origin + other >= 3;
}

/* Fields of the line at p under a delimiter, quotes respected. */
static size_t count_fields(const char *p, size_t len, char delimiter)
{
    size_t fields = 1;
    bool quoted = false;

    for (size_t i = 0; i < len; i++) {
        if (p[i] == '"')
            quoted = !quoted;
        fields += !quoted && p[i] == delimiter;
    }
    return quoted ? 0 : fields;
}

/* A delimiter under which all lines of the head have the same number of fields, or 0. */
static char find_delimiter(const char *head, size_t len, size_t lines_min, size_t fields_min)
{
    static const char delimiters[] = "\t,;|";

    for (const char *d = delimiters; *d; d++) {
        size_t lines = 0, fields = 0;
        const char *p = head, *end = head + len, *nl;

        while (p < end && (nl = memchr(p, '\n', (size_t)(end - p))) != NULL) {
            size_t line = (size_t)(nl - p), n;

            if (line > 0 && p[line - 1] == '\r')
                line--;
            n = line ? count_fields(p, line, *d) : fields;
            if (n < SL_MAX(fields_min, *d == '\t' ? 2 : fields_min) || (fields && n != fields))
                break;
            fields = n;
            lines += line > 0;
            p = nl + 1;
        }
        if (lines >= lines_min && (p == end || !memchr(p, '\n', (size_t)(end - p))))
            return *d;
    }
    return 0;
}

static bool is_table(const char *head, size_t len, const char *name, reader_type *ret)
{
    bool is_named =
        reader_name_is(name, "csv") || reader_name_is(name, "tsv") || reader_name_is(name, "tab");
    char delimiter = find_delimiter(head, len, 4, 3);

    if (is_named)
        *ret = reader_name_is(name, "csv") ? READER_CSV : READER_TSV;
    else if (delimiter == ',' || delimiter == ';')
        *ret = READER_CSV;
    else if (delimiter == '\t')
        *ret = READER_TSV;
    else
        return false;
    return true;
}

/* One JSON value, or one on each line: by its first line. */
static bool is_json(const char *head, reader_type *ret)
{
    size_t line = strcspn(head, "\n"), next;
    char after = head[1 + strspn(head + 1, " \t\r\n")];

    if (head[0] == '{' ? !strchr("\"}", after)
                       : head[0] != '[' || !strchr("{[\"]-0123456789tfn", after))
        return false;
    next = line + strspn(head + line, "\r\n");
    while (line > 0 && strchr("\r \t", head[line - 1]))
        line--;
    *ret = line > 1 && head[line - 1] == (head[0] == '{' ? '}' : ']') && head[next] == head[0]
               ? READER_JSONL
               : READER_JSON;
    return true;
}

sl_status reader_detect(sl_span b, const char *name, reader_type *ret, sl_err *err)
{
    char head[HEAD_BYTES + 1];
    size_t len = fold_head(b, head);

    *ret = READER_REFUSED;
    if (reader_holds(b, 1024, "%PDF-")) {
        *ret = READER_PDF;
        return SL_OK;
    }
    if (b.len >= 4 && memcmp(b.ptr, "PK", 2) == 0 &&
        (memcmp(b.ptr + 2, "\3\4", 2) == 0 || memcmp(b.ptr + 2, "\5\6", 2) == 0)) {
        *ret = READER_ZIP;
        return SL_OK;
    }
    SL_TRY(refuse_known(b, err));
    *ret = READER_TEXT;
    if (is_html(head, name))
        *ret = READER_HTML;
    else if (is_mail(head))
        *ret = READER_MAIL;
    else if (reader_name_is(name, "md") || reader_name_is(name, "markdown"))
        *ret = READER_MARKDOWN;
    else if (!is_json(head, ret) && !is_table(head, len, name, ret))
        *ret = name && strchr(name, '.') ? READER_TEXT : READER_MARKDOWN;
    return SL_OK;
}
