from __future__ import annotations

import io
import json
import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pypdfium2
import pytest
from fpdf import FPDF
from fpdf.enums import EncryptionMethod

from nest_engine import Citation, Passage
from nest_engine.errors import ConfigError, InputError, MissingDependencyError
from nest_engine.retrieval import (
    Document,
    PassageIndex,
    Skipped,
    is_index,
    page_picture,
    read_documents,
    read_passages,
)
from nest_engine.retrieval.formats import PARSERS
from nest_engine.retrieval.formats.pdf import PdfFile


def pdf(
    *pages: str,
    title: str | None = None,
    password: str | None = None,
    method: str = "AES_256",
    turned: int = 0,
    columns: Sequence[tuple[str, ...]] = (),
) -> bytes:
    """Return a PDF file: a page for each text, or one of rows of columns, drawn row by row."""
    document = FPDF()
    document.set_font("helvetica", size=12)
    for text in pages:
        document.add_page()
        for number, line in enumerate(text.split("\n")):
            if line:
                document.text(30, 30 + 6 * number, line)
    if columns:
        document.add_page()
    for row, cells in enumerate(columns):
        for column, cell in enumerate(cells):
            document.text(20 + 60 * column, 20 + 5 * row, cell)
    if title:
        document.set_title(title)
    if password is not None:
        document.set_encryption(
            "owner", password or None, encryption_method=EncryptionMethod[method]
        )
    data = bytes(document.output())
    return turn(data, turned) if turned else data


def turn(data: bytes, degrees: int) -> bytes:
    """Return a PDF file whose first page is shown turned."""
    document = pypdfium2.PdfDocument(data)
    page = document[0]
    page.set_rotation(degrees)
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def read_one(path: Path, **options: object) -> Document:
    (document,) = read_documents(path, **options)  # type: ignore[arg-type]
    assert isinstance(document, Document)
    return document


def skips(items: list[Skipped]) -> dict[str, str]:
    return dict(items)


def check_slices(passages: list[Passage], documents: list[Document]) -> None:
    sources = {document.id: document for document in documents}
    for passage in passages:
        document_id, start = passage.id.rsplit("#", 1)
        assert passage.metadata["start_index"] == int(start)
        assert (
            sources[document_id].text[int(start) : int(start) + len(passage.text)] == passage.text
        )


