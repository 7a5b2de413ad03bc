"""A real browser for the pages that open from disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="pages are tested with playwright (pip install .[dev])")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def violations() -> Callable[[Any], list[str]]:
    """What axe finds that keeps people out of a page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe comes with axe-playwright-python")

    def found(page: Any) -> list[str]:
        problems = axe.Axe().run(page).response["violations"]
        return [f"{one['id']}: {node['html'][:200]}" for one in problems for node in one["nodes"]]

    return found
