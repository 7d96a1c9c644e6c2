"""One HTML page that needs nothing else: its style and pictures are inside, and whatever is shown is escaped."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image

LARGEST = 128  # pixels a side; larger images of a gallery are embedded at that
ENLARGED = 80  # pixels; smaller images are embedded and shown pixel by pixel, others as JPEG
QUALITY = 85  # of JPEG
WIDE = 900  # pixels; a wider picture is not made as narrow as a phone but scrolls


class Picture(NamedTuple):
    """A PNG file, shown as wide as it is or as the page. description: for those who can't see it."""

    png: bytes
    description: str


class Gallery(NamedTuple):
    """Small images side by side, with lines below each: what it is taken for, by whom.

    images: (samples, height, width, channels) uint8, of one channel or three. captions: by sample, or none at all.
    """

    images: np.ndarray
    captions: Sequence[dict[str, str]] = ()


class Sheet(NamedTuple):
    """Rows of small images. rows: a name and its images, each (height, width, channels) uint8 as in a gallery."""

    rows: Sequence[tuple[str, Sequence[np.ndarray]]]


class Section(NamedTuple):
    """parts: paragraphs, tables whose first column names the row, and images. folded: opened by a click."""

    heading: str
    parts: list[str | pd.DataFrame | Picture | Gallery | Sheet]
    folded: bool = False


def render(title: str, sections: list[Section]) -> str:
    """The HTML of the whole page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined,
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.tests["table"] = lambda part: isinstance(part, pd.DataFrame)
    environment.tests["small"] = lambda height: height < ENLARGED
    environment.tests["wide"] = lambda png: Image.open(io.BytesIO(png)).width > WIDE
    environment.filters |= {"table": _table, "uri": _uri, "image_uri": _image_uri}
    return environment.get_template("page.html").render(title=title, sections=sections)


def _table(frame: pd.DataFrame) -> Markup:
    with pd.option_context("display.max_colwidth", None):
        return Markup(frame.to_html(index=False, border=0, justify="left"))  # noqa: S704 - pandas has escaped it


def _uri(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _image_uri(pixels: np.ndarray) -> str:
    image, file = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), io.BytesIO()
    kind = "png" if len(pixels) < ENLARGED else "jpeg"
    image.thumbnail((LARGEST, LARGEST))
    image.save(file, format=kind, optimize=True, **({"quality": QUALITY} if kind == "jpeg" else {}))
    return _uri(file.getvalue(), kind)
