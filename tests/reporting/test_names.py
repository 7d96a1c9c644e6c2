import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting import names


def test_names_that_can_be_drawn_stay_as_they_are():
    classes = ["a$$b", "US$ & HK$", "x_{1}", "Größe", "naïve café", "1", "10", "x" * 24, "мышь"]
    assert names.labels(classes) == classes
    assert names.key(classes, list(range(len(classes)))) == ""


def test_a_long_name_loses_its_middle():
    first, second = "A" * 40 + "b" * 34 + "1", "A" * 40 + "b" * 34 + "2"
    assert names.labels([first, second]) == ["AAAAAAAAAAAA…bbbbbbbbbb1", "AAAAAAAAAAAA…bbbbbbbbbb2"]


def test_long_names_that_differ_in_the_middle_have_their_numbers_in_front():
    classes = ["x" * 30 + letter + "y" * 30 for letter in "ab"]
    assert names.labels(["cat", *classes]) == ["cat", f"1: {'x' * 12}…{'y' * 11}", f"2: {'x' * 12}…{'y' * 11}"]


@pytest.mark.parametrize("name", ["\u732b\u540d", "\U0001f436", "a\nb", "\u200b", " ", "\ue000"], ids=ascii)
def test_what_can_not_be_drawn_is_its_number_and_the_key_says_so(monkeypatch, name):
    monkeypatch.setattr(names, "_letters", lambda: frozenset(range(32, 127)))
    assert names.labels(["cat", name]) == ["cat", "class 1"]
    assert names.key(["cat", name], [0, 1]) == f"In the picture class 1 is {name}: no font here can draw that."
    assert names.key(["cat", name], [0]) == ""


def test_the_first_font_is_always_there_and_has_latin_greek_and_cyrillic():
    assert names.fonts()[0] == "DejaVu Sans"
    assert all(map(names.drawable, ("naïve", "αβγ", "мышь", "ﬁ…", "a\u0301")))


@given(st.lists(st.text(max_size=60), unique=True, max_size=30))
def test_labels_are_short_distinct_and_drawable(classes):
    shown = names.labels(classes)
    assert len(set(shown)) == len(classes)
    assert all(len(each) <= names.LONGEST + len("29: ") and names.drawable(each) for each in shown)


@given(st.lists(st.sampled_from(["class 0", "class 1", "0: class 0", "2: class 1", "\n", "\t", "\r"]), unique=True))
def test_names_that_look_like_numbers_stay_distinct(classes):
    assert len(set(names.labels(classes))) == len(classes)
