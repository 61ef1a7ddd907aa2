"""Take the README's picture of `nest ui`: ``make screenshot``, or ``python -m tests.ui.screenshot``."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

import nest_demo
from nest_engine.retrieval import BM25Retriever
from nest_engine.ui import About, create_app
from tests.ui.serving import NO_BROWSER, launch, served

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "ui.png"
LARGEST = 200_000  # bytes
WIDTH, HEIGHT = 1100, 860


def main(question: str, path: Path = PICTURE) -> None:
    """Ask a question, open the first quotation, and write what the page shows."""
    passages = nest_demo.load_passages()
    engine = nest_demo.load_engine(BM25Retriever(passages))
    questions = tuple(shipped.question for shipped in nest_demo.load_questions()[:4])
    app = create_app(engine, About("the demo model", f"{len(passages)} passages, shipped", questions))
    with served(app) as address, sync_playwright() as playwright:
        browser = launch(playwright)
        if browser is None:
            raise SystemExit(NO_BROWSER)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(address)
        page.get_by_label("Question", exact=True).fill(question)
        page.get_by_label("Longest answer").fill("80")
        page.get_by_role("button", name="Ask", exact=True).click()
        page.locator("#cost").wait_for(timeout=120_000)
        mark = page.locator("#answer mark").first
        if mark.count():
            mark.click()
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=path, full_page=True)
        browser.close()
    size = path.stat().st_size
    print(f"{path}: {size:,} bytes")
    if size > LARGEST:
        raise SystemExit(f"the picture has {size:,} bytes, more than {LARGEST:,}: make it smaller")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else nest_demo.load_questions()[0].question)
