"""What several test files share: the built book, and the browser that opens it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Before NumPy is imported: workers share the cores, and sums are split alike everywhere.
for library in ("OMP", "OPENBLAS", "MKL", "BLIS"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

import strategies  # noqa: E402, F401  (its profile makes all property tests reproducible)

# It holds no example, and has a namesake among the notebooks.
collect_ignore = ["conftest.py"]

ROOT = Path(__file__).parents[1]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """Folder of the HTML pages, built afresh with every warning an error."""
    folder = tmp_path_factory.mktemp("book")
    program = Path(sys.executable).with_name("jupyter-book")
    command = [program, "build", ".", "-W", "-n", "--keep-going", "--path-output", folder]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    if run.returncode:
        lines = (run.stdout + run.stderr).splitlines()
        wrong = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-20:]
        pytest.fail("the book doesn't build:\n" + "\n".join(wrong), pytrace=False)
    return folder / "_build" / "html"


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium; without one, a skip on a person's machine and a failure in CI."""
    from playwright.sync_api import Error, sync_playwright

    installed = [{"executable_path": path} for path in map(shutil.which, PROGRAMS) if path]
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    with sync_playwright() as playwright:
        # After the system's own, the one that `playwright install` fetches, and Chrome elsewhere.
        for choice in [*installed, {}, {"channel": "chrome"}]:
            try:
                chromium = playwright.chromium.launch(args=options, **choice)
            except Error:
                continue
            yield chromium
            chromium.close()
            return
    reason = f"no browser: none of {', '.join(PROGRAMS)} is installed"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
