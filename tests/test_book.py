"""The built book, page by page: links, structure, and what a browser without network shows."""

import json
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
def test_punctuation_stays_with_its_formula(site, book, name):
    report(site.loose_punctuation(book / f"{name}.html"))


@pytest.mark.parametrize("path", sorted((ROOT / "chapters").rglob("*.ipynb")), ids=lambda p: p.stem)
def test_no_line_of_text_begins_with_a_percent_sign(path):
    """It would be a comment, and missing from the page."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    report([line for text in texts for line in text.splitlines() if line.lstrip().startswith("%")])


def test_landing_page_draws_its_figure(site, book):
    """As SVG, whose colours follow the theme."""
    page, _ = site.page(book / f"{PAGES[0]}.html")
    drawings = page.select("article figure svg[aria-label]")
    assert [drawing["role"] for drawing in drawings] == ["img"]
    assert "var(--figure-paper" in str(drawings[0])


def test_signs_of_exercises_are_read_out(site, book):
    page, _ = site.page(book / "chapters" / "01_pl_criterion.html")
    signs = page.select("article .exercise .admonition-title .sign")
    assert {sign["aria-label"] for sign in signs} == {"by hand", "by computation"}
    assert all(sign.select_one("svg path") for sign in signs)
    assert not re.search("[✍⌨]", page.get_text())


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


@pytest.fixture(scope="module")
def judged():
    """The kinds of text in each theme of which axe-core has seen one already."""
    return {"light": set(), "dark": set()}


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable(visit, theme, judged):
    visit.set_theme(theme)
    report(visit.low_contrast() + visit.contrast_faults(judged[theme]))
    assert len(judged[theme]) > 20


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
def test_tables_fit_a_desk(visit):
    report(visit.cut_tables())


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
        report(visit.accessibility_faults())
        for theme in ("light", "dark"):
            visit.set_theme(theme)
            report(visit.low_contrast())
        visit.page.set_viewport_size(PHONE)
        report(visit.overflow() + visit.requested + visit.messages)


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


@pytest.fixture(scope="module")
def called(site, book, statements):
    """What each statement is called besides, without its formulas and without whose it is."""
    page, _ = site.page(book / "chapters" / "statements.html")
    found = {}
    for link in page.select("article ul.statement-index li > p > a"):
        title = link.parent.get_text().removeprefix(link.get_text()).strip()
        name = re.sub(r"^(Ours|Chatterjee)[^:]*: ", "", title)
        if "\\(" not in name:
            found[name] = link["href"]
    return found


@pytest.mark.browser
def test_search_finds_statements_and_words(browser, book, statements, called):
    """By number and by name; the words typed in the page's field, the rest asked of its script."""
    typed = dict([*statements.items()][::26])
    typed = {name: f"chapters/{place}" for name, place in typed.items()}
    typed["Remark 2.6"] = "chapters/paper_map.html"  # the paper's
    typed["integral criterion"] = "chapters/glossary.html#term-integral-criterion"
    typed["gradient_descent"] = "chapters/api/theorems.html#plcore.descent.gradient_descent"
    asked = """(words) => {
      const found = Search._performSearch(...Search._parseQuery(words));
      const [page, , anchor] = found.at(-1) ?? ["nothing", "", ""];
      return page.replace("chapters/", "") + ".html" + anchor;
    }"""
    with Visit(browser, book / "search.html") as visit:
        for words, place in typed.items():
            visit.page.goto(f"{(book / 'search.html').as_uri()}?q={quote(words)}")
            visit.page.wait_for_selector("ul.search li a")
            first = visit.page.locator("ul.search li a").first
            assert first.get_attribute("href").partition("?")[0] == place, words
        for words, place in [*statements.items(), *called.items()]:
            assert visit.page.evaluate(asked, words) == place, words
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


@pytest.mark.browser
def test_focus_is_seen_from_the_top_and_may_skip_to_the_text(browser, book):
    page = book / "chapters" / "glossary.html"
    with Visit(browser, page, viewport=PHONE) as visit:
        report(visit.focus_faults(8))
    with Visit(browser, page, viewport=PHONE) as visit:
        for key in ("Tab", "Enter", "Tab"):
            visit.page.keyboard.press(key)
        assert visit.page.evaluate("document.activeElement.closest('#main-content') !== null")


@pytest.mark.browser
def test_search_field_shows_its_words_beside_its_icon(browser, book):
    with Visit(browser, book / "search.html") as visit:
        room = """() => {
          const form = document.querySelector("main form.bd-search");
          const [icon, field] = ["svg", "input"].map((name) => form.querySelector(name));
          const begin = field.getBoundingClientRect().left;
          return begin + parseFloat(getComputedStyle(field).paddingLeft)
                 - icon.getBoundingClientRect().right;
        }"""
        assert visit.page.evaluate(room) > 2


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
    soup = site.page(page)[0]
    folded = soup.select("article details.sd-dropdown p, article .tag_hide-cell pre")
    words = {word for text in folded for word in re.findall(r"\b[a-z]{6,}\b", text.get_text())}
    found = {word for word in words if word in printed}
    assert len(pages) > 3
    assert len(found) > 0.9 * len(words) > 20
    assert "Run this cell" not in printed
    assert "code cell" not in printed
    # What a slider is set to is said, and the code of folded drawings left out.
    (control,) = soup.select("article .figure-control[data-kind=slider]")
    assert f"{control['data-label']} =" in printed


BROKEN = """
<!doctype html><html lang="en"><head><title>Broken</title>
<script src="https://example.org/script.js"></script>
<script>console.error("oh"); missing();</script></head><body><article>
<h1>One</h1><h1>Two</h1><h3 id="twice">Skipped</h3><p id="twice">See {prf:ref}`thm-x` and $x$.</p>
<p style="color: #999">pale</p><div style="width: 900px">wide</div>
<div class="pst-scrollable-table-container" style="width: 99px; overflow: auto">
<table><tr><td>xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx</td></tr></table></div>
<span class="math">\\(x\\)</span>, <mjx-merror data-mjx-error="Extra brace">?</mjx-merror>
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
    assert len(site.loose_punctuation(path)) == 1


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
        known = set()
        assert [fault for fault in visit.contrast_faults(known) if "pale" in fault]
        assert known
        assert not visit.contrast_faults(known)
        assert len(visit.cut_tables()) == 1
        assert [fault for fault in visit.keyboard_faults() if "don't move control 1" in fault]
        found = " ".join(visit.accessibility_faults())
        assert "image-alt (critical)" in found
        assert "nested-interactive (serious)" in found
        assert [fault for fault in visit.control_faults() if "to the eye only" in fault]
        assert [fault for fault in visit.control_faults() if "arrow keys" in fault]
        visit.page.set_viewport_size(PHONE)
        assert [fault for fault in visit.overflow() if "reaches to 9" in fault]
