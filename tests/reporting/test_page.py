import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.reporting import page
from pipeline.reporting.page import Gallery, Picture, Section, Sheet
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


def shown(*parts, folded=False):
    return page.render("title", [Section("heading", list(parts), folded)])


@pytest.fixture(scope="module")
def document():
    frame = pd.DataFrame({NASTY: [NASTY, "plain"], "value": ["1 < 2", "http://example.org/x.png"]})
    captions = [{NASTY: NASTY}, {"label": "b"}]
    return page.render(
        NASTY,
        [
            Section(NASTY, [NASTY, frame]),
            Section(NASTY, [Picture(png(), NASTY)], folded=True),
            Section("images", [Gallery(images(2), captions), Gallery(images(3))]),
        ],
    )


def test_tags_are_balanced(document):
    assert Parsed(document).tags.count("section") == 2


def test_nothing_is_loaded_and_nothing_runs(document):
    parsed = Parsed(document)
    assert not {"script", "link", "iframe", "object", "form"} & set(parsed.tags)
    loaded = [value for name, value in parsed.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert len(loaded) == 6 and all(value.startswith("data:image/png;base64,") for value in loaded)
    assert not any(name.startswith("on") for name, _ in parsed.attributes)
    assert "url(" not in document and "@import" not in document
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in parsed.attributes


def test_every_text_is_escaped(document):
    parsed = Parsed(document)
    assert parsed.tags.count("b") == 2  # of the captions' own
    assert sum(NASTY in text for text in parsed.text) == 9
    assert next(value for name, value in parsed.attributes if name == "alt") == NASTY


def test_a_folded_section_waits_for_a_click():
    parsed = Parsed(shown("text", folded=True))
    assert parsed.tags.count("details") == parsed.tags.count("summary") == 1 and "section" not in parsed.tags
    assert not any(name == "open" for name, _ in parsed.attributes)


def test_a_table_has_a_row_a_row_and_whole_cells():
    long = "x" * 200
    parsed = Parsed(shown(pd.DataFrame({"name": ["a", "b"], "value": [long, ""]})))
    assert (parsed.tags.count("tr"), parsed.tags.count("th"), parsed.tags.count("td")) == (3, 2, 4)
    assert long in parsed.text


def test_a_long_table_is_shown_to_its_end():
    parsed = Parsed(shown(pd.DataFrame({"class": [f"class {number}" for number in range(300)]})))
    assert {"class 0", "class 150", "class 299"} <= set(parsed.text)


def test_a_table_with_a_column_of_any_name_is_a_table():
    assert "table" in Parsed(shown(pd.DataFrame({"png": ["1"], "images": ["2"], "captions": ["3"]}))).tags


def embedded(html):
    encoded = re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in encoded]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_images_are_embedded_pixel_by_pixel(channels, mode):
    pixels = images(2, size=28, channels=channels)
    pictures = embedded(shown(Gallery(pixels)))
    assert [image.mode for image in pictures] == [mode, mode]
    for image, expected in zip(pictures, pixels, strict=True):
        assert np.array_equal(np.asarray(image).reshape(expected.shape), expected)


def test_small_images_are_enlarged_in_pixels_and_large_ones_reduced():
    assert ("class", "images enlarged") in Parsed(shown(Gallery(images(1, size=8)))).attributes
    html = shown(Gallery(images(1, size=224, channels=3)))
    assert ("class", "images") in Parsed(html).attributes
    assert embedded(html)[0].size == (page.LARGEST, page.LARGEST)


def test_an_image_of_a_gallery_has_its_own_caption():
    first, second = shown(Gallery(images(2), [{"label": "cat"}, {"label": "dog"}])).split("<figure>")[1:]
    assert "<b>cat</b>" in first and "<b>dog</b>" in second


def test_large_images_are_embedded_as_jpeg_and_take_a_tenth():
    smooth = np.linspace(0, 255, 224).astype(np.uint8)
    pixels = np.random.default_rng(0).normal(0, 4, (1, 224, 224, 3)) + smooth[:, None]
    html = shown(Gallery(np.clip(pixels, 0, 255).astype(np.uint8)))
    (image,) = embedded(html)
    assert image.format == "JPEG" and len(html) < len(shown()) + 15_000
    reduced = np.asarray(Image.fromarray(pixels[0].clip(0, 255).astype(np.uint8)).resize(image.size)).astype(int)
    assert np.abs(np.asarray(image) - reduced).mean() < 4


def test_a_sheet_has_a_row_a_name_with_its_images_of_any_sizes():
    small, large = images(2, size=28), images(1, size=224, channels=3)
    html = shown(Sheet([(NASTY, list(small)), ("dog", [large[0], small[1]])]))
    parsed = Parsed(html)
    assert [value for name, value in parsed.attributes if name == "class"] == ["row enlarged", "row"]
    assert NASTY in parsed.text and "dog" in parsed.text
    sizes = [image.size for image in embedded(html)]
    assert sizes == [(28, 28), (28, 28), (page.LARGEST, page.LARGEST), (28, 28)]
    assert np.array_equal(np.asarray(embedded(html)[0]), small[0, :, :, 0])


def test_a_wide_picture_scrolls_and_others_are_as_wide_as_the_page():
    for width, scrolls in ((page.WIDE, False), (page.WIDE + 1, True)):
        assert (("class", "scrolls") in Parsed(shown(Picture(png(width), "x"))).attributes) == scrolls
