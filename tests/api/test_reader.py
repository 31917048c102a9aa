"""Documents as people have them, made by the libraries they are made with, through `sluice read`: what was put in
is found word for word, in order, at the right page, under the right heading, with the header of its table."""
import ctypes
import datetime
import email.message
import io
import json
import zipfile

import docx
import openpyxl
import pptx
import pytest
from pptx.util import Inches
from reportlab.lib import colors, pagesizes, pdfencrypt
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen import canvas
from reportlab.platypus import (BaseDocTemplate, Frame, ListFlowable, PageBreak, PageTemplate, Paragraph, Preformatted, Table)

from conftest import sluice

STYLES = getSampleStyleSheet()
WORDS = ("river stone garden market winter letter bridge island forest window silver morning harbour candle "
         "mountain village teacher journey kitchen orchard").split()


def sentence(n):
    """A sentence no other number gives, of some 14 words."""
    picked = [WORDS[(n * 7 + k * (n % 5 + 3)) % len(WORDS)] for k in range(10)]
    return f"Sentence {n} says that {' '.join(picked)} belong together."


def paragraph(n, count=4):
    return " ".join(sentence(n * 10 + k) for k in range(count))


def read(data, name="document", *args):
    result = sluice("read", "--json", "--name", name, "-", *args, stdin=data)
    document = json.loads(result.stdout)
    check(document)
    return document


def check(document):
    """Spans are whole characters of the text, in order, apart."""
    raw, at = document["text"].encode(), 0
    for i, b in enumerate(document["blocks"]):
        assert at <= b["begin"] < b["end"] <= len(raw)
        assert raw[b["begin"]:b["end"]].decode() == b["text"]
        assert b["text"] == b["text"].strip()
        assert b.get("page", 0) <= document["pages"]
        if "header" in b:
            assert b["header"] < i and document["blocks"][b["header"]]["kind"] == "table_row"
        at = b["end"]


def kinds(document, kind):
    return [b for b in document["blocks"] if b["kind"] == kind]


def headings(document):
    return [(b["level"], b["text"]) for b in kinds(document, "heading")]


def find(document, text):
    found = [b for b in document["blocks"] if text in b["text"]]
    assert len(found) == 1, f"{text!r} is in {len(found)} blocks"
    return found[0]


def assert_in_order(document, texts):
    at = 0
    for text in texts:
        at = document["text"].find(text, at)
        assert at >= 0, f"{text!r} is missing or out of order"


def refused(data, name="document", code=1):
    result = sluice("read", "--name", name, "-", stdin=data, check=False)
    assert result.returncode == code, result.stderr
    return result.stderr.decode()


def pdf(story, columns=1, running=True, **kw):
    out = io.BytesIO()
    width, height = pagesizes.A4

    def edges(c, d):
        if running:
            c.setFont("Helvetica", 9)
            c.drawString(60, height - 40, "Annual report of the harbour")
            c.drawCentredString(width / 2, 30, f"Page {d.page} of many")

    gap = 24
    column = (width - 120 - gap * (columns - 1)) / columns
    frames = [Frame(60 + i * (column + gap), 60, column, height - 130, 0, 0, 0, 0) for i in range(columns)]
    doc = BaseDocTemplate(out, pagesize=pagesizes.A4, **kw)
    doc.addPageTemplates([PageTemplate(id="all", frames=frames, onPage=edges)])
    doc.build(story)
    return out.getvalue()


# ---- PDF ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("columns", [1, 2, 3])
def test_pdf_order_and_pages(columns):
    story, paragraphs = [], []
    for s in range(8):
        story.append(Paragraph(f"{s + 1} Chapter about {WORDS[s]}", STYLES["Heading1"]))
        for p in range(5):
            paragraphs.append(paragraph(s * 5 + p))
            story.append(Paragraph(paragraphs[-1], STYLES["BodyText"]))
    d = read(pdf(story, columns, title="The report"))
    assert d["type"] == "application/pdf" and d["title"] == "The report" and d["pages"] >= 3
    # where a column ends with a sentence nobody can tell whether the paragraph does too
    assert_in_order(d, [sentence(n * 10 + k) for n in range(40) for k in range(4)])
    assert columns > 1 or all(find(d, p) for p in paragraphs)
    assert headings(d) == [(1, f"{s + 1} Chapter about {WORDS[s]}") for s in range(8)]
    assert "Annual report" not in d["text"] and "of many" not in d["text"]
    pages = [b["page"] for b in d["blocks"]]
    assert pages == sorted(pages) and pages[0] == 1 and pages[-1] == d["pages"]
    assert all(b["kind"] in ("heading", "paragraph") for b in d["blocks"])


