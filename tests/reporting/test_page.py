import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.reporting import page, report
from tests.toys import images

NASTY = "<b>&\"'é</b>"
VOID = {"meta", "img", "path", "rect", "br"}


class Parsed(HTMLParser):
    """The page's tags, attributes and text, having checked that every tag is closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def png(size=4):
    file = io.BytesIO()
    Image.new("L", (size, size)).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def document():
    frame = pd.DataFrame({NASTY: [NASTY, "plain"], "value": ["1 < 2", "http://example.org/x.png"]})
    return page.document(
        NASTY,
        [
            page.section(NASTY, page.heading(NASTY), page.paragraph(NASTY), page.facts({NASTY: NASTY})),
            page.section("a table", page.table(frame), page.picture(png(), NASTY)),
            page.section("images", page.gallery(images(2), [{NASTY: NASTY}, {"label": "b"}]), page.gallery(images(3))),
        ],
    )


def test_tags_are_balanced(document):
    assert Parsed(document).tags.count("section") == 3


def test_nothing_is_loaded_and_nothing_runs(document):
    parsed = Parsed(document)
    assert "script" not in parsed.tags and "link" not in parsed.tags and "iframe" not in parsed.tags
    loaded = [value for name, value in parsed.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert len(loaded) == 6 and all(value.startswith("data:image/png;base64,") for value in loaded)
    assert not any(name.startswith("on") for name, _ in parsed.attributes)
    assert "url(" not in page.STYLE and "@import" not in page.STYLE


def test_every_text_is_escaped(document):
    parsed = Parsed(document)
    assert parsed.tags.count("b") == 2  # of the captions' own
    assert sum(NASTY in text for text in parsed.text) == 11
    assert next(value for name, value in parsed.attributes if name == "alt") == NASTY


def test_a_table_has_a_row_a_row_and_whole_cells():
    long = "x" * 200
    parsed = Parsed(page.table(pd.DataFrame({"name": ["a", "b"], "value": [long, ""]})))
    assert (parsed.tags.count("tr"), parsed.tags.count("th"), parsed.tags.count("td")) == (3, 4, 2)
    assert long in parsed.text


def shown(html):
    encoded = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in encoded]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_images_are_embedded_pixel_by_pixel(channels, mode):
    pixels = images(2, size=28, channels=channels)
    found = shown(page.gallery(pixels))
    assert [image.mode for image in found] == [mode, mode]
    for image, expected in zip(found, pixels, strict=True):
        assert np.array_equal(np.asarray(image).reshape(expected.shape), expected)


def test_small_images_are_enlarged_in_pixels_and_large_ones_reduced():
    assert 'class="small"' in page.gallery(images(1, size=8))
    html = page.gallery(images(1, size=224, channels=3))
    assert 'class="small"' not in html
    assert shown(html)[0].size == (page.LARGEST, page.LARGEST)


def test_the_table_by_class_begins_with_what_the_last_method_finds_hardest():
    shares = {"teacher": np.array([0.9, 0.8, 0.7, np.nan]), "student": np.array([0.6, 0.5, 0.987, np.nan])}
    found = report.by_class(shares, np.array([1000, 20, 30, 0]), ["a", "b", "c", "none"], most=30)
    assert found.to_numpy().tolist() == [["b", "20", "80.0", "50.0"], ["a", "1,000", "90.0", "60.0"],
                                         ["c", "30", "70.0", "98.7"]]  # fmt: skip
    assert list(found) == ["class", "images", "teacher, %", "student, %"]


def test_the_table_by_class_is_cut_to_the_hardest():
    shares = {"student": np.linspace(1, 0, 1000)}
    found = report.by_class(shares, np.ones(1000, int), [str(n) for n in range(1000)], most=30)
    assert found["class"].tolist() == [str(n) for n in range(999, 969, -1)]
