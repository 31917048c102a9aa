/* samples.h - small documents of every type, made in memory. */
#ifndef READER_SAMPLES_H
#define READER_SAMPLES_H

#include <zip.h>

#include "reader/reader_int.h"

typedef struct sample_part {
    const char *name;
    const void *bytes;
    size_t len;
} sample_part;

/* An archive of parts, compressed, into ret (initialised here). */
static inline void make_zip(const sample_part *parts, size_t count, sl_buf *ret)
{
    zip_error_t why;
    zip_source_t *target = zip_source_buffer_create(NULL, 0, 0, &why);
    zip_t *z = zip_open_from_source(target, ZIP_CREATE | ZIP_TRUNCATE, &why);
    zip_stat_t st;

    SL_ASSERT(z);
    zip_source_keep(target);
    for (size_t i = 0; i < count; i++)
        SL_ASSERT(zip_file_add(z, parts[i].name,
                               zip_source_buffer(z, parts[i].bytes, parts[i].len, 0), 0) >= 0);
    SL_ASSERT(zip_close(z) == 0);
    SL_ASSERT(zip_source_open(target) == 0);
    SL_ASSERT(zip_source_stat(target, &st) == 0);
    sl_buf_init(ret, 256 * SL_MIB);
    for (char chunk[4096];;) {
        zip_int64_t n = zip_source_read(target, chunk, sizeof chunk);

        if (n <= 0)
            break;
        sl_buf_put(ret, chunk, (size_t)n);
    }
    SL_ASSERT(ret->len == st.size);
    zip_source_close(target);
    zip_source_free(target);
}

#define W       "xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\""
#define P(text) "<w:p><w:r><w:t>" text "</w:t></w:r></w:p>"

static const char docx_document[] =
    "<?xml version=\"1.0\"?><w:document " W "><w:body>"
    "<w:p><w:pPr><w:pStyle w:val=\"H2\"/></w:pPr><w:r><w:t>Part</w:t></w:r></w:p>"
    "<w:p><w:r><w:t xml:space=\"preserve\">Some "
    "</w:t></w:r><w:r><w:t>words</w:t><w:footnoteReference "
    "w:id=\"2\"/></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
    "<w:p><w:pPr><w:numPr><w:ilvl w:val=\"0\"/><w:numId "
    "w:val=\"5\"/></w:numPr></w:pPr><w:r><w:t>first"
    "</w:t></w:r></w:p>"
    "<w:p><w:pPr><w:numPr><w:ilvl w:val=\"1\"/><w:numId "
    "w:val=\"5\"/></w:numPr></w:pPr><w:r><w:t>deeper"
    "</w:t></w:r></w:p>"
    "<w:p><w:pPr><w:numPr><w:ilvl w:val=\"0\"/><w:numId "
    "w:val=\"5\"/></w:numPr></w:pPr><w:r><w:t>second"
    "</w:t></w:r></w:p>"
    "<w:tbl><w:tr><w:tc>" P("a") P("b") "</w:tc><w:tc>" P(
        "c") "</w:tc></w:tr>"
             "<w:tr><w:tc>" P("1") "</w:tc><w:tc>" P("2") "</w:tc></w:tr></w:tbl>"
                                                          "</w:body></w:document>";
static const char docx_styles[] =
    "<w:styles " W "><w:style w:type=\"paragraph\" w:styleId=\"H\"><w:name w:val=\"heading 2\"/>"
    "</w:style><w:style w:type=\"paragraph\" w:styleId=\"H2\"><w:name w:val=\"My own\"/>"
    "<w:basedOn w:val=\"H\"/></w:style></w:styles>";
static const char docx_numbering[] =
    "<w:numbering " W
    "><w:abstractNum w:abstractNumId=\"1\"><w:lvl w:ilvl=\"0\"><w:start w:val=\"3\"/>"
    "<w:numFmt w:val=\"decimal\"/><w:lvlText w:val=\"%1.\"/></w:lvl><w:lvl w:ilvl=\"1\"><w:start "
    "w:val=\"1\"/><w:numFmt w:val=\"lowerLetter\"/><w:lvlText "
    "w:val=\"%1.%2)\"/></w:lvl></w:abstractNum>"
    "<w:num w:numId=\"5\"><w:abstractNumId w:val=\"1\"/></w:num></w:numbering>";
