import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.reporting import comparison, figures, names
from tests.reporting.methods import COSTS, LABELS, METHODS

FRONT = pd.DataFrame(
    [("a", 0.9, 1.0, True), ("b", 0.8, 2.0, False)], columns=["members", "accuracy", "p50_ms", "front"]
)
BINS = [{"confidence": 0.9, "accuracy": 0.8, "share": 1.0}, {"confidence": 0.1, "accuracy": 0.0, "share": 0.001}]


@pytest.fixture(scope="module")
def rows():
    return comparison.table(METHODS, LABELS, COSTS, teacher="big", ensemble="simple")


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def test_figures_are_whole_png_files(rows, tmp_path):
    figures.trade_off(rows, tmp_path / "a.png")
    figures.reliability({"on": {"x": BINS}, "off": {"simple": BINS}}, tmp_path / "b.png")
    figures.confusion(np.array([[3, 0], [0, 0]]), ["a", "b"], "heading", tmp_path / "c.png")
    figures.subsets(FRONT, tmp_path / "d.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png", "d.png"]
    for path in tmp_path.iterdir():
        image = opened(path)
        assert image.format == "PNG" and min(image.size) > 300


def test_a_panel_more_makes_the_picture_higher(tmp_path):
    for name, panels in (("one", ["on"]), ("two", ["on", "off"])):
        figures.reliability({heading: {"x": BINS} for heading in panels}, tmp_path / f"{name}.png")
    (width, one), (same, two) = (opened(tmp_path / f"{name}.png").size for name in ("one", "two"))
    assert width == same and two == 2 * one


def test_the_confusion_of_a_thousand_classes_is_a_picture_that_a_page_can_hold(tmp_path):
    figures.confusion(np.eye(1000, dtype=int), [f"class {number}" for number in range(1000)], "x", tmp_path / "a.png")
    assert max(opened(tmp_path / "a.png").size) <= 14 * figures.DPI
    assert (tmp_path / "a.png").stat().st_size < 1_000_000


def drawn(monkeypatch, tmp_path, counts, classes):
    """The axes of the confusion matrix: its labels below, those beside it, its cells' texts, their places as keys."""
    axes = []
    monkeypatch.setattr(figures.plt, "close", lambda figure: axes.append(figure.axes[0]))
    figures.confusion(counts, classes, "heading", tmp_path / "a.png")
    below, beside = ([label.get_text() for label in labels]
                     for labels in (axes[0].get_xticklabels(), axes[0].get_yticklabels()))  # fmt: skip
    return axes[0], below, beside, {text.get_position(): text.get_text() for text in axes[0].texts}


ODD = ["a$$b", "US$ & HK$", "x_{1}", "\\frac", "%", "猫", "1", "10", "11", "2"]


def test_a_confusion_matrix_has_each_name_as_it_is_in_its_order(monkeypatch, tmp_path):
    axes, below, beside, cells = drawn(monkeypatch, tmp_path, np.diag(range(10)), ODD)
    expected = [*ODD[:5], "class 5", *ODD[6:]]
    assert below == beside == expected
    assert not any(label.get_parse_math() for label in (*axes.get_xticklabels(), *axes.texts, axes.title))
    assert cells == {(n, n): str(n) for n in range(1, 10)}


def test_names_of_75_letters_leave_the_matrix_as_large_as_short_ones(monkeypatch, tmp_path):
    sizes, pictures = [], []
    for names_ in (list("abc"), [letter * 75 for letter in "abc"]):
        axes = drawn(monkeypatch, tmp_path, np.eye(3, dtype=int), names_)[0]
        sizes.append(axes.get_window_extent().size.tolist())
        pictures.append(opened(tmp_path / "a.png").size)
    assert sizes[0] == sizes[1]
    assert max(pictures[1]) < 2 * max(pictures[0])


def test_of_120_classes_the_most_confused_are_drawn_with_their_names_and_what_is_left(monkeypatch, tmp_path):
    counts = np.diag(np.full(120, 50))
    counts[100, 7], counts[100, 119] = 9, 8
    for number in range(40, 70):
        counts[number, number + 1] = 2
    counts[3, 5] = 1
    classes = [f"kind {number}" for number in range(120)]
    axes, below, beside, cells = drawn(monkeypatch, tmp_path, counts, classes)
    assert len(beside) == figures.CONFUSED and below == [*beside, "(all others)"]
    assert {"kind 7", "kind 100", "kind 119"} < set(beside) and "kind 3" not in beside
    assert beside == [name for name in classes if name in beside]
    row = beside.index("kind 100")
    assert cells[beside.index("kind 7"), row] == "9" and cells[row, row] == "50"
    totals = [sum(int(cells.get((column, row), 0)) for column in range(31)) for row in range(30)]
    assert totals == [counts[classes.index(name)].sum() for name in beside]
    assert "the 30 of 120 classes" in axes.get_title()


def test_every_letter_of_a_drawn_matrix_has_a_glyph(tmp_path, recwarn):
    figures.confusion(np.eye(len(ODD), dtype=int), ODD, "heading", tmp_path / "a.png")
    assert not [warning for warning in recwarn if "missing from font" in str(warning.message)]
    assert names.key(ODD, list(range(10))) == "In the picture class 5 is 猫: no font here can draw that."


def test_a_figure_of_the_same_numbers_has_the_same_bytes(rows, tmp_path):
    for name in ("a.png", "b.png"):
        figures.trade_off(rows, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
