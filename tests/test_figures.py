"""The style, the SVG writer and the controls, without a notebook and with a fake one."""

import itertools
import re
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import tqdm.notebook
from bs4 import BeautifulSoup
from matplotlib.figure import Figure

from plcore import _progress, figures
from plcore.svg import COLORS, png, svg

STYLESHEET = Path(__file__).parents[1] / "chapters" / "_static" / "book.css"
LINES = ("blue", "orange", "green", "purple", "gold", "ink")
# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context():
        figures.use_style()
        yield


def draw(slope):
    figure, axes = figures.subplots()
    axes.plot([0, 1, 2], [0, slope, slope**2], marker="o", label=f"{slope:.2f}")
    axes.set(xlabel="$x$ & <y>", title="loss $S(w_k)$", ylim=(0, 10))
    return figure


def dark_colors():
    (rules,) = re.findall(r'html\[data-theme="dark"\] \{(.*?)\}', STYLESHEET.read_text(), re.S)
    return dict(re.findall(r"--figure-(\w+): (#[0-9a-f]{6});", rules))


def linear(color):
    c = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(first, second):
    light = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (first, second))
    return (light[1] + 0.05) / (light[0] + 0.05)


def lab(rgb):
    """CIE L*a*b* of linear RGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = xyz @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_every_color_has_a_dark_one():
    assert dark_colors().keys() == COLORS.keys()


@pytest.mark.parametrize("palette", [COLORS, dark_colors()], ids=["light", "dark"])
def test_colors_stand_out_from_the_paper(palette):
    """Lines 3:1 as WCAG asks of graphics, words 4.5:1; the grid stays in the background."""
    for name in LINES:
        assert contrast(palette[name], palette["paper"]) >= 3, name
    for name in ("ink", "muted"):
        assert contrast(palette[name], palette["paper"]) >= 4.5, name
    assert contrast(palette["grid"], palette["paper"]) < 2


@pytest.mark.parametrize("palette", [COLORS, dark_colors()], ids=["light", "dark"])
@pytest.mark.parametrize(
    "sight", [np.eye(3), PROTANOPIA, DEUTERANOPIA], ids=["all", "red", "green"]
)
def test_colors_of_the_starts_differ_for_all_eyes(palette, sight):
    """A difference of 10 in L*a*b* is seen at a glance; 2.3 is just noticeable."""
    names = [
        name for name in COLORS if COLORS[name] in {s["color"] for s in figures.STARTS.values()}
    ]
    assert len(names) == len(figures.STARTS) == 4
    for first, second in itertools.combinations(names, 2):
        distance = np.linalg.norm(
            lab(sight @ linear(palette[first])) - lab(sight @ linear(palette[second]))
        )
        assert distance >= 10, (first, second, distance)


def test_starts_differ_without_color():
    for key in ("linestyle", "marker"):
        assert len({str(style[key]) for style in figures.STARTS.values()}) == 4


def test_svg_is_the_same_each_time_and_stands_alone():
    text = svg(draw(1.0))
    assert text == svg(draw(1.0)) != svg(draw(1.5))
    root = ElementTree.fromstring(text)
    kinds = {element.tag.split("}")[1] for element in root.iter()}
    assert not kinds & {"style", "script", "metadata", "text"}
    assert not re.search(r"https?://(?!www\.w3\.org)|<!--|Matplotlib|xlink", text)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    wanted = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    assert set(ids) == wanted
    assert len(ids) == len(set(ids)) > 5
    assert not set(ids) & set(re.findall(r' id="([^"]+)"', svg(draw(1.5))))


def test_svg_colors_follow_the_theme():
    text = svg(draw(1.0))
    for name in ("ink", "muted", "grid", "paper", "blue"):
        assert f"var(--figure-{name}, {COLORS[name]})" in text
    assert not re.search(r"(?<!, )#(?:" + "|".join(c[1:] for c in COLORS.values()) + r")\b", text)


def test_svg_keeps_the_drawing():
    """Coordinates are rounded to a hundredth of a point, and nothing that shows is lost."""
    figure, axes = figures.subplots()
    axes.set_axis_off()
    rng = np.random.default_rng(0)
    (line,) = axes.plot(rng.uniform(size=50), rng.uniform(size=50), color="#123456")
    root = ElementTree.fromstring(svg(figure))
    (path,) = [e for e in root.iter() if "#123456" in e.get("style", "")]
    found = np.array(re.findall(r"-?[\d.]+", path.get("d")), dtype=float).reshape(-1, 2)
    points = axes.transData.transform(np.column_stack(line.get_data())) * 72 / figure.dpi
    height = figure.get_size_inches()[1] * 72
    np.testing.assert_allclose(found, np.c_[points[:, 0], height - points[:, 1]], atol=0.006)


def test_png_is_a_small_picture():
    data = png(draw(1.0))
    assert data.startswith(b"\x89PNG")
    assert len(data) < 20_000


def test_figures_show_themselves_and_pyplot_knows_nothing():
    figure = draw(1.0)
    bundle = figure._repr_mimebundle_()
    assert set(bundle) == {"image/svg+xml", "image/png", "text/plain"}
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


@pytest.mark.parametrize(
    ("arguments", "size"),
    [({}, (5.0, 3.2)), ({"rows": 2}, (5.0, 5.12)), ({"width": 4, "height": 4}, (4, 4))],
)
def test_size_of_subplots(arguments, size):
    figure, _ = figures.subplots(**arguments)
    np.testing.assert_allclose(figure.get_size_inches(), size)


def test_labels_at_the_ends_of_lines_do_not_overlap():
    figure, axes = figures.subplots()
    for k in range(5):
        axes.plot([0, 1], [0, 1 + 0.001 * k], label=f"line {k}")
    axes.plot([0, 1], [0, 0])
    figures.label_ends(axes)
    figure.draw_without_rendering()
    assert [text.get_text() for text in axes.texts] == [f"line {k}" for k in range(5)]
    boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 + 0.5 for below, above in itertools.pairwise(boxes))
    assert all(box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert [t.get_color() for t in axes.texts] == [line.get_color() for line in axes.lines[:5]]


def control(**changes):
    arguments = {"label": "slope & more", "alt": lambda slope: f'A line of "slope" {slope}'}
    return figures.slider(draw, [0.5, 1.0, 1.5], **(arguments | changes))


def test_static_slider_holds_one_labelled_drawing_for_each_value():
    text = control().html()
    assert text == control().html()
    soup = BeautifulSoup(text, "html.parser")
    box = soup.select_one(".figure-control")
    assert (box["data-label"], box["data-start"], box["data-kind"]) == (
        "slope & more",
        "1",
        "slider",
    )
    frames = soup.template.find_all(class_="figure-frame")
    assert [frame["data-text"] for frame in frames] == ["0.5", "1", "1.5"]
    drawings = [frame.svg for frame in frames]
    assert [d["aria-label"] for d in drawings] == [
        f'A line of "slope" {x}' for x in (0.5, 1.0, 1.5)
    ]
    assert {drawing["role"] for drawing in drawings} == {"img"}
    assert len({str(drawing) for drawing in drawings}) == 3
    ids = [element["id"] for element in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', text)) == set(ids)
    assert not set(ids) & set(re.findall(r' id="([^"]+)"', svg(draw(1.0))))
    assert not re.search(r"https?://(?!www\.w3\.org)", text)


def test_static_slider_without_scripts_and_drawings_is_a_picture():
    """What JupyterLab leaves of the output in a notebook that it doesn't trust."""
    soup = BeautifulSoup(control().html(), "html.parser")
    for element in soup.select("script, svg"):
        element.decompose()
    for element in soup.find_all(["template", "div"]):
        element.unwrap()
    assert soup.img["src"].startswith("data:image/png;base64,")
    assert soup.img["alt"] == 'A line of "slope" 1.0'
    assert soup.get_text(" ", strip=True) == "Run this cell to move the control."


