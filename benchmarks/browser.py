"""A headless Chromium without a network, which opens the pages of the report."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root in a container has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1280,900",
)
DRAWN = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));"


@contextmanager
def chromium(downloads: Path | None = None) -> Iterator[Chrome]:
    """Start the browser with a profile of its own, and end it.

    Args:
        downloads: folder that takes what a page saves.
    """
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        browser = Chrome(options, ChromeService(DRIVER))
        try:
            yield browser
        finally:
            browser.quit()


def open_page(browser: Chrome, page: Path) -> None:
    """Open a file, and wait until it is drawn."""
    browser.get(page.absolute().as_uri())
    browser.execute_async_script(DRAWN)
