"""Checks of a built page: of its HTML alone, and of what a browser makes of it.

Each check returns the faults that it finds, a line each, so that a test can say where they are
and so that the checks themselves can be tested on a page that has them all.
"""

import re
from urllib.parse import unquote, urlsplit

from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
# The contrast that WCAG 2 asks of body text at level AA.
LEAST_CONTRAST = 4.5


class Site:
    """The HTML files of a built book, each parsed once."""

    def __init__(self, folder):
        self.folder = folder.resolve()
        self._parsed = {}

    def page(self, path):
        path = path.resolve()
        if path not in self._parsed:
            soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            ids = [element["id"] for element in soup.find_all(id=True)]
            self._parsed[path] = soup, ids
        return self._parsed[path]

    def broken_links(self, path):
        """Links to files or places in the book that don't exist, and assets that don't."""
        soup, _ = self.page(path)
        faults = []
        for tag, attribute in (("a", "href"), ("link", "href"), ("script", "src"), ("img", "src")):
            for element in soup.find_all(tag, attrs={attribute: True}):
                url = urlsplit(element[attribute])
                if url.scheme or url.netloc:
                    continue
                target = (path.parent / unquote(url.path)).resolve() if url.path else path.resolve()
                if not target.is_file():
                    faults.append(f"{element[attribute]} leads to no file")
                elif not self._has_place(target, unquote(url.fragment)):
                    faults.append(f"{element[attribute]} leads to no place on that page")
        return faults

    def _has_place(self, path, name):
        return not name or path.suffix != ".html" or name in self.page(path)[1]

    def structure_faults(self, path):
        """Duplicate identifiers, no or several titles, headings that skip a level."""
        soup, ids = self.page(path)
        faults = [
            f"id {name!r} occurs twice" for name in sorted({x for x in ids if ids.count(x) > 1})
        ]
        article = soup.find("article") or soup
        levels = [int(heading.name[1]) for heading in article.find_all(re.compile(r"^h[1-6]$"))]
        if levels.count(1) != 1:
            faults.append(f"the page has {levels.count(1)} headings of the first level")
        if article.select("summary[aria-label]"):
            faults.append("a title of a box is read out as something else than it says")
        previous = 1
        for level in levels:
            if level > previous + 1:
                faults.append(f"a heading of level {level} follows one of level {previous}")
            previous = level
        return faults

    def loose_punctuation(self, path):
        """Formulas that a line's end may part from the comma or the bracket behind them."""
        soup, _ = self.page(path)
        article = soup.find("article") or soup
        alone = article.select(":not(.together) > span.math")
        texts = [(math.get_text(), str(math.next_sibling or "")[:10]) for math in alone]
        return [f"{a}{b} may be parted" for a, b in texts if b.startswith(tuple(",.;:)"))]

    def unlabelled_pictures(self, path):
        """Pictures without an alternative text, the hidden frames of sliders included."""
        soup, _ = self.page(path)
        article = soup.find("article") or soup
        faults = []
        for image in article.find_all("img"):
            if not image.get("alt", "").strip():
                faults.append(f"image {image.get('src', '')[:60]} has no alternative text")
        for frame in article.find_all(class_=["figure-frame", "figure-still"]):
            drawing = frame.find("svg")
            if drawing.get("role") != "img" or not drawing.get("aria-label", "").strip():
                name = getattr(frame.find_parent("figure"), "attrs", {}).get("id", "without a name")
                faults.append(f"a drawing of figure {name} has no alternative text")
        return faults


# Text as a reader meets it: not code, not the source that MathJax keeps beside its output.
_TEXT = """
() => {
  const skipped = "script, style, template, pre, code, dl.py dt, mjx-container, textarea";
  const walker = document.createTreeWalker(document.querySelector("article") ?? document.body,
                                           NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.textContent.trim() && !node.parentElement.closest(skipped)) {
      texts.push(node.textContent.trim());
    }
  }
  return texts;
}
"""
_RAW = re.compile(r"\$|\\[A-Za-z(\[]|\{[a-z]+(:[a-z]+)*\}|`|:::|\*\*|\]\(")

# The least contrast of the page's letters with what they stand on, by kind of element.
_CONTRAST = """
() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
  const over = ([r, g, b, a], below) => [r, g, b].map((c, k) => a * c + (1 - a) * below[k]);
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const color = parse(getComputedStyle(element).backgroundColor);
    return color[3] === 1 ? color : over(color, ground(element.parentElement));
  };
  const folded = [...document.querySelectorAll("article details:not([open])")];
  folded.forEach((box) => { box.open = true; });
  const faults = new Map();
  for (const element of document.body.querySelectorAll("*")) {
    const written = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const seen = element.checkVisibility({visibilityProperty: true}) && !element.closest("svg");
    if (!written || !seen) continue;
    const below = ground(element);
    const letters = over(parse(getComputedStyle(element).color), below);
    const [high, low] = [light(letters), light(below)].sort((a, b) => b - a);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < LEAST) {
      const kind = element.tagName.toLowerCase() + "." + element.className;
      const text = element.textContent.trim().slice(0, 40);
      faults.set(kind, `contrast ${contrast.toFixed(2)} in ${kind}: ${text}`);
    }
  }
  folded.forEach((box) => { box.open = false; });
  return [...faults.values()];
}
""".replace("LEAST", str(LEAST_CONTRAST))