static const char docx_notes[] =
    "<w:footnotes " W "><w:footnote w:type=\"separator\" w:id=\"0\">" P(
        "x") "</w:footnote>"
             "<w:footnote w:id=\"2\">" P("The note.") "</w:footnote></w:footnotes>";

#define PART(name, text)                                                                           \
    {                                                                                              \
        name, text, sizeof text - 1                                                                \
    }

static const sample_part docx_parts[] = { PART("word/document.xml", docx_document),
                                          PART("word/styles.xml", docx_styles),
                                          PART("word/numbering.xml", docx_numbering),
                                          PART("word/footnotes.xml", docx_notes) };
static const char docx_want[] =
    "h2: Part\np: Some words\np: The note.\nl1: 3. first\nl2: 3.a) deeper\n"
    "l1: 4. second\nt: a b | c\nt^6: 1 | 2\n";

#define A "xmlns:a=\"http://schemas.openxmlformats.org/drawingml/2006/main\""
#define R "xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\""
#define REL(id, type, target)                                                                      \
    "<Relationship Id=\"" id "\" Type=\"http://x/" type "\" Target=\"" target "\"/>"

static const char pptx_presentation[] =
    "<p:presentation xmlns:p=\"p\" " R "><p:sldIdLst><p:sldId id=\"256\" r:id=\"r2\"/><p:sldId "
    "id=\"257\" r:id=\"r1\"/></p:sldIdLst></p:presentation>";
static const char pptx_rels[] = "<Relationships>" REL("r1", "slide", "slides/b.xml")
    REL("r2", "slide", "slides/a.xml") "</Relationships>";
static const char pptx_a[] =
    "<p:sld xmlns:p=\"p\" " A "><p:sp><p:nvPr><p:ph type=\"ctrTitle\"/></p:nvPr><a:p><a:r><a:t>Deck"
    "</a:t></a:r></a:p></p:sp><p:sp><p:nvPr><p:ph "
    "type=\"sldNum\"/></p:nvPr><a:p><a:fld><a:t>1</a:t>"
    "</a:fld></a:p></p:sp></p:sld>";
static const char pptx_b[] =
    "<p:sld xmlns:p=\"p\" " A "><p:sp><p:nvPr><p:ph type=\"title\"/></p:nvPr><a:p><a:r><a:t>Second"
    "</a:t></a:r></a:p></p:sp><p:sp><p:nvPr><p:ph "
    "idx=\"1\"/></p:nvPr><a:p><a:r><a:t>point</a:t></a:r>"
    "</a:p><a:p><a:pPr lvl=\"1\"/><a:r><a:t>sub</a:t></a:r></a:p></p:sp></p:sld>";
static const char pptx_b_rels[] =
    "<Relationships>" REL("r1", "notesSlide", "../notesSlides/n.xml") "</Relationships>";
static const char pptx_notes[] =
    "<p:notes xmlns:p=\"p\" " A
    "><p:sp><p:nvPr><p:ph type=\"body\"/></p:nvPr><a:p><a:r><a:t>Say hello"
    "</a:t></a:r></a:p></p:sp></p:notes>";
static const sample_part pptx_parts[] = {
    PART("ppt/presentation.xml", pptx_presentation),
    PART("ppt/_rels/presentation.xml.rels", pptx_rels),
    PART("ppt/slides/a.xml", pptx_a),
    PART("ppt/slides/b.xml", pptx_b),
    PART("ppt/slides/_rels/b.xml.rels", pptx_b_rels),
    PART("ppt/notesSlides/n.xml", pptx_notes),
};
static const char pptx_want[] =
    "h1@1: Deck\nh1@2: Second\nl1@2: point\nl2@2: sub\np@2: Say hello\n";

static const char xlsx_workbook[] =
    "<workbook " R "><sheets><sheet name=\"Fish\" sheetId=\"1\" r:id=\"s1\"/></sheets></workbook>";
