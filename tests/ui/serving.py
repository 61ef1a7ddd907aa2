"""The page on a real server, and a Chromium to look at it."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette

from nest_engine.ui.app import page_server
from tests.serving import running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

NO_BROWSER = "no Chromium here: `playwright install chromium`, or any package that puts one on the PATH"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def served(app: Starlette) -> AbstractContextManager[str]:
    """Serve the page in a thread, at a free port; yield its address without the trailing slash."""
    return running(app, page_server)


def launch(playwright: Playwright) -> Browser | None:
    """Start playwright's own Chromium or one on the PATH; None if there is neither."""
    own = playwright.chromium.executable_path
    found = own if Path(own).exists() else next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        return None
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0  # the sandbox refuses to work for root
    return playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if is_root else [])