class TestFolder:
    def test_reads_all_types_in_order(self, tmp_path: Path):
        (tmp_path / "b.txt").write_text("Plain text.")
        (tmp_path / "a.md").write_text("# Heading\n\nMarkdown text.")
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "page.HTML").write_text("<title>Page</title><p>Web text.</p>")
        (tmp_path / "sub" / "lines.jsonl").write_text('{"title": "Line", "text": "JSON text."}\n')
        (tmp_path / "sub" / "paper.pdf").write_bytes(pdf("PDF text.", title="Paper"))
        result = read_passages(tmp_path)
        assert result.skipped == []
        assert [(p.title, p.metadata["source"], p.id) for p in result.passages] == [
            ("Heading", "a.md", "a.md#0"),
            ("b", "b.txt", "b.txt#0"),
            ("Line", "sub/lines.jsonl", "sub/lines.jsonl:1#0"),
            ("Page", "sub/page.HTML", "sub/page.HTML#0"),
            ("Paper", "sub/paper.pdf", "sub/paper.pdf#0"),
        ]
        assert [p.uri for p in result.passages[:2]] == [
            str(tmp_path / "a.md"),
            str(tmp_path / "b.txt"),
        ]
        check_slices(
            result.passages,
            [item for item in read_documents(tmp_path) if isinstance(item, Document)],
        )

    def test_what_cannot_be_read_is_reported_and_the_rest_kept(self, tmp_path: Path, monkeypatch):
        (tmp_path / "good.txt").write_text("Good text.")
        (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
        (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 and then nothing of the kind")
        (tmp_path / "half.pdf").write_bytes(pdf("Some text.")[:200])
        (tmp_path / "empty.md").write_text(" \n")
        (tmp_path / "scan.pdf").write_bytes(pdf(""))
        (tmp_path / "large.txt").write_text("x" * 2000)
        (tmp_path / "photo.jpeg").write_bytes(b"\xff\xd8")
        (tmp_path / "README").write_text("No suffix.")
        (tmp_path / ".secret.txt").write_text("Hidden.")
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git" / "notes.txt").write_text("Hidden too.")
        (tmp_path / "locked.txt").write_text("Locked.")
        open_path = Path.open

        def deny(path: Path, *args, **kwargs):
            if path.name == "locked.txt":
                raise PermissionError(13, "Permission denied", str(path))
            return open_path(path, *args, **kwargs)

        monkeypatch.setattr(Path, "open", deny)
        result = read_passages(tmp_path, max_bytes=1500)
        assert [passage.text for passage in result.passages] == ["Good text."]
        skipped = skips(result.skipped)
        assert skipped.pop("broken.pdf").startswith("damaged or not what its name says: ")
        assert skipped.pop("half.pdf").startswith("damaged or not what its name says: ")
        known = f"known types: {', '.join(PARSERS)}"
        assert skipped == {
            "latin.txt": "not valid utf-8: byte 0xe9 at offset 3; convert the file to UTF-8",
            "empty.md": "holds no text",
            "scan.pdf": "holds no text",
            "large.txt": "larger than 1,500 bytes; split it, or raise max_bytes",
            "photo.jpeg": f"files of type '.jpeg' are not supported; {known}",
            "README": f"files of type '' are not supported; {known}",
            ".secret.txt": "hidden",
            ".git": "hidden",
            "locked.txt": "Permission denied",
        }

    def test_links_that_lead_out_are_not_followed(self, tmp_path: Path):
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret.txt").write_text("Secret.")
        docs = tmp_path / "docs"
        docs.mkdir()
        (docs / "own.txt").write_text("Own.")
        (docs / "link.txt").symlink_to(outside / "secret.txt")
        (docs / "folder").symlink_to(outside)
        (docs / "up").symlink_to(tmp_path)
        (docs / "alias.txt").symlink_to(docs / "own.txt")
        (docs / "dangling.txt").symlink_to(docs / "gone.txt")
        (docs / "circle").symlink_to(docs / "circle2")
        (docs / "circle2").symlink_to(docs / "circle")
        result = read_passages(docs)
        assert [passage.text for passage in result.passages] == [
            "Own."
        ]  # once, though it has an alias
        reason = f"symbolic link that leads out of {docs}, or in a circle"
        skipped = skips(result.skipped)
        assert skipped.pop("circle")  # for which of the reasons, depends on the version of Python
        assert skipped.pop("circle2")
        assert skipped == {
            "link.txt": reason,
            "folder": reason,
            "up": reason,
            "dangling.txt": "not a regular file, or a link to nothing",
        }

    def test_a_link_that_the_user_names_is_followed(self, tmp_path: Path):
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "a.txt").write_text("Text.")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        assert [passage.text for passage in read_passages(tmp_path / "link").passages] == ["Text."]

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_a_pipe_is_not_opened(self, tmp_path: Path):
        (tmp_path / "a.txt").write_text("Text.")
        os.mkfifo(tmp_path / "b.txt")  # opening it would wait for a writer for ever
        assert skips(read_passages(tmp_path).skipped) == {
            "b.txt": "not a regular file, or a link to nothing"
        }

    def test_several_paths_keep_apart_files_of_the_same_name(self, tmp_path: Path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for folder in ("one", "two"):
            Path(folder).mkdir()
            Path(folder, "a.txt").write_text(f"Text {folder}.")
        result = read_passages(["one", "two/a.txt", Path("one/a.txt")])
        assert [passage.id for passage in result.passages] == ["one/a.txt#0", "two/a.txt#0"]

    def test_a_missing_path_is_an_error(self, tmp_path: Path):
        with pytest.raises(InputError, match=r"missing does not exist; give a file or folder"):
            read_documents([tmp_path, tmp_path / "missing"])

    def test_nothing_readable_is_an_error(self, tmp_path: Path):
        with pytest.raises(InputError, match=r"no readable document in .*: the folder is empty"):
            read_passages(tmp_path)
        (tmp_path / "a.doc").write_text("Text.")
        with pytest.raises(
            InputError,
            match=r"no readable document in .* \(1 skipped\): a.doc: files of type '.doc'",
        ):
            read_passages(tmp_path)
        with pytest.raises(InputError, match="no path to read"):
            read_passages([])

    def test_settings_are_checked_before_reading(self, tmp_path: Path):
        with pytest.raises(ConfigError, match="max_tokens=0"):
            read_passages(tmp_path / "missing", max_tokens=0)

    def test_progress_counts_bytes(self, tmp_path: Path):
        (tmp_path / "a.txt").write_text("Some text.")
        (tmp_path / "b.jsonl").write_text('{"text": "One."}\n{"text": "Two."}\n')
        (tmp_path / "c.pdf").write_bytes(b"broken")
        calls: list[tuple[int, int]] = []
        read_passages(tmp_path, progress=lambda done, total: calls.append((done, total)))
        assert {total for _, total in calls} == {10 + 34 + 6}
        assert [done for done, _ in calls] == sorted(done for done, _ in calls)
        assert calls[-1] == (50, 50)

    def test_documents_are_read_one_by_one(self, tmp_path: Path):
        line = json.dumps({"text": "Word. " * 20_000}) + "\n"
        (tmp_path / "a.jsonl").write_text(line * 100)  # 12 MB
        tracemalloc.start()
        assert sum(1 for _ in read_documents(tmp_path)) == 100
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3_000_000

    def test_a_missing_library_is_an_error_not_a_skip(self, tmp_path: Path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pypdfium2", None)
        (tmp_path / "a.pdf").write_bytes(b"%PDF")
        with pytest.raises(
            MissingDependencyError,
            match=r"pypdfium2 is not installed; run: pip install 'nest-engine\[retrieval\]'",
        ):
            read_passages(tmp_path)


class TestText:
    def test_is_the_content_of_the_file(self, tmp_path: Path):
        content = "One.\r\n\r\nTwo\x00\u0301 👩\u200d🚀 שלום\u2028end\n"
        (tmp_path / "notes.txt").write_bytes(content.encode())
        document = read_one(tmp_path / "notes.txt")
        assert (document.text, document.title) == (content, "notes")
        check_slices(read_passages(tmp_path / "notes.txt", max_tokens=4).passages, [document])

    def test_offsets_start_after_a_byte_order_mark(self, tmp_path: Path):
        (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfText.")
        assert read_one(tmp_path / "a.txt").text == "Text."
        (tmp_path / "b.txt").write_bytes("a\ufeffb".encode())
        assert read_one(tmp_path / "b.txt").text == "a\ufeffb"

    def test_other_encodings_are_reported(self, tmp_path: Path):
        (tmp_path / "a.txt").write_text("Text é.", encoding="latin-1")
        assert skips(list(read_documents(tmp_path))) == {  # type: ignore[arg-type]
            "a.txt": "not valid utf-8: byte 0xe9 at offset 5; convert the file to UTF-8"
        }

    @pytest.mark.parametrize(
        "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8", "utf-32-le", "utf-32-be"]
    )
    def test_a_byte_order_mark_wins(self, tmp_path: Path, encoding: str):
        mark = "" if encoding == "utf-16" else "\ufeff"
        (tmp_path / "a.txt").write_bytes(f"{mark}Tèxt.".encode(encoding))
        assert read_one(tmp_path / "a.txt").text == "Tèxt."


class TestMarkdown:
    @pytest.mark.parametrize(
        ("text", "title"),
        [
            ("Intro\r\n\r\n##  On `nests` ##\r\nText", "On nests"),
            ("No heading, #hashtag", "notes"),
            ("# C#\n", "C#"),
            ("# " + "long " * 100, "long " * 59 + "long"),
        ],
    )
    def test_title(self, tmp_path: Path, text: str, title: str):
        (tmp_path / "notes.md").write_bytes(text.encode())
        document = read_one(tmp_path / "notes.md")
        assert (document.title, document.text) == (title, text)


class TestHtml:
    def read(self, tmp_path: Path, page: str | bytes) -> Document:
        (tmp_path / "page.html").write_bytes(page.encode() if isinstance(page, str) else page)
        return read_one(tmp_path / "page.html")

    def test_visible_text_in_paragraphs(self, tmp_path: Path):
        document = self.read(
            tmp_path,
            """<!DOCTYPE html><html><head><title> A\n page </title><style>p {}</style></head>
            <body><script>alert("x")</script><!-- note -->
            <h1>Nests</h1><p>A <b>bird</b>'s
            nest &amp; eggs.<br>Second line.</p><ul><li>twigs</li><li><p>moss</p></li></ul>
            <table><tr><td>egg</td> <td>blue</td></tr></table></body></html>""",
        )
        assert document.title == "A page"
        assert (
            document.text
            == "# Nests\n\nA bird's nest & eggs.\nSecond line.\n\ntwigs\n\nmoss\n\negg\tblue"
        )

    @pytest.mark.parametrize(
        ("markup", "text"),
        [
            ("<h2>Care<br>of <i>it</i></h2><p>Rinse.", "## Care of it\n\nRinse."),
            ("<h2>\n  Care\n</h2>\n<h3>#1</h3><p>Rinse.", "## Care\n\n### #1\n\nRinse."),
            ("<h1></h1><h3> </h3><p>Rinse.", "Rinse."),
            ("<h1 hidden>No</h1><h3><img></h3>Rinse.", "Rinse."),
            ("<table><tr><td><h2>Care</h2></td><td>Rinse.</td></tr></table>", "Care\tRinse."),
            ("<h2><a href=x><span>Care</span></a></h2><div>Rinse.</div>", "## Care\n\nRinse."),
        ],
    )
    def test_headings_are_marked(self, tmp_path: Path, markup: str, text: str):
        assert self.read(tmp_path, markup).text == text

    def test_a_heading_as_title_has_no_mark(self, tmp_path: Path):
        assert self.read(tmp_path, "<h3>#1 care</h3><p>Rinse.").title == "#1 care"

    def test_text_beside_a_block_is_a_paragraph_of_its_own(self, tmp_path: Path):
        text = self.read(
            tmp_path, "<div> Before <p>inside</p>after <i>it </i>. </div><svg><text>x</text></svg>"
        ).text
        assert text == "Before\n\ninside\n\nafter it ."

    def test_rows_are_paragraphs_and_cells_set_apart_by_tabs(self, tmp_path: Path):
        text = self.read(
            tmp_path,
            "<table>\n<tr>\n<th> A\n</th>\n<th>B</th>\n</tr><tr><td>1</td><td> 2</td></tr></table>",
        ).text
        assert text == "A\tB\n\n1\t2"

    def test_code_keeps_its_layout(self, tmp_path: Path):
        text = self.read(tmp_path, "<p>Code:</p><pre>if x:\n    return  1</pre>").text
        assert text == "Code:\n\nif x:\n    return  1"

    def test_declared_encodings(self, tmp_path: Path):
        assert (
            self.read(tmp_path, b'<meta charset="iso-8859-1"><p>caf\xe9 \x93x\x94').text
            == "café “x”"
        )
        assert self.read(tmp_path, '<meta charset="utf-8"><p>café'.encode()).text == "café"
        assert self.read(tmp_path, "<p>café").text == "café"
        assert self.read(tmp_path, '<meta charset="utf-16"><p>café'.encode()).text == "café"

    @pytest.mark.parametrize(
        ("page", "reason"),
        [
            (b"<p>caf\xe9", "not valid utf-8: byte 0xe9 at offset 6"),
            (b'<meta charset="utf-8"><p>caf\xe9', "not valid utf-8: byte 0xe9"),
            (b'<meta charset="klingon"><p>caf\xe9', "unknown character encoding 'klingon'"),
            (b'<meta charset="hex"><p>caf\xe9', "unknown character encoding 'hex'"),
            (b'<meta charset="hz-gb-2312"><p>~{VPND~}', "unknown character encoding 'hz-gb"),
            ("<p>Text".encode("utf-16-le"), "full of zeros"),
        ],
    )
    def test_wrong_encodings_are_reported_not_guessed(
        self, tmp_path: Path, page: bytes, reason: str
    ):
        (tmp_path / "page.html").write_bytes(page)
        (item,) = read_documents(tmp_path)
        assert isinstance(item, Skipped)
        assert item.reason.startswith(reason)

    def test_giant_white_space(self, tmp_path: Path):
        space = " " * 1_000_000
        assert (
            self.read(tmp_path, f"<pre>a{space}b</pre><p>c{space}d</p>").text == f"a{space}b\n\nc d"
        )

    def test_a_page_of_markup_alone_holds_no_text(self, tmp_path: Path):
        (tmp_path / "page.htm").write_text("<title>T</title><script>1</script>")
        assert list(read_documents(tmp_path)) == [Skipped("page.htm", "holds no text")]

    def test_deep_nesting(self, tmp_path: Path):
        assert self.read(tmp_path, "<div>" * 20_000 + "deep").text == "deep"


class TestPdf:
    def test_pages_are_numbered_and_passages_within_them(self, tmp_path: Path):
        (tmp_path / "paper.pdf").write_bytes(pdf("Page one.", "", "Page three.", title="A paper"))
        document = read_one(tmp_path / "paper.pdf")
        passages = read_passages(tmp_path / "paper.pdf").passages
        assert [(p.text, p.metadata["page"], p.title) for p in passages] == [
            ("Page one.", 1, "A paper"),
            ("Page three.", 3, "A paper"),
        ]
        check_slices(passages, [document])

    def test_without_a_title_the_file_name_is_the_title(self, tmp_path: Path):
        (tmp_path / "paper.pdf").write_bytes(pdf("Text."))
        assert read_one(tmp_path / "paper.pdf").title == "paper"

    def test_a_page_that_fails_is_reported_and_the_others_kept(self, tmp_path: Path, monkeypatch):
        read = PdfFile.page

        def fail_on_two(self: PdfFile, index: int) -> object:
            if index == 1:
                raise ZeroDivisionError("bad font")
            return read(self, index)

        monkeypatch.setattr(PdfFile, "page", fail_on_two)
        (tmp_path / "paper.pdf").write_bytes(pdf("One.", "Two.", "Three."))
        result = read_passages(tmp_path)
        assert [(p.text, p.metadata["page"]) for p in result.passages] == [
            ("One.", 1),
            ("Three.", 3),
        ]
        assert result.skipped == [Skipped("paper.pdf, page 2", "cannot be read: bad font")]

    def test_a_file_with_a_password_is_reported(self, tmp_path: Path):
        (tmp_path / "paper.pdf").write_bytes(pdf("Secret.", password="password"))
        assert list(read_documents(tmp_path)) == [
            Skipped("paper.pdf", "needs a password; save it without one")
        ]

    @pytest.mark.parametrize("method", ["RC4", "AES_128", "AES_256"])
    def test_an_encrypted_file_without_a_password_is_read(self, tmp_path: Path, method: str):
        (tmp_path / "paper.pdf").write_bytes(pdf("Not secret.", password="", method=method))
        assert read_one(tmp_path / "paper.pdf").text == "Not secret."

    @pytest.mark.parametrize("turned", [0, 90, 180, 270])
    def test_boxes_are_where_the_words_are_seen(self, tmp_path: Path, turned: int):
        (tmp_path / "paper.pdf").write_bytes(pdf("Nests of twigs, mostly.", turned=turned))
        (passage,) = read_passages(tmp_path / "paper.pdf").passages
        width, height = passage.metadata["page_size"]
        assert (width > height) == (turned in (90, 270))
        words = [passage.text[start:end] for start, end, *_ in passage.metadata["word_boxes"]]
        assert words == ["Nests", "of", "twigs", ",", "mostly", "."]
        cited = Citation.of(passage, (9, 14), (0, 5))
        assert cited.cited_text == "twigs"
        assert "word_boxes" not in cited.metadata
        ((left, top, right, bottom),) = cited.metadata["boxes"]
        with PdfFile((tmp_path / "paper.pdf").open("rb")) as file:
            picture = file.picture(0, scale=4).convert("L")
        inside = picture.crop([round(4 * edge) for edge in (left, top, right, bottom)])
        assert inside.getextrema()[0] < 100
        # Around it is nothing but the words beside it, along the line.
        across = (
            (left, top - 20, right, top) if turned in (0, 180) else (left - 20, top, left, bottom)
        )
        assert picture.crop([round(4 * edge) for edge in across]).getextrema()[0] > 200

    def test_a_citation_shows_its_page(self, tmp_path: Path):
        path = tmp_path / "paper.pdf"
        path.write_bytes(pdf("Nests of twigs, mostly."))
        (passage,) = read_passages(path).passages
        cited = Citation.of(passage, (9, 14), (0, 5))
        picture = page_picture(cited, scale=3)
        left, top, right, bottom = cited.metadata["boxes"][0]
        assert picture.getpixel((3 * left, 3 * (top + bottom) / 2)) == (255, 224, 102)
        assert picture.getpixel((3 * right + 12, 3 * bottom)) == (255, 255, 255)
        path.write_bytes(pdf("Another text."))
        with pytest.raises(InputError, match="has changed since page 1 was read"):
            page_picture(cited)
        path.unlink()
        with pytest.raises(InputError, match="cannot be opened"):
            page_picture(cited)
        with pytest.raises(InputError, match="has no place on a page"):
            page_picture(Citation.of(Passage("Text."), (0, 4), (0, 4)))

    def test_boxes_follow_the_lines_of_a_quotation(self, tmp_path: Path):
        (tmp_path / "paper.pdf").write_bytes(pdf("A nest is made\nof moss and\nof twigs."))
        (passage,) = read_passages(tmp_path / "paper.pdf").passages
        assert passage.text == "A nest is made\nof moss and\nof twigs."
        start = passage.text.index("made")
        first, second = Citation.of(passage, (start, start + 12), (0, 12)).metadata["boxes"]
        assert first[3] <= second[1] + 1  # one under the other
        assert first[0] > second[0]

    def test_columns_that_come_by_turns_are_read_one_after_the_other(self, tmp_path: Path):
        heading = "A heading across both of the columns of the page"
        left = ["the left column tells", "about nests and how", "birds build them all"]
        right = ["the right one of eggs", "which are blue or are", "brown and hatch soon"]
        (tmp_path / "paper.pdf").write_bytes(
            pdf(
                columns=[
                    (heading,),
                    *zip(left, right, strict=True),
                ]
            )
        )
        text = read_one(tmp_path / "paper.pdf").text
        assert text.split("\n") == [
            heading,
            *left,
            *right,
        ]

    def test_rows_of_a_table_stay_rows(self, tmp_path: Path):
        rows = [("City", "2023"), ("Oslo", "5"), ("Rome", "8"), ("Bern", "1")]
        (tmp_path / "paper.pdf").write_bytes(pdf(columns=rows))
        assert read_one(tmp_path / "paper.pdf").text == "City 2023\nOslo 5\nRome 8\nBern 1"

    @pytest.mark.parametrize(
        ("title", "shown"),
        [("A paper", "A paper"), ("Microsoft Word - Report", "Report"), ("untitled", "paper")],
    )
    def test_titles_that_programs_write_are_none(self, tmp_path: Path, title: str, shown: str):
        (tmp_path / "paper.pdf").write_bytes(pdf("Text.", title=title))
        assert read_one(tmp_path / "paper.pdf").title == shown


class TestJsonLines:
    def read(self, tmp_path: Path, *lines: object, **options: object) -> list[Document | Skipped]:
        encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        (tmp_path / "a.jsonl").write_bytes(b"\n".join(encoded))
        return list(read_documents(tmp_path / "a.jsonl", **options))  # type: ignore[arg-type]

    def test_all_fields(self, tmp_path: Path):
        record = {"id": 7, "title": "T", "text": "Text.", "uri": "https://x", "license": "CC0"}
        (document,) = self.read(tmp_path, record | {"metadata": {"a": 1}, "author": "B"})
        assert isinstance(document, Document)
        assert (document.id, document.title, document.text) == ("7", "T", "Text.")
        assert (document.uri, document.license) == ("https://x", "CC0")
        assert document.metadata == {"a": 1, "author": "B", "line": 1}

    def test_text_alone_suffices(self, tmp_path: Path):
        _, document = self.read(
            tmp_path,
            {"text": "One."},
            {"text": "Two.", "title": None, "id": None, "metadata": None},
        )
        assert isinstance(document, Document)
        source = str(tmp_path / "a.jsonl")
        assert (document.id, document.title, document.uri, document.source) == (
            f"{source}:2",
            "a",
            source,
            source,
        )

    def test_bad_lines_are_reported_and_the_others_kept(self, tmp_path: Path):
        path = str(tmp_path / "a.jsonl")
        items = self.read(
            tmp_path,
            {"text": "Good."},
            b'{"text": 1',
            ["text"],
            {"title": "T"},
            {"text": 5},
            b'{"text": "\xff"}',
            b'{"text": "a\\ud800"}',
            b'{"text": "Text.", "metadata": {"n": NaN}}',
            {"text": " "},
            {"text": "Text.", "metadata": [1]},
            {"text": "Text.", "license": 2},
            b"[" * 100_000,
            b"",
            {"text": "y" * 2_000_000},
            {"text": "Last."},
            max_bytes=1_500_000,
        )
        assert [item.text for item in items if isinstance(item, Document)] == ["Good.", "Last."]
        reasons = skips([item for item in items if isinstance(item, Skipped)])
        beginnings = {
            2: "malformed JSON: Expecting ',' delimiter",
            3: 'expected an object with a string "text"',
            4: 'expected an object with a string "text"',
            5: 'expected an object with a string "text"',
            6: "not valid utf-8: byte 0xff",
            7: "name or content holds a lone surrogate",
            8: "malformed JSON: NaN is not JSON",
            9: "holds no text",
            10: '"metadata" must be an object',
            11: '"metadata" must be an object, "uri" and "license" strings',
            12: "malformed JSON: ",
            14: "larger than 1,500,000 bytes",
        }
        assert list(reasons) == [f"{path}, line {number}" for number in beginnings]
        for number, beginning in beginnings.items():
            assert reasons[f"{path}, line {number}"].startswith(beginning)

    def test_no_two_texts_have_an_id(self, tmp_path: Path):
        rows = [("d1", "a"), ("d1", "b"), ("d1~2", "c"), ("d1", "d"), ("d1~2", "c")]
        read = self.read(tmp_path, *({"id": id_, "text": text} for id_, text in rows))
        assert [item.id for item in read[:4] if isinstance(item, Document)] == [
            *("d1", "d1~2", "d1~2~2", "d1~3"),
        ]
        assert isinstance(read[4], Skipped)

    def test_a_second_document_with_an_id_is_reported(self, tmp_path: Path):
        for name in ("a", "b"):
            (tmp_path / f"{name}.jsonl").write_text('{"id": "x", "text": "Text."}')
        result = read_passages(tmp_path)
        assert [passage.id for passage in result.passages] == ["x#0"]
        assert result.skipped == [
            Skipped("b.jsonl, line 1", "an earlier document has the id 'x' and the same text")
        ]


class TestFilesThatAreNoDocuments:
    def test_a_name_that_is_not_text_is_a_reported_skip(self, tmp_path: Path):
        (tmp_path / "good.txt").write_text("Good text.")
        (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("Text under a bad name.")
        result = read_passages(tmp_path)
        assert [passage.text for passage in result.passages] == ["Good text."]
        [skipped] = result.skipped
        assert skipped.reason.startswith("name or content holds a lone surrogate")

    def test_an_index_among_the_documents_is_not_read(self, tmp_path: Path):
        (tmp_path / "good.txt").write_text("Good text.")
        (tmp_path / "CURRENT").write_text("A document of that name, without an ending.")
        PassageIndex.build(read_passages(tmp_path).passages, tmp_path / "index")
        result = read_passages(tmp_path)
        assert [passage.text for passage in result.passages] == ["Good text."]
        assert Skipped("index", "a passage index, not a document") in result.skipped
        assert is_index(tmp_path / "index")
        assert not is_index(tmp_path)

    def test_what_was_asked_for_is_named_plainly(self, tmp_path: Path):
        (tmp_path / "a.docx").write_bytes(b"x")
        with pytest.raises(
            InputError, match=f"no readable document in {tmp_path / 'a.docx'}, {tmp_path}"
        ):
            read_passages([tmp_path / "a.docx", tmp_path])
