"""The built book, page by page: links, structure, and what a browser without network shows."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from pages import PHONE, Site, Visit
from pypdf import PdfReader

ROOT = Path(__file__).parents[1]


def pages_of(entry):
    """All pages of a table of contents, in order."""
    own = [entry[key] for key in ("root", "file") if key in entry]
    parts = [part for key in ("parts", "chapters", "sections") for part in entry.get(key, [])]
    return own + [page for part in parts for page in pages_of(part)]


PAGES = pages_of(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
each_page = pytest.mark.parametrize("name", PAGES)


def report(faults):
    assert not faults, "\n" + "\n".join(faults)


@pytest.fixture(scope="module")
def site(book):
    return Site(book)


def test_every_chapter_is_in_the_table_of_contents():
    chapters = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for pattern in ("*.md", "*.rst", "*.ipynb")
        for path in (ROOT / "chapters").rglob(pattern)
        if not path.parent.name.startswith((".", "_"))
    }
    assert chapters == set(PAGES)


@each_page
def test_links_and_anchors_resolve(site, book, name):
    report(site.broken_links(book / f"{name}.html"))


@each_page
def test_structure(site, book, name):
    report(site.structure_faults(book / f"{name}.html"))


@each_page
def test_pictures_have_alternative_texts(site, book, name):
    report(site.unlabelled_pictures(book / f"{name}.html"))


@pytest.fixture(scope="module", params=PAGES)
def visit(request, browser, book):
    """A page, opened once for the tests below."""
    with Visit(browser, book / f"{request.param}.html") as visit:
        yield visit


@pytest.mark.browser
def test_formulas_are_typeset(visit):
    report(visit.math_faults())


@pytest.mark.browser
def test_no_source_is_left_in_the_text(visit):
    report(visit.raw_source())


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable(visit, theme):
    visit.set_theme(theme)
    report(visit.low_contrast())


@pytest.mark.browser
def test_controls_change_their_pictures(visit):
    report(visit.control_faults())


@pytest.mark.browser
def test_keyboard_alone_is_enough(visit):
    report(visit.keyboard_faults())


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_is_accessible(visit, theme):
    visit.set_theme(theme)
    report(visit.accessibility_faults(colors_only=theme == "dark"))


@pytest.mark.browser
def test_page_fits_a_phone(visit):
    visit.page.set_viewport_size(PHONE)
    report(visit.overflow())


@pytest.mark.browser
def test_nothing_was_asked_of_another_host_and_nothing_failed(visit):
    """The last of these tests: it sees what happened during all of them."""
    report(visit.requested + visit.messages)


@pytest.mark.browser
@pytest.mark.parametrize("name", ["genindex", "search"])
def test_generated_page(browser, book, name):
    with Visit(browser, book / f"{name}.html") as visit:
        report(visit.accessibility_faults() + visit.requested + visit.messages)


@pytest.fixture(scope="module")
def statements(site, book):
    """What the index of statements links to, by name."""
    page, _ = site.page(book / "chapters" / "statements.html")
    links = page.select("article ul.statement-index li > p > a")
    assert all(len(link.parent.get_text()) > len(link.get_text()) + 4 for link in links)
    return {link.get_text(): link["href"] for link in links}


def test_index_lists_every_statement_by_the_name_that_it_bears(site, book, statements):
    found = {}
    for name in PAGES:
        page, _ = site.page(book / f"{name}.html")
        for box in page.select("article div.proof[id]"):
            bears = box.select_one(".admonition-title .caption-number").get_text().strip()
            found[bears] = f"{Path(name).name}.html#{box['id']}"
    assert len(found) > 40
    assert statements == found


@pytest.mark.browser
def test_search_finds_statements_and_words(browser, book, statements):
    some = list(statements.items())[:: len(statements) // 4]
    wanted = {name: f"chapters/{place}" for name, place in some}
    wanted["Remark 2.6"] = "chapters/paper_map.html"  # the paper's
    wanted["integral criterion"] = "chapters/glossary.html#term-integral-criterion"
    wanted["gradient_descent"] = "chapters/api/theorems.html#plcore.descent.gradient_descent"
    with Visit(browser, book / "search.html") as visit:
        for words, place in wanted.items():
            visit.page.goto(f"{(book / 'search.html').as_uri()}?q={quote(words)}")
            visit.page.wait_for_selector("ul.search li a")
            first = visit.page.locator("ul.search li a").first
            assert first.get_attribute("href").partition("?")[0] == place, words
        report(visit.requested + visit.messages)


@pytest.mark.browser
@pytest.mark.parametrize("preferred", ["light", "dark"])
def test_theme_is_the_preferred_one_until_switched(browser, book, preferred):
    """The button leads through both themes, and the paper of the figures is the page's."""
    with Visit(browser, book / f"{PAGES[0]}.html", theme=preferred) as visit:
        look = """() => {
          const root = document.documentElement;
          const paper = getComputedStyle(root).getPropertyValue("--figure-paper") || "#ffffff";
          const probe = Object.assign(document.createElement("i"), {style: `color: ${paper}`});
          document.body.append(probe);
          return [root.dataset.theme, getComputedStyle(document.body).backgroundColor,
                  getComputedStyle(probe).color];
        }"""
        seen = [visit.page.evaluate(look)]
        for _ in range(3):
            visit.page.locator("button.theme-switch-button:visible").click()
            seen.append(visit.page.evaluate(look))
        assert seen[0][0] == preferred
        assert {theme for theme, _, _ in seen} == {"light", "dark"}
        assert all(paper == page for _, page, paper in seen), seen
        report(visit.requested + visit.messages)