# One specimen of each kind of text, by all that its contrast depends on, that was not seen before.
_SPECIMENS = """
(known) => {
  const ground = (element) => {
    const color = element ? getComputedStyle(element).backgroundColor : "";
    return color.endsWith(", 0)") ? ground(element.parentElement) : color;
  };
  const folded = [...document.querySelectorAll("article details:not([open])")];
  folded.forEach((box) => { box.open = true; box.dataset.folded = ""; });
  const kinds = new Set(known);
  for (const element of document.body.querySelectorAll("*")) {
    const written = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const drawn = element.closest("svg, mjx-container");
    const seen = element.checkVisibility({visibilityProperty: true, opacityProperty: true});
    if (!written || drawn || !seen) continue;
    const {color, fontSize, fontWeight} = getComputedStyle(element);
    const kind = [color, ground(element), fontSize, fontWeight].join(" ");
    if (!kinds.has(kind)) element.dataset.specimen = kind;
    kinds.add(kind);
  }
  return [...kinds].filter((kind) => !known.includes(kind));
}
"""
_SPECIMENS_END = """
() => {
  for (const one of document.querySelectorAll("[data-specimen]")) delete one.dataset.specimen;
  for (const box of document.querySelectorAll("[data-folded]")) {
    box.open = false;
    delete box.dataset.folded;
  }
}
"""

# What sticks out to the right of the window, and isn't inside something that scrolls or clips.
_OVERFLOW = """
() => {
  const root = document.documentElement;
  if (root.scrollWidth <= root.clientWidth) return [];
  const inside = (element) => {
    for (let up = element.parentElement; up && up !== document.body; up = up.parentElement) {
      if (getComputedStyle(up).overflowX !== "visible") return true;
    }
    return false;
  };
  const wide = [...document.body.querySelectorAll("*")].filter(
    (element) => element.getBoundingClientRect().right > root.clientWidth + 1 && !inside(element));
  const names = wide.map((element) => {
    const right = Math.round(element.getBoundingClientRect().right);
    const kind = element.tagName.toLowerCase() + "." + element.className;
    return `${kind} reaches to ${right} of ${root.clientWidth} pixels`;
  });
  return names.length ? names : [`the page is ${root.scrollWidth} pixels wide`];
}
"""


# Tables that are cut at the right although the window is wide.
_CUT = """
() => [...document.querySelectorAll(".pst-scrollable-table-container")]
  .filter((box) => box.scrollWidth > box.clientWidth + 1)
  .map((box) => `a table of ${box.scrollWidth} pixels is cut: ${box.innerText.slice(0, 60)}`)
"""

# Whether a person sees where the focus is.
_FOCUS_SHOWS = """
() => {
  const style = getComputedStyle(document.activeElement);
  return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
}
"""