def test_live_slider_draws_any_value():
    seen = []

    def watched(slope):
        seen.append(slope)
        return draw(slope)

    frames = figures.slider(watched, [0.5, 1.0, 1.5], label="slope", alt="A line.")
    picture, knob = frames.widget().children
    before = picture.value
    knob.value = 0.7321
    assert seen[-1] == 0.7321
    assert picture.value != before
    assert svg(draw(0.7321)).partition("<path")[2] in picture.value


def test_live_slider_shows_an_error():
    def fussy(slope):
        if slope == 3:
            raise ValueError("three is <too> steep")
        return draw(slope)

    picture, knob = figures.slider(fussy, [1, 2, 4], label="slope", alt="A line.").widget().children
    knob.value = 3
    assert picture.value == "<pre>ValueError: three is &lt;too&gt; steep</pre>"


@pytest.mark.parametrize(
    ("frames", "kind", "value"),
    [
        (control(), "FloatSlider", 1.0),
        (control(start=1.5 + 1e-12), "FloatSlider", 1.5),
        (figures.slider(draw, np.geomspace(0.01, 1, 3), label="a", alt="b"), "FloatLogSlider", 0.1),
        (figures.slider(draw, range(1, 4), label="a", alt="b"), "IntSlider", 2),
        (figures.slider(draw, np.arange(1, 4), label="a", alt="b"), "IntSlider", 2),
        (figures.choice(draw, [1, 2], label="a", alt="b"), "Dropdown", 1),
        (figures.choice(draw, [1, 2], label="a", alt="b", start=2), "Dropdown", 2),
    ],
)
def test_kind_of_live_control(frames, kind, value):
    _, knob = frames.widget().children
    assert type(knob).__name__ == kind
    assert knob.value == pytest.approx(value)


