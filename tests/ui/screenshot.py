"""Take the pictures in the documentation again, with the offline model: ``make screenshot``.

Five of `nest ui`, and ``notebook.png``: an answer in a notebook, as the first cookbook saved it.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import nbformat
import pygments
from fpdf import FPDF
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

import nest_demo
from nest_engine import Passage
from nest_engine.retrieval import BM25Retriever, read_passages
from nest_engine.serving.ui import About, create_app
from tests.ui.browser import NO_BROWSER, launch
from tests.ui.serving import served

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "images"
LARGEST = 200_000  # bytes
WIDTH, NOTEBOOK_WIDTH, PHONE_WIDTH, PHONE_HEIGHT = 1100, 900, 390, 844
SCALE, TOKENS = 1.5, 80
NOTEBOOK, CELL = ROOT / "cookbooks" / "101_quickstart.ipynb", "ask"

# What Jupyter puts around a cell: a frame for the code, a margin with the number of the cell.
NOTEBOOK_PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{
  margin: 0; padding: 16px 20px 4px 4px;
  font: 15px/1.5 "Inter", "Helvetica Neue", Arial, sans-serif;
}}
main {{ display: grid; grid-template-columns: 52px 1fr; gap: 12px; }}
.number {{ color: #2f5d9e; text-align: right; font: 13px/1.4 monospace; }}
.code {{ padding: 9px 12px; border: 1px solid #ddd; border-radius: 4px; background: #f7f7f7; }}
.code pre {{ margin: 0; font: 13px/1.4 monospace; }}
</style><main>
<div class="number" style="padding-top: 10px">[{number}]:</div><div class="code">{code}</div>
<div class="number" style="padding-top: 2px">[{number}]:</div><div>{answer}</div>
</main>"""


class Scene(NamedTuple):
    """A question, and how the page looks that shows its answer.

    Args:
        question: what is asked.
        method: chosen on the page.
        width: of the page, in CSS pixels.
        height: of what is seen of it; None if all of it is.
        color_scheme: light or dark.
        shows_trace: whether the token view is on, instead of a passage beside the answer.
        of_pdf: whether a PDF is asked, instead of the shipped corpus.
    """

    question: str
    method: str = "ra-nest"
    width: int = WIDTH
    height: int | None = None
    color_scheme: str = "light"
    shows_trace: bool = False
    of_pdf: bool = False


URANUS = "When was Uranus discovered?"
SCENES = {
    "ui": Scene(URANUS),
    "ui_pieces": Scene("Tell me about Lake Baikal.", "ra"),
    "ui_pdf": Scene(URANUS, of_pdf=True),
    "ui_phone": Scene(URANUS, width=PHONE_WIDTH, height=PHONE_HEIGHT),
    "ui_tokens": Scene(URANUS, color_scheme="dark", shows_trace=True),
}


@contextmanager
def browser_page(width: int, height: int, **options: Any) -> Iterator[Page]:
    """Open an empty page in a Chromium."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        if browser is None:
            raise SystemExit(NO_BROWSER)
        yield browser.new_page(
            viewport={"width": width, "height": height}, device_scale_factor=SCALE, **options
        )
        browser.close()


def brochure(folder: Path) -> list[Passage]:
    """Return the passages of a PDF in a folder, made of some articles of the shipped corpus."""
    pdf = FPDF(format=(148, 210))  # millimetres
    pdf.add_page()
    for passage in nest_demo.load_passages():
        if passage.title in ("Uranus", "Neptune"):
            pdf.set_font("Times", "B", 16)
            pdf.cell(0, 12, passage.title, new_x="LMARGIN", new_y="NEXT")
            pdf.set_font("Times", "", 11)
            text = passage.text.replace("−", "-")  # a sign that the standard fonts lack
            pdf.multi_cell(0, 5.5, text, align="J", new_x="LMARGIN", new_y="NEXT")
    pdf.output(str(folder / "ice giants.pdf"))
    return read_passages(folder).passages


def ui_picture(scene: Scene, folder: Path) -> bytes:
    """Ask a question, open its first quotation, and return what the page shows as a PNG."""
    passages = brochure(folder) if scene.of_pdf else nest_demo.load_passages()
    engine = nest_demo.load_engine(BM25Retriever(passages))
    questions = tuple(shipped.question for shipped in nest_demo.load_questions()[:4])
    name = Path(nest_demo.default_model()).name.partition(".")[0]
    documents = f"{len(passages)} passages, {'a brochure' if scene.of_pdf else 'shipped'}"
    app = create_app(engine, About(name, documents, questions))
    with (
        served(app) as address,
        browser_page(scene.width, scene.height or 600, color_scheme=scene.color_scheme) as page,
    ):
        page.goto(address)
        page.get_by_label("Question", exact=True).fill(scene.question)
        page.get_by_role("radio", name=scene.method, exact=True).check()
        page.get_by_label("Longest answer").fill(str(TOKENS))
        # the second time the passages have been read: the times are those of daily use
        for _ in range(2):
            page.get_by_role("button", name="Ask", exact=True).click()
            page.locator("#cost").wait_for(timeout=120_000)
        if scene.shows_trace:
            page.get_by_role("switch", name="Token view").check()
        elif page.locator("#answer mark").count():
            page.locator("#answer mark").first.click()
            page.wait_for_load_state("networkidle")  # the picture of a PDF's page
        return page.screenshot(full_page=scene.height is None, caret="hide")


def notebook_picture() -> bytes:
    """Return the cell of the first cookbook that asks, with the answer below it, as a PNG."""
    cell = next(cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.id == CELL)
    html = NOTEBOOK_PAGE.format(
        number=cell.execution_count,
        code=pygments.highlight(
            cell.source, PythonLexer(), HtmlFormatter(noclasses=True, nobackground=True)
        ),
        answer=cell.outputs[0].data["text/html"],
    )
    with browser_page(NOTEBOOK_WIDTH, 200) as page:
        page.set_content(html)
        return page.screenshot(full_page=True)


def reduced(png: bytes) -> bytes:
    """Return a picture with a palette: it has few colours, and takes a third of the space."""
    written = io.BytesIO()
    # Small areas keep their colour this way.
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        written, "PNG", optimize=True
    )
    return written.getvalue()


def main() -> None:
    """Write the pictures, unless one has become too large."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = (*SCENES, "notebook")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--question", help="to ask on the page, instead of those that are shipped")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        if name == "notebook":
            png = reduced(notebook_picture())
        else:
            scene = SCENES[name]
            if options.question is not None:
                scene = scene._replace(question=options.question)
            with TemporaryDirectory() as folder:
                png = reduced(ui_picture(scene, Path(folder)))
        if len(png) > LARGEST:
            raise SystemExit(
                f"{name}.png has {len(png):,} bytes, more than {LARGEST:,}; lower TOKENS or SCALE"
            )
        path = options.out / f"{name}.png"
        path.write_bytes(png)
        print(f"{path}: {len(png):,} bytes")


if __name__ == "__main__":
    main()
