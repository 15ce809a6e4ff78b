"""The lists at the end of the built book: their order, and that they lead where they should."""

import re
import unicodedata

import pytest
from bs4 import BeautifulSoup
from pybtex.database import parse_file
from test_floors import PACKAGE

from plcore.__main__ import main

ROOT = PACKAGE.parent


@pytest.fixture(scope="module")
def page(book):
    """A page of the built book by its name, parsed."""

    def parsed(name):
        return BeautifulSoup((book / f"{name}.html").read_text(encoding="utf-8"), "html.parser")

    return parsed


def in_an_alphabet(text):
    letters = unicodedata.normalize("NFD", text.lower().replace("ł", "l"))
    return "".join(c for c in letters if not unicodedata.combining(c))


def test_no_page_is_generated_that_nothing_links_to(book):
    assert {path.stem for path in book.glob("*.html")} == {"index", "genindex", "search"}


def test_index_is_alphabetical_and_leaves_the_modules_out(page):
    index = page("genindex")
    names = [
        next(entry.stripped_strings)
        for table in index.select("table.genindextable")
        for entry in table.select("td > ul > li")
    ]
    assert len(names) > 300
    assert {name.lower() for name in names} >= {"criterion", "łojasiewicz inequality"}
    letters = [heading.get_text() for heading in index.select("main h2[id]")]
    assert letters == sorted({in_an_alphabet(name)[0].upper() for name in names})
    assert [in_an_alphabet(name) for name in names] == sorted(map(in_an_alphabet, names))
    assert not re.search(r"\bmodule$", index.get_text(), flags=re.MULTILINE)


def test_long_names_in_the_index_may_break(page):
    (entry,) = [
        link
        for link in page("genindex").select("td a")
        if link.get_text().startswith("positive_start_bounds()")
    ]
    assert len(entry.find_all("wbr")) == 5


def test_bibliography_is_alphabetical(page):
    listed = [entry.get_text() for entry in page("chapters/bibliography").select(".citation")]
    works = {}  # name of the first author, or of the institution, by title
    for work in parse_file(ROOT / "chapters" / "references.bib").entries.values():
        first = work.persons["author"][0]
        name = " ".join(first.prelast_names + first.last_names)
        works[re.sub("[{}]", "", work.fields["title"])] = in_an_alphabet(name.strip("{}"))
    names = [name for entry in listed for title, name in works.items() if f"{title}." in entry]
    assert len(names) == len(listed) > 30
    assert names == sorted(names)
    assert {"executable books community", "lojasiewicz"} < set(names)


def test_functions_on_the_paper_map_lead_into_the_reference(page):
    tables = page("chapters/paper_map").select("section section .pst-scrollable-table-container")
    assert len(tables) == 2
    names = [code for table in tables for code in table.select("td:last-child code")]
    functions = [code for code in names if "::" not in code.get_text()]
    assert len(functions) > 70
    for code in functions:
        place = code.find_parent("a")["href"]
        assert re.fullmatch(
            rf"api/\w+\.html#plcore\.\w+\..*{code.get_text().split('.')[-1]}", place
        )


def test_reference_shows_the_help_of_the_command_line(page, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    shown = [block.get_text() for block in page("chapters/api").select("#the-command-line pre")]
    for command, text in zip(("certify", "verify", "refresh"), shown, strict=True):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert text.strip() == capsys.readouterr().out.strip()


def test_index_of_statements_has_its_chapters_in_the_margin(page):
    statements = page("chapters/statements")
    headings = [heading.get_text().rstrip("#") for heading in statements.select("article h2")]
    links = statements.select(".bd-sidebar-secondary a.nav-link")
    assert [link.get_text() for link in links] == headings
    assert all(statements.find(id=link["href"].removeprefix("#")) for link in links)
    # Each numbered chapter has a heading, or is said to have none.
    (rest,) = re.findall(r"Chapters ([\d, and]+) state nothing", statements.get_text())
    numbers = re.findall(r"\d+", rest) + [heading.partition(".")[0] for heading in headings]
    assert sorted(map(int, numbers)) == list(range(1, 14))
