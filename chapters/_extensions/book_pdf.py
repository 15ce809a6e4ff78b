"""Print the whole book: ``python chapters/_extensions/book_pdf.py book.pdf``.

Sphinx writes all chapters into one page, and Chromium prints that, so that links lead from page to
page.  Boxes stand open, and a figure with a control shows the drawing that it begins with.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Error, sync_playwright

ROOT = Path(__file__).parents[2]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MINUTES = 20  # that a slow machine may take to typeset all formulas
CHAPTERS = 'span[id^="document-chapters/"] + section { break-before: page; }'
FOOTER = '<p style="width: 100%; text-align: center; font-size: 8px"><span class="pageNumber"></p>'


def one_page(folder: Path) -> Path:
    """Write the book into one HTML page and return its path."""
    program = Path(sys.executable).with_name("jupyter-book")
    command = [program, "build", ROOT, "-n", "--keep-going", "--builder", "singlehtml"]
    run = subprocess.run(
        [*command, "--path-output", folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if run.returncode:
        sys.exit(run.stdout.decode(errors="replace"))
    site = folder / "_build" / "singlehtml"
    (written,) = site.glob("chapters/*.html")
    text = written.read_text(encoding="utf-8")
    # The page looks for its styles beside itself, and calls itself by its path.
    text = re.sub(rf'href="(chapters/)?{written.name}#', 'href="#', text)
    # There is no index of names in this form, and each chapter begins on a page of its own.
    text = re.sub(r'<a [^>]*href="genindex\.html"[^>]*>(.*?)</a>', r"\1", text)
    text = text.replace("</head>", f"<style>{CHAPTERS}</style></head>", 1)
    page = site / "book.html"
    page.write_text(text, encoding="utf-8")
    return page


def print_page(page: Path, target: Path) -> None:
    """Print an HTML page of the book to a PDF file."""
    installed = [{"executable_path": path} for path in map(shutil.which, PROGRAMS) if path]
    with sync_playwright() as playwright:
        # The browser that is installed; else the one that `playwright install` fetches.
        for choice in [*installed, {}]:
            try:
                browser = playwright.chromium.launch(args=["--no-sandbox"], **choice)
                break
            except Error as error:
                reason = error
        else:
            sys.exit(f"There is no Chromium to print with: {reason}")
        tab = browser.new_page(color_scheme="light")
        tab.set_default_timeout(MINUTES * 60_000)
        tab.goto(page.as_uri())
        tab.evaluate("window.MathJax?.startup?.promise")
        tab.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
        margin = dict.fromkeys(("top", "bottom", "left", "right"), "18mm")
        tab.pdf(
            path=target,
            format="A4",
            scale=0.75,
            margin=margin,
            display_header_footer=True,
            header_template="<p></p>",
            footer_template=FOOTER,
            tagged=True,
            outline=True,
        )
        browser.close()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="the PDF file to write")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        print_page(one_page(Path(folder)), options.target.resolve())


if __name__ == "__main__":
    main()
