"""A Chromium to look at the page with; ``python -m tests.ui.browser`` fails where there is none."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

NO_BROWSER = (
    "no Chromium here: `playwright install chromium`, or any package that puts one on the PATH"
)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS = [  # nothing but the page: no graphics card, and no business of the browser's own
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def executable(playwright: Playwright) -> str | None:
    """Return playwright's own Chromium or one on the PATH; None if there is neither."""
    own = playwright.chromium.executable_path
    return own if Path(own).exists() else next(filter(None, map(shutil.which, _NAMES)), None)


def launch(playwright: Playwright) -> Browser | None:
    """Start a Chromium; None if there is none."""
    found = executable(playwright)
    if found is None:
        return None
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0  # the sandbox refuses to work for root
    arguments = [*_ARGUMENTS, "--no-sandbox"] if is_root else _ARGUMENTS
    return playwright.chromium.launch(executable_path=found, args=arguments, timeout=300_000)


if __name__ == "__main__":
    with sync_playwright() as started:
        sys.exit(None if executable(started) else NO_BROWSER)