def test_pdf_columns_under_a_wide_title():
    story = [Paragraph(paragraph(n, 5), STYLES["BodyText"]) for n in range(9)]
    out = io.BytesIO()
    width, height = pagesizes.A4

    def title(c, d):
        if d.page == 1:
            c.setFont("Helvetica-Bold", 24)
            c.drawString(60, height - 60, "A title across both of the columns")

    doc = BaseDocTemplate(out, pagesize=pagesizes.A4)
    frames = [Frame(x, 60, 225, height - 150) for x in (54, 312)]
    doc.addPageTemplates([PageTemplate(id="two", frames=frames, onPage=title)])
    doc.build(story)
    d = read(out.getvalue())
    assert headings(d) == [(1, "A title across both of the columns")]
    assert d["title"] == "A title across both of the columns"
    assert_in_order(d, ["A title across", *[sentence(n * 10 + k) for n in range(9) for k in range(5)]])


def test_pdf_lists_tables_code():
    fish = [["Fish", "Price", "From"], ["Cod", "3.50", "Norway"], ["Eel", "12.00", "Ireland"], ["Herring", "0.90", "Denmark"]]
    story = [Paragraph("Prices", STYLES["Title"]), Paragraph(sentence(1), STYLES["BodyText"]),
             Table(fish, style=[("GRID", (0, 0), (-1, -1), 1, colors.black)]),
             ListFlowable([Paragraph(paragraph(n, 2), STYLES["BodyText"]) for n in (2, 3)], bulletType="bullet"),
             Paragraph("Code", STYLES["Heading2"]),
             Preformatted("int main(void)\n{\n    return 0;\n}", STYLES["Code"])]
    d = read(pdf(story, running=False))
    rows = kinds(d, "table_row")
    assert [b["text"] for b in rows] == [" | ".join(r) for r in fish]
    assert [b.get("header") for b in rows] == [None] + [d["blocks"].index(rows[0])] * 3
    assert [b["text"] for b in kinds(d, "list_item")] == [paragraph(2, 2), paragraph(3, 2)]
    assert [b["text"] for b in kinds(d, "code")] == ["int main(void)\n{\n    return 0;\n}"]
    assert headings(d) == [(1, "Prices"), (2, "Code")]


def test_pdf_hyphens_and_page_breaks():
    out = io.BytesIO()
    c = canvas.Canvas(out, pagesize=pagesizes.A4)
    for i, line in enumerate(["The administration of the har-", "bour decided that self-", "Service is not allowed on the long",
                              "pier any more, and that"]):
        c.drawString(72, 700 - 14 * i, line)
    c.showPage()
    for i, line in enumerate(["nobody may sleep there at all.", "A new paragraph would be here."]):
        c.drawString(72, 700 - 14 * i, line)
    c.save()
    d = read(out.getvalue())
    assert d["blocks"][0]["text"].startswith("The administration of the harbour decided that self- Service is not")
    assert "pier any more, and that nobody may sleep" in d["blocks"][0]["text"]
    assert d["blocks"][0]["page"] == 1 and d["pages"] == 2


def has_landlock():
    return ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) >= 1


@pytest.mark.skipif(not has_landlock(), reason="the kernel has no Landlock")
def test_pdf_with_fonts_of_the_system():
    """Old Chinese files name a font and codes; what the codes mean stands in poppler-data."""
    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    out = io.BytesIO()
    c = canvas.Canvas(out)
    c.setFont("STSong-Light", 12)
    for i, line in enumerate(["为了保护公民的合法权益，维护社会秩序，制定本办法。本办法所称", "的服务，是指通过互联网向公众提供信息的活动。"]):
        c.drawString(72, 700 - 16 * i, line)
    c.save()
    d = read(out.getvalue())
    assert [b["text"] for b in d["blocks"]] == [
        "为了保护公民的合法权益，维护社会秩序，制定本办法。本办法所称的服务，是指通过互联网向公众提供信息的活动。"]


def test_pdf_page_of_each_sentence():
    story = []
    for page in range(12):
        story += [Paragraph(f"Part {page}", STYLES["Heading1"]), Paragraph(paragraph(page), STYLES["BodyText"]), PageBreak()]
    d = read(pdf(story))
    assert d["pages"] == 12
    for page in range(12):
        assert find(d, sentence(page * 10))["page"] == page + 1


