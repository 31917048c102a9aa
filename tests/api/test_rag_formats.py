"""From a file of any format to a citation and back: the quoted sentence stands at its place in the document's text,
and on the page it was put on. The model is scripted, all else is real."""
import email.message
import io
import json
import zipfile

import docx
import openpyxl
import pptx
import pytest
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate

FACT = "The zebra grazes savanna grassland in herds of hundreds."
FILLER = ["The harbour was rebuilt in a long winter by masons of the old town.",
          "Letters reached the island by boat, twice a week in fair weather."]
QUESTION = "What does the zebra do? SAY The zebra grazes savanna grassland in herds {1}."


def saved(document):
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def make_pdf():
    out, style = io.BytesIO(), getSampleStyleSheet()
    SimpleDocTemplate(out).build([Paragraph(FILLER[0], style["BodyText"]), PageBreak(),
                                  Paragraph("Animals", style["Heading1"]), Paragraph(FACT, style["BodyText"]), PageBreak(),
                                  Paragraph(FILLER[1], style["BodyText"])])
    return out.getvalue()


def make_docx():
    d = docx.Document()
    d.add_paragraph(FILLER[0])
    d.add_heading("Animals", 1)
    d.add_paragraph(FACT)
    return saved(d)


def make_pptx():
    p = pptx.Presentation()
    for title, text in (("Harbour", FILLER[0]), ("Animals", FACT)):
        s = p.slides.add_slide(p.slide_layouts[1])
        s.shapes.title.text, s.placeholders[1].text_frame.text = title, text
    return saved(p)


def make_xlsx():
    wb = openpyxl.Workbook()
    wb.active.append(["harbour"])
    wb.active.append([FILLER[0]])
    ws = wb.create_sheet("Animals")
    for row in (["animal", "what it does"], ["zebra", FACT]):
        ws.append(row)
    return saved(wb)


def make_html():
    return (f"<!DOCTYPE html><html><head><title>Zoo</title></head><body><nav><a href='/'>Home</a></nav><main><p>{FILLER[0]}</p>"
            f"<h2>Animals</h2><p>The zebra grazes <b>savanna</b>\n grassland in herds of hundreds.</p></main></body></html>").encode()


def make_epub():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("mimetype", "application/epub+zip")
        z.writestr("META-INF/container.xml", '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
                   '<rootfile full-path="b.opf"/></rootfiles></container>')
        z.writestr("b.opf", '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="a" href="a.xhtml" '
                   'media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>')
        z.writestr("a.xhtml", f"<html xmlns='http://www.w3.org/1999/xhtml'><body><p>{FILLER[0]}</p><h1>Animals</h1><p>{FACT}</p></body></html>")
    return out.getvalue()


def make_mail():
    m = email.message.EmailMessage()
    m["Subject"], m["From"] = "Animals", "ann@example.org"
    m.set_content(FILLER[0])
    m.add_attachment(make_pdf(), maintype="application", subtype="pdf", filename="zebra.pdf")
    return bytes(m)


# name, bytes, page that the fact is on
FORMATS = [
    ("plain.txt", f"{FILLER[0]}\n\n{FACT}\n".encode(), None),
    ("utf16.txt", f"{FILLER[0]}\n\n{FACT}\n".encode("utf-16"), None),
    ("notes.md", f"{FILLER[0]}\n\n# Animals\n\n{FACT}\n".encode(), None),
    ("page.html", make_html(), None),
    ("report.pdf", make_pdf(), 2),
    ("report.docx", make_docx(), None),
    ("talk.pptx", make_pptx(), 2),
    ("table.xlsx", make_xlsx(), 2),
    ("book.epub", make_epub(), None),
    ("table.csv", f'animal,text\nzebra,"{FACT}"\n'.encode(), None),
    ("data.json", json.dumps({"animals": [{"name": "zebra", "text": FACT}]}).encode(), None),
    ("data.jsonl", (json.dumps({"text": FILLER[0]}) + "\n" + json.dumps({"text": FACT}) + "\n").encode(), None),
    ("letter.eml", make_mail(), None),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from conftest import start_fake
    s = start_fake(env={"FAKE_DATA": str(tmp_path_factory.mktemp("formats")), "FAKE_DOCS": "1"})
    yield s
    assert s.stop() == 0


@pytest.mark.parametrize("name,data,page", FORMATS, ids=[f[0] for f in FORMATS])
def test_cited_span_is_in_the_document(server, name, data, page):
    where = {"collection": name}
    with server.client() as c:
        r = c.post("/v1/rag/documents", data=where, files={"file": (name, data)})
        assert r.status_code < 300, r.text
        (document,) = r.json()["data"]
        assert document["status"] == "completed", document
        r = c.post("/v1/rag/query", json={"question": QUESTION, **where})
        assert r.status_code == 200, r.text
        (citation,) = r.json()["citations"]
        text = c.get(f"/v1/rag/documents/{document['id']}/text", params=where).content
    assert citation["document"] == name and citation["page"] == page
    assert text[citation["start"]:citation["end"]].decode() == citation["text"]
    assert text[citation["quote_start"]:citation["quote_end"]].decode() == citation["quote"]
    assert FACT in citation["quote"]
