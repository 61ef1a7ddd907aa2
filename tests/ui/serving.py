"""The page on a real server, and a Chromium to look at it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette

from nest_engine.ui.app import page_server
from nest_engine.web.listening import listen, url_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

NO_BROWSER = "no Chromium here: `playwright install chromium`, or any package that puts one on the PATH"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    """Serve an application in a thread, at a free port; yield its address without the trailing slash."""
    with listen("127.0.0.1", 0) as listening:
        running = page_server(app)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not running.started and thread.is_alive():
                time.sleep(0.01)
            yield url_of(listening, "127.0.0.1").rstrip("/")
        finally:
            running.should_exit = True
            thread.join()


def launch(playwright: Playwright) -> Browser | None:
    """Start playwright's own Chromium or one on the PATH; None if there is neither."""
    own = playwright.chromium.executable_path
    found = own if Path(own).exists() else next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        return None
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0  # the sandbox refuses to work for root
    return playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if is_root else [])
