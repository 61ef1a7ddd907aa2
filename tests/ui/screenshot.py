"""Take the pictures in the documentation again, with the offline model: ``make screenshot``.

``ui.png`` shows `nest ui`, ``notebook.png`` an answer in a notebook, as the first cookbook has
saved it.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pygments
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

import nest_demo
from nest_engine.retrieval import BM25Retriever
from nest_engine.serving.ui import About, create_app
from tests.ui.browser import NO_BROWSER, launch
from tests.ui.serving import served

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "images"
LARGEST = 200_000  # bytes
WIDTH, NOTEBOOK_WIDTH, SCALE, TOKENS = 1100, 900, 1.5, 80
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


def ui_picture(question: str, color_scheme: str) -> bytes:
    """Ask a question, open its first quotation, and return what the page shows as a PNG."""
    passages = nest_demo.load_passages()
    engine = nest_demo.load_engine(BM25Retriever(passages))
    questions = tuple(shipped.question for shipped in nest_demo.load_questions()[:4])
    name = Path(nest_demo.default_model()).name.partition(".")[0]
    app = create_app(engine, About(name, f"{len(passages)} passages, shipped", questions))
    with served(app) as address, browser_page(WIDTH, 600, color_scheme=color_scheme) as page:
        page.goto(address)
        page.get_by_label("Question", exact=True).fill(question)
        page.get_by_label("Longest answer").fill(str(TOKENS))
        # the second time the passages have been read: the times are those of daily use
        for _ in range(2):
            page.get_by_role("button", name="Ask", exact=True).click()
            page.locator("#cost").wait_for(timeout=120_000)
        if page.locator("#answer mark").count():
            page.locator("#answer mark").first.click()
        return page.screenshot(full_page=True, caret="hide")


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
    parser.add_argument("--only", choices=("ui", "notebook"))
    parser.add_argument(
        "--question", default=nest_demo.load_questions()[1].question, help="to ask on the page"
    )
    parser.add_argument(
        "--color-scheme", choices=("light", "dark"), default="light", help="of the page"
    )
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("ui", "notebook") if options.only is None else (options.only,):
        png = reduced(
            ui_picture(options.question, options.color_scheme)
            if name == "ui"
            else notebook_picture()
        )
        if len(png) > LARGEST:
            raise SystemExit(
                f"{name}.png has {len(png):,} bytes, more than {LARGEST:,}; lower TOKENS or SCALE"
            )
        path = options.out / f"{name}.png"
        path.write_bytes(png)
        print(f"{path}: {len(png):,} bytes")


if __name__ == "__main__":
    main()