PRINT = """
import sys
sys.path.insert(0, "chapters/_extensions")
from pathlib import Path
from book_pdf import print_page
print_page(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.browser
def test_print_has_open_boxes_and_no_controls(site, browser, book, tmp_path):
    page, target = book / "chapters" / "06_lecun_corollary.html", tmp_path / "page.pdf"
    subprocess.run([sys.executable, "-c", PRINT, page, target], cwd=ROOT, check=True)
    pages = PdfReader(target).pages
    printed = "".join(page.extract_text() for page in pages)
    folded = site.page(page)[0].select("article details.sd-dropdown p")
    words = {word for text in folded for word in re.findall(r"\b[a-z]{6,}\b", text.get_text())}
    found = {word for word in words if word in printed}
    assert len(pages) > 3
    assert len(found) > 0.9 * len(words) > 20
    assert "Run this cell" not in printed


BROKEN = """
<!doctype html><html lang="en"><head><title>Broken</title>
<script src="https://example.org/script.js"></script>
<script>console.error("oh"); missing();</script></head><body><article>
<h1>One</h1><h1>Two</h1><h3 id="twice">Skipped</h3><p id="twice">See {prf:ref}`thm-x` and $x$.</p>
<p style="color: #999">pale</p><div style="width: 900px">wide</div>
<span class="math">\\(x\\)</span> <mjx-merror data-mjx-error="Extra brace">?</mjx-merror>
<a href="nowhere.html">file</a> <a href="#nowhere">place</a> <img src="data:,">
<div class="figure-still"><svg role="img" aria-label=""></svg></div>
<details><summary tabindex="-1"><button>Proof</button></summary>It holds.</details>
<div class="figure-control"><label>radius <input type="range" max="1"></label>
<div class="figure-frame"><svg role="img" aria-label="x"></svg>same</div><output>1</output></div>
</article></body></html>
"""


def test_checks_find_faults_in_html(tmp_path):
    path = tmp_path / "broken.html"
    path.write_text(BROKEN, encoding="utf-8")
    site = Site(tmp_path)
    assert site.broken_links(path) == [
        "nowhere.html leads to no file",
        "#nowhere leads to no place on that page",
    ]
    assert site.structure_faults(path) == [
        "id 'twice' occurs twice",
        "the page has 2 headings of the first level",
        "a heading of level 3 follows one of level 1",
    ]
    assert len(site.unlabelled_pictures(path)) == 2


@pytest.mark.browser
def test_checks_find_faults_in_a_browser(browser, tmp_path):
    path = tmp_path / "broken.html"
    path.write_text(BROKEN, encoding="utf-8")
    with Visit(browser, path) as visit:
        assert visit.requested == ["request to another host: https://example.org/script.js"]
        assert any("console error: oh" in message for message in visit.messages)
        assert any("script error" in message and "missing" in message for message in visit.messages)
        assert visit.raw_source() == ["See {prf:ref}`thm-x` and $x$.", "\\(x\\)"]
        assert visit.math_faults() == [
            "1 of 1 formulas aren't typeset",
            "MathJax says: Extra brace",
        ]
        assert [fault for fault in visit.low_contrast() if "pale" in fault]
        assert [fault for fault in visit.keyboard_faults() if "don't move control 1" in fault]
        found = " ".join(visit.accessibility_faults())
        assert "image-alt (critical)" in found
        assert "nested-interactive (serious)" in found
        assert [fault for fault in visit.control_faults() if "to the eye only" in fault]
        assert [fault for fault in visit.control_faults() if "arrow keys" in fault]
        visit.page.set_viewport_size(PHONE)
        assert [fault for fault in visit.overflow() if "reaches to 9" in fault]