def test_pdf_refused():
    out = io.BytesIO()
    c = canvas.Canvas(out, encrypt=pdfencrypt.StandardEncryption("secret", canPrint=0))
    c.drawString(72, 700, "Hidden words")
    c.save()
    assert "password" in refused(out.getvalue(), "x.pdf")
    out = io.BytesIO()
    c = canvas.Canvas(out)
    c.rect(72, 400, 200, 200, fill=1)
    c.save()
    assert "OCR" in refused(out.getvalue(), "x.pdf")
    assert "damaged" in refused(b"%PDF-1.7\n" + bytes(range(32, 127)) * 20, "x.pdf")


def test_pdf_of_ten_thousand_pages():
    out = io.BytesIO()
    c = canvas.Canvas(out, pageCompression=1)
    for page in range(10000):
        c.drawString(72, 700, f"Words of page {page + 1}.")
        c.showPage()
    c.save()
    d = read(out.getvalue())
    assert d["pages"] == 10000
    assert find(d, "Words of page 9876.")["page"] == 9876


# ---- Office ---------------------------------------------------------------------------------------------------------

def make_docx():
    d = docx.Document()
    d.core_properties.title = "Handbook"
    d.add_heading("The handbook", 0)
    for chapter in range(3):
        d.add_heading(f"Chapter {chapter}", 1)
        d.add_paragraph(paragraph(chapter * 3))
        d.add_heading(f"Section {chapter}", 2)
        p = d.add_paragraph(sentence(chapter * 30 + 15) + " ")
        p.add_run(sentence(chapter * 30 + 16)).bold = True
    d.add_paragraph("A bullet", style="List Bullet")
    d.add_paragraph("A deeper bullet", style="List Bullet 2")
    d.add_paragraph("First step", style="List Number")
    d.add_paragraph("Second step", style="List Number")
    rows = [["Name", "Age", "City"], ["Ann", "31", "Oslo"], ["Bob", "47", "北京"]]
    t = d.add_table(rows=3, cols=3)
    for i, row in enumerate(rows):
        for j, text in enumerate(row):
            t.cell(i, j).text = text
    d.add_paragraph("Line one\nLine two")
    d.sections[0].header.paragraphs[0].text = "Running header"
    out = io.BytesIO()
    d.save(out)
    return out.getvalue()


def test_docx():
    d = read(make_docx(), "misnamed.txt")
    assert d["type"].endswith("wordprocessingml.document") and d["title"] == "Handbook" and d["pages"] == 0
    expected = [(1, "The handbook")]
    for c in range(3):
        expected += [(1, f"Chapter {c}"), (2, f"Section {c}")]
    assert headings(d) == expected
    assert_in_order(d, [t for c in range(3) for t in
                        (paragraph(c * 3), f"{sentence(c * 30 + 15)} {sentence(c * 30 + 16)}")])
    assert [b["text"] for b in kinds(d, "list_item")] == ["A bullet", "A deeper bullet", "1. First step", "2. Second step"]
    rows = kinds(d, "table_row")
    assert [b["text"] for b in rows] == ["Name | Age | City", "Ann | 31 | Oslo", "Bob | 47 | 北京"]
    assert [b.get("header") for b in rows] == [None] + [d["blocks"].index(rows[0])] * 2
    assert d["blocks"][-1]["text"] == "Line one\nLine two"
    assert "Running header" not in d["text"]


def test_pptx():
    p = pptx.Presentation()
    s = p.slides.add_slide(p.slide_layouts[0])
    s.shapes.title.text = "About the harbour"
    s.placeholders[1].text = "By Ann"
    for n in range(3):
        s = p.slides.add_slide(p.slide_layouts[1])
        s.shapes.title.text = f"Slide {n}"
        s.placeholders[1].text_frame.text = sentence(n)
        deeper = s.placeholders[1].text_frame.add_paragraph()
        deeper.text, deeper.level = sentence(n + 100), 1
        s.notes_slide.notes_text_frame.text = sentence(n + 200)
    t = s.shapes.add_table(2, 2, Inches(1), Inches(3), Inches(4), Inches(1)).table
    for i in range(2):
        for j in range(2):
            t.cell(i, j).text = f"cell {i} {j}"
    hidden = p.slides.add_slide(p.slide_layouts[1])
    hidden.shapes.title.text = "Not for the audience"
    hidden._element.set("show", "0")
    out = io.BytesIO()
    p.save(out)
    d = read(out.getvalue())
    assert d["pages"] == 5 and d["title"]
    assert headings(d) == [(1, "About the harbour")] + [(1, f"Slide {n}") for n in range(3)]
    for n in range(3):
        assert (find(d, sentence(n))["page"], find(d, sentence(n))["kind"], find(d, sentence(n))["level"]) == (n + 2, "list_item", 1)
        assert find(d, sentence(n + 100))["level"] == 2
        assert find(d, sentence(n + 200))["page"] == n + 2
    assert [b["text"] for b in kinds(d, "table_row")] == ["cell 0 0 | cell 0 1", "cell 1 0 | cell 1 1"]
    assert "audience" not in d["text"]


