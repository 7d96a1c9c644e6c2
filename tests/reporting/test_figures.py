import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.reporting import comparison, figures
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
    assert max(opened(tmp_path / "a.png").size) <= figures.LARGEST_CONFUSION * figures.DPI
    assert (tmp_path / "a.png").stat().st_size < 1_000_000


def test_a_figure_of_the_same_numbers_has_the_same_bytes(rows, tmp_path):
    for name in ("a.png", "b.png"):
        figures.trade_off(rows, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
