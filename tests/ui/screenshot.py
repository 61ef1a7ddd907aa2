"""Take the README's picture of `nest ui` with the shipped model: ``make screenshot``."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import nest_demo
from nest_engine.retrieval import BM25Retriever
from nest_engine.ui import About, create_app
from tests.ui.serving import NO_BROWSER, launch, served

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "ui.png"
LARGEST = 200_000  # bytes
WIDTH, SCALE, TOKENS = 1100, 1.5, 80


def picture(question: str, color_scheme: str) -> bytes:
    """Ask a question, open its first quotation, and return what the page shows as a PNG."""
    passages = nest_demo.load_passages()
    engine = nest_demo.load_engine(BM25Retriever(passages))
    questions = tuple(shipped.question for shipped in nest_demo.load_questions()[:4])
    app = create_app(engine, About("the demo model", f"{len(passages)} passages, shipped", questions))
    with served(app) as address, sync_playwright() as playwright:
        browser = launch(playwright)
        if browser is None:
            raise SystemExit(NO_BROWSER)
        page = browser.new_page(
            viewport={"width": WIDTH, "height": 600},
            device_scale_factor=SCALE,
            color_scheme="dark" if color_scheme == "dark" else "light",
        )
        page.goto(address)
        page.get_by_label("Question", exact=True).fill(question)
        page.get_by_label("Longest answer").fill(str(TOKENS))
        for _ in range(2):  # the second time the passages have been read: the times are those of daily use
            page.get_by_role("button", name="Ask", exact=True).click()
            page.locator("#cost").wait_for(timeout=120_000)
        if page.locator("#answer mark").count():
            page.locator("#answer mark").first.click()
        shown = page.screenshot(full_page=True, caret="hide")
        browser.close()
    reduced = io.BytesIO()
    image = Image.open(io.BytesIO(shown)).convert("RGB")
    # The page has few colours: a palette makes the file a third as large. Small areas keep their colour this way.
    image = image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    image.save(reduced, "PNG", optimize=True)
    return reduced.getvalue()


def main() -> None:
    """Write the picture, unless it has become too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--question", default=nest_demo.load_questions()[0].question)
    parser.add_argument("--color-scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--out", type=Path, default=PICTURE)
    options = parser.parse_args()
    png = picture(options.question, options.color_scheme)
    if len(png) > LARGEST:
        raise SystemExit(f"the picture has {len(png):,} bytes, more than {LARGEST:,}; lower TOKENS or SCALE")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(png)
    print(f"{options.out}: {len(png):,} bytes")


if __name__ == "__main__":
    main()