def test_xlsx():
    wb = openpyxl.Workbook()
    ws = wb.active
    ws.title = "Fish"
    ws.append(["Name", "Price", "Caught", "Share"])
    ws.append(["Cod", 3.5, datetime.date(2024, 2, 29), 0.125])
    ws.append(["Eel", None, datetime.datetime(2023, 12, 31, 23, 59), 1])
    ws["D2"].number_format = "0.0%"
    second = wb.create_sheet("People")
    second["A1"] = "All who were there"
    second["B3"], second["C3"], second["B4"], second["C4"] = "Who", "Age", "Ann", 0.1 + 0.2
    wb.create_sheet("Secret").sheet_state = "hidden"
    wb["Secret"]["A1"] = "nobody sees this"
    out = io.BytesIO()
    wb.save(out)
    d = read(out.getvalue(), "x.zip")
    assert d["pages"] == 2 and headings(d) == [(1, "Fish"), (1, "People")]
    assert [(b["text"], b["page"]) for b in kinds(d, "table_row")] == [
        ("Name | Price | Caught | Share", 1), ("Cod | 3.5 | 2024-02-29 | 12.5%", 1), ("Eel | | 2023-12-31 23:59 | 1", 1),
        ("| Who | Age", 2), ("| Ann | 0.3", 2)]
    assert [b.get("header") for b in kinds(d, "table_row")] == [None, 1, 1, None, 6]
    assert find(d, "All who were there")["kind"] == "paragraph"
    assert "nobody" not in d["text"]


def test_xlsx_of_many_rows():
    wb = openpyxl.Workbook(write_only=True)
    ws = wb.create_sheet("Rows")
    for i in range(20000):
        ws.append([f"row {i}", i, i / 8])
    out = io.BytesIO()
    wb.save(out)
    d = read(out.getvalue())
    assert len(kinds(d, "table_row")) == 20000
    assert find(d, "row 19999 |")["text"] == "row 19999 | 19999 | 2499.875"