class Visit:
    """One page, opened in the browser with the network cut off."""

    def __init__(self, browser, path, theme="light", viewport=None):
        self.requested, self.messages = [], []
        self.context = browser.new_context(
            viewport=viewport or DESK, color_scheme=theme, reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.page.route("**/*", self._route)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.messages.append(f"script error: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.goto(path.resolve().as_uri(), wait_until="load")
        self.page.evaluate("window.MathJax?.startup?.promise")
        self.page.evaluate("document.fonts.ready")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.context.close()

    def _route(self, route):
        if urlsplit(route.request.url).scheme in ("file", "data", "blob"):
            route.continue_()
        else:
            self.requested.append(f"request to another host: {route.request.url}")
            route.abort()

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.messages.append(f"console {message.type}: {message.text}")

    def _failed(self, request):
        if urlsplit(request.url).scheme == "file":
            self.messages.append(f"file not found: {request.url}")

    def set_theme(self, theme):
        self.page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)

    def raw_source(self):
        """Pieces of TeX, roles or Markdown left in the text."""
        return [text[:80] for text in self.page.evaluate(_TEXT) if _RAW.search(text)]

    def math_faults(self):
        """Formulas that aren't typeset, or have an error in them."""
        formulas = self.page.locator(".math")
        wanted, found = formulas.count(), self.page.locator(".math:has(mjx-container)").count()
        faults = [f"{wanted - found} of {wanted} formulas aren't typeset"] * (wanted != found)
        errors = self.page.locator("mjx-merror").evaluate_all(
            "all => all.map(e => e.dataset.mjxError ?? e.textContent)"
        )
        return faults + [f"MathJax says: {error}" for error in errors]

    def low_contrast(self):
        """Text too pale for what it stands on, the text in folded boxes included."""
        return self.page.evaluate(_CONTRAST)

    def contrast_faults(self, known):
        """What axe-core says of the contrast of each kind of text that isn't yet `known`.

        A whole chapter would take it minutes, and `low_contrast` looks at all letters.
        """
        fresh = self.page.evaluate(_SPECIMENS, sorted(known))
        known.update(fresh)
        place = {"include": ["[data-specimen]"], "exclude": ["mjx-container", "svg"]}
        options = {"runOnly": {"type": "rule", "values": ["color-contrast"]}, "preload": False}
        answer = Axe().run(self.page, place, options).response if fresh else {"violations": []}
        self.page.evaluate(_SPECIMENS_END)
        return _named(answer)

    def overflow(self):
        return self.page.evaluate(_OVERFLOW)

    def cut_tables(self):
        return self.page.evaluate(_CUT)

    def focus_faults(self, stops):
        """Which of the first places that Tab leads to don't show that they have the focus."""
        faults = []
        for k in range(stops):
            self.page.keyboard.press("Tab")
            if not self.page.evaluate(_FOCUS_SHOWS):
                name = self.page.evaluate("document.activeElement.outerHTML.slice(0, 100)")
                faults.append(f"stop {k + 1} has the focus and doesn't show it: {name}")
        return faults

    def accessibility_faults(self, colors_only=False):
        """Serious and critical faults that axe-core finds, in the theme shown.

        Contrast is left to `low_contrast` and `contrast_faults`.
        """
        options = {"resultTypes": ["violations"], "rules": {"color-contrast": {"enabled": False}}}
        options["preload"] = False  # it would ask for the style sheets anew
        if colors_only:  # all that a change of theme changes
            options["runOnly"] = {"type": "rule", "values": ["link-in-text-block"]}
        return _named(Axe().run(self.page, options=options).response)

    def keyboard_faults(self):
        """Controls that Tab doesn't reach or keys don't move, boxes that Enter doesn't open."""
        faults = []
        boxes = self.page.locator(".figure-control")
        for k in range(boxes.count()):
            # A click leaves the focus nowhere, and Tab goes on from there.
            boxes.nth(k).locator(".figure-frame").click(position={"x": 3, "y": 3})
            before = boxes.nth(k).locator(".figure-frame").inner_html()
            self.page.keyboard.press("Tab")
            for key in ("Home", "End"):
                self.page.keyboard.press(key)
                before, last = boxes.nth(k).locator(".figure-frame").inner_html(), before
            if before == last:
                faults.append(f"Tab, Home and End don't move control {k + 1}")
            elif not self.page.evaluate(_FOCUS_SHOWS):
                faults.append(f"control {k + 1} has the focus and doesn't show it")
        for k, title in enumerate(self.page.locator("article summary:visible").all()):
            opened = []
            title.focus()
            for key in ("Enter", "Space"):
                self.page.keyboard.press(key)
                opened.append(title.evaluate("title => title.parentElement.open"))
            if sorted(opened) != [False, True]:
                faults.append(f"Enter and Space don't open and close box {k + 1}")
        return faults

    def control_faults(self):
        """Sliders and menus that don't change their picture, by keyboard or otherwise."""
        faults = []
        boxes = self.page.locator(".figure-control")
        for k in range(boxes.count()):
            faults += [f"control {k + 1}: {fault}" for fault in _control_faults(boxes.nth(k))]
        return faults


def _named(answer):
    """The serious and critical faults in an answer of axe-core, a line each."""
    return [
        f"{fault['id']} ({fault['impact']}): {node['html'][:100]}"
        for fault in answer["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


def _control_faults(box):
    control = box.locator("input, select")
    picture = box.locator(".figure-frame")
    if control.count() != 1 or picture.count() != 1 or not picture.is_visible():
        return ["it has no control or no picture"]
    if not control.evaluate("control => control.labels[0]?.textContent.trim()"):
        return ["it has no label"]
    seen = [picture.inner_html()]
    if control.evaluate("control => control.tagName") == "SELECT":
        for value in control.locator("option").evaluate_all("all => all.map(o => o.value)"):
            control.select_option(value)
            seen.append(picture.inner_html())
        return [] if len(set(seen)) == len(seen) - 1 else ["some options show the same picture"]
    frames = int(control.get_attribute("max")) + 1
    faults, texts = [], []
    control.focus()
    control.press("Home")
    for _ in range(frames):
        seen.append(picture.inner_html())
        texts.append(box.locator("output").inner_text())
        if control.get_attribute("aria-valuetext") != texts[-1]:
            faults.append(f"it says {texts[-1]!r} to the eye only")
        control.press("ArrowRight")
    if len(set(seen)) != frames or seen[0] not in seen[1:]:
        faults.append("the arrow keys don't reach a picture of its own for each value")
    if len(set(texts)) != frames or not all(texts):
        faults.append(f"the values beside it aren't distinct: {texts}")
    control.fill("0")
    if picture.inner_html() != seen[1]:
        faults.append("moving it with the pointer doesn't change the picture")
    return faults