def test_live_display_is_widget_and_html():
    view = "application/vnd.jupyter.widget-view+json"
    assert set(control()._repr_mimebundle_()) == {"text/plain", "text/html", view}


def test_without_ipywidgets_the_static_form_remains(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert set(control()._repr_mimebundle_()) == {"text/plain", "text/html"}


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: control(label=""), ValueError, "label must not be empty"),
        (lambda: control(label=3), TypeError, "label must be a string, but is 3"),
        (lambda: control(alt=" ").html(), ValueError, "alt must not be empty"),
        (
            lambda: control(start=0.7),
            ValueError,
            r"start must be one of \[0.5, 1.0, 1.5\], but is 0.7",
        ),
        (lambda: control(start="a"), TypeError, "start must be a real number"),
        (lambda: control(text="3g"), TypeError, "text must be a function"),
        (lambda: control(text=lambda value: value).html(), TypeError, "text must be a string"),
        (
            lambda: figures.slider(3, [1, 2], label="a", alt="b"),
            TypeError,
            "draw must be a function",
        ),
        (lambda: figures.slider(draw, [1], label="a", alt="b"), ValueError, "at least two numbers"),
        (lambda: figures.slider(draw, [2, 1], label="a", alt="b"), ValueError, "that increase"),
        (lambda: figures.slider(draw, [1, np.nan], label="a", alt="b"), ValueError, "values"),
        (lambda: figures.slider(draw, ["a", "b"], label="a", alt="b"), TypeError, "values"),
        (lambda: figures.slider(print, [1, 2], label="a", alt="b").html(), TypeError, "figure"),
        (
            lambda: figures.choice(draw, [1, 1], label="a", alt="b"),
            ValueError,
            "two different ones",
        ),
        (lambda: figures.choice(draw, [1, 2], label="a", alt="b", start=3), ValueError, "one of"),
    ],
)
def test_bad_input_is_named(call, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        call()
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(("disable", "bars"), [("1", 0), ("", 1)])
def test_a_progress_bar_is_silent_where_outputs_are_stored(monkeypatch, disable, bars):
    """The bar for notebooks too, which by itself doesn't look at the variable."""
    shown = []
    monkeypatch.setattr(tqdm.notebook, "display", shown.append)
    impatient = {"delay": 0.01, "mininterval": 0.0}
    monkeypatch.setattr(
        _progress, "tqdm", lambda items, **given: tqdm.notebook.tqdm(items, **(given | impatient))
    )
    monkeypatch.setenv("TQDM_DISABLE", disable)
    for _ in _progress.progress(range(4), 4, "waiting"):
        time.sleep(0.02)
    assert len(shown) == bars


def test_any_matplotlib_figure_will_do():
    figure = Figure()
    figure.subplots().plot([0, 1])
    assert "<svg" in svg(figure)