def test_epub():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        z.writestr("META-INF/container.xml", '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:'
                   'container"><rootfiles><rootfile full-path="OEBPS/content.opf"/></rootfiles></container>')
        items = "".join(f'<item id="c{n}" href="ch%20{n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(4))
        spine = "".join(f'<itemref idref="c{n}"/>' for n in (2, 0, 3, 1))
        z.writestr("OEBPS/content.opf", f'<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/'
                   f'elements/1.1/"><dc:title>The book</dc:title></metadata><manifest>{items}</manifest><spine>{spine}</spine></package>')
        for n in range(4):
            z.writestr(f"OEBPS/ch {n}.xhtml", f'<?xml version="1.0"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><head>'
                       f'<title>x</title></head><body><h2>Chapter {n}</h2><p>{paragraph(n)}</p></body></html>')
    d = read(out.getvalue())
    assert d["type"] == "application/epub+zip" and d["title"] == "The book"
    assert headings(d) == [(2, f"Chapter {n}") for n in (2, 0, 3, 1)]
    assert_in_order(d, [paragraph(n) for n in (2, 0, 3, 1)])


# ---- the web and mail -----------------------------------------------------------------------------------------------

def test_html():
    menu = "".join(f'<li><a href="/{n}">Link {n}</a></li>' for n in range(9))
    body = "".join(f"<h2>Part {n}</h2><p>{paragraph(n)}</p>" for n in range(4))
    page = (f"<!DOCTYPE html><html><head><title>The page – site</title></head><body><div class='topbar nav'><ul>{menu}</ul></div>"
            f"<main><h1>The page</h1>{body}<table><tr><th>Name</th><th>Age</th></tr><tr><td>Ann</td><td>31</td></tr></table></main>"
            f"<div id='cookie-consent'>We like cookies</div><footer><p>Imprint</p></footer></body></html>")
    d = read(page.encode(), "page.txt")
    assert d["type"] == "text/html" and d["title"] == "The page – site"
    assert headings(d) == [(1, "The page")] + [(2, f"Part {n}") for n in range(4)]
    assert_in_order(d, [paragraph(n) for n in range(4)])
    assert [b["text"] for b in kinds(d, "table_row")] == ["Name | Age", "Ann | 31"]
    for word in ("Link 3", "cookies", "Imprint"):
        assert word not in d["text"]


def test_mail_with_attachments():
    m = email.message.EmailMessage()
    m["Subject"], m["From"], m["To"] = "Häfen und 港口", "Jörg <joerg@example.org>", "ann@example.org"
    m.set_content(f"{sentence(1)}\n\n{sentence(2)} äöü\n")
    m.add_alternative(f"<p>{sentence(903)}</p>", subtype="html")
    m.add_attachment(make_docx(), maintype="application", subtype="octet-stream", filename="Bericht ä.bin")
    m.add_attachment(pdf([Paragraph(paragraph(50), STYLES["BodyText"])]), maintype="application", subtype="pdf", filename="a.pdf")
    m.add_attachment(b"\x89PNG\r\n\x1a\n", maintype="application", subtype="octet-stream", filename="photo.png")
    inner = email.message.EmailMessage()
    inner["Subject"], inner["From"] = "Forwarded", "bob@example.org"
    inner.set_content(sentence(60))
    m.add_attachment(inner)
    d = read(bytes(m))
    assert d["type"] == "message/rfc822" and d["title"] == "Häfen und 港口"
    assert headings(d)[0] == (1, "Häfen und 港口")
    assert (2, "Attachment: Bericht ä.bin") in headings(d) and (3, "Chapter 1") in headings(d)
    assert (3, "Forwarded") in headings(d)
    assert_in_order(d, [sentence(1), sentence(2), "Attachment: Bericht", paragraph(3), "Ann | 31 | Oslo", paragraph(50),
                        "photo.png", "OCR", sentence(60)])
    assert sentence(903) not in d["text"]
    assert "From: Jörg <joerg@example.org>" in d["text"]


# ---- text -----------------------------------------------------------------------------------------------------------

def test_markdown_is_the_file():
    text = "---\ntitle: Words\n---\n\n# One\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- item\n\n```\ncode\n```\n"
    d = read(text.encode(), "x.md")
    assert d["text"] == text and d["title"] == "Words" and d["type"] == "text/markdown"
    assert [b["kind"] for b in d["blocks"]] == ["heading", "table_row", "table_row", "list_item", "code"]


@pytest.mark.parametrize("charset", ["gb18030", "utf-16", "utf-8-sig", "utf-32"])
def test_encodings(charset):
    text = "第一章 总则\n\n为了保护公民、法人和其他组织的合法权益，维护社会秩序和经济秩序，制定本办法。\n"
    assert read(text.encode(charset), "x.txt")["text"] == text


def test_large_markdown_and_json():
    """What is longer than 64 KiB is read in a process of its own, to the same end."""
    text = "".join(f"## Part {n}\n\n{paragraph(n)}\n\n" for n in range(400))
    d = read(text.encode(), "x.md")
    assert len(kinds(d, "heading")) == 400 and d["text"] == text
    rows = [{"name": f"n{n}", "text": sentence(n)} for n in range(2000)]
    d = read(json.dumps(rows).encode(), "x.json")
    assert [b["text"] for b in kinds(d, "table_row")][:2] == ["name | text", f"n0 | {sentence(0)}"]
    lines = "".join(json.dumps({"title": f"T{n}", "text": paragraph(n)}) + "\n" for n in range(500))
    d = read(lines.encode(), "x.jsonl")
    assert_in_order(d, [paragraph(n) for n in range(500)])


def test_command(tmp_path):
    f = tmp_path / "a.html"
    f.write_text("<html><body><h1>One</h1><p>Two</p></body></html>")
    assert sluice("read", str(f)).stdout.decode() == "One\n\nTwo\n"
    assert "none" in refused_file(tmp_path / "none")
    assert "DOCX" in refused(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "WordDocument".encode("utf-16-le"), "x.doc")
    assert "ZIP archive" in refused(zip_of(("a.txt", b"x")), "x.zip")
    assert "empty" in refused(b"", "x.txt", 2)
    r = sluice("read-document", check=False)
    assert r.returncode == 2 and r.stdout == b""
    assert "read-document" not in sluice("--help").stdout.decode()


def zip_of(*files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in files:
            z.writestr(name, data)
    return out.getvalue()


def refused_file(path):
    r = sluice("read", str(path), check=False)
    assert r.returncode == 1
    return r.stderr.decode()