static const char xlsx_rels[] = "<Relationships>" REL("s1", "worksheet", "sheets/one.xml")
    REL("s2", "sharedStrings", "strings.xml") REL("s3", "styles", "styles.xml") "</Relationships>";
static const char xlsx_strings[] =
    "<sst><si><t>Name</t></si><si><r><t>Wh</t></r><r><t>en</t></r><rPh><t>no</t></rPh></si></sst>";
static const char xlsx_styles[] =
    "<styleSheet><numFmts><numFmt numFmtId=\"170\" formatCode=\"[$-409]"
    "d/mmm/yyyy\"/></numFmts><cellXfs><xf numFmtId=\"0\"/><xf "
    "numFmtId=\"170\"/><xf numFmtId=\"9\"/></cellXfs></styleSheet>";
static const char xlsx_sheet[] =
    "<worksheet><sheetData><row r=\"1\"><c r=\"A1\" t=\"s\"><v>0</v></c><c r=\"C1\" "
    "t=\"s\"><v>1</v></c>"
    "</row><row><c r=\"A2\" t=\"inlineStr\"><is><t>Cod</t></is></c><c r=\"B2\" "
    "s=\"2\"><v>0.5</v></c>"
    "<c r=\"C2\" s=\"1\"><v>45351</v></c><c t=\"b\"><v>1</v></c></row></sheetData></worksheet>";
static const sample_part xlsx_parts[] = {
    PART("xl/workbook.xml", xlsx_workbook), PART("xl/_rels/workbook.xml.rels", xlsx_rels),
    PART("xl/strings.xml", xlsx_strings),   PART("xl/styles.xml", xlsx_styles),
    PART("xl/sheets/one.xml", xlsx_sheet),
};
static const char xlsx_want[] =
    "h1@1: Fish\nt@1: Name | | When\nt@1^1: Cod | 50% | 2024-02-29 | TRUE\n";

static const char epub_container[] =
    "<container><rootfiles><rootfile full-path=\"O/x.opf\"/></rootfiles></container>";
static const char epub_opf[] =
    "<package><metadata><dc:title xmlns:dc=\"d\">Book</dc:title></metadata><manifest><item "
    "id=\"b\" "
    "href=\"b.html\" media-type=\"application/xhtml+xml\"/><item id=\"a\" href=\"a%20b.html\" "
    "media-type=\"application/xhtml+xml\"/></manifest><spine><itemref idref=\"a\"/><itemref "
    "idref=\"b\"/></spine></package>";
static const char epub_a[] = "<html><body><h1>A</h1><p>one</p><aside>a note</aside></body></html>";
static const char epub_b[] = "<html><body><h1>B</h1><p>two</p></body></html>";
static const sample_part epub_parts[] = { PART("META-INF/container.xml", epub_container),
                                          PART("O/x.opf", epub_opf), PART("O/a b.html", epub_a),
                                          PART("O/b.html", epub_b) };
static const char epub_want[] = "h1: A\np: one\np: a note\nh1: B\np: two\n";

/* A PDF of pages with the same stream; text is a line of Helvetica. Offsets are left to be found.
 */
static inline void make_pdf(const char *text, size_t pages, sl_buf *ret)
{
    size_t len = strlen(text) + 37;

    sl_buf_init(ret, 64 * SL_MIB);
    sl_buf_puts(ret, "%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n"
                     "3 0 obj\n<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>\nendobj\n");
    sl_buf_printf(ret,
                  "4 0 obj\n<</Length %zu>>\nstream\nBT /F1 12 Tf 72 400 Td (%s) Tj ET     \n"
                  "endstream\nendobj\n2 0 obj\n<</Type/Pages/Count %zu/Kids[",
                  len, text, pages);
    for (size_t i = 0; i < pages; i++)
        sl_buf_printf(ret, "%zu 0 R ", 10 + i);
    sl_buf_puts(ret, "]>>\nendobj\n");
    for (size_t i = 0; i < pages; i++)
        sl_buf_printf(ret,
                      "%zu 0 obj\n<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R"
                      "/Resources<</Font<</F1 3 0 R>>>>>>\nendobj\n",
                      10 + i);
    sl_buf_puts(ret, "trailer\n<</Root 1 0 R>>\n%%EOF\n");
}

#endif
