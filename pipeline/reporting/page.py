"""One HTML page that needs nothing else: its style and pictures are inside, and whatever is shown is escaped.

Functions that say so return HTML; everything that they take is plain text, numbers or images.
"""

import base64
import io
from html import escape

import numpy as np
import pandas as pd
from PIL import Image

SMALL = 80  # pixels a side, below which images are shown enlarged
LARGEST = 128  # pixels a side; larger images are embedded at that
STYLE = """
:root { color-scheme: light dark; --edge: #8886; --card: #8881; --page: #fff; --text: #1b1b1f; --accent: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --page: #17181c; --text: #e6e6ea; --accent: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; background: var(--page); color: var(--text);
       font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.2; }
h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid var(--edge); }
h3 { font-size: 1rem; margin-bottom: 0.4rem; }
img { max-width: 100%; height: auto; }
.picture { display: block; width: 40rem; margin: 1rem auto; background: #fff; border-radius: 6px; }
.box { overflow-x: auto; margin: 1rem 0; border: 1px solid var(--edge); border-radius: 6px; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 0.3rem 0.6rem; text-align: left; white-space: nowrap; }
thead th { border-bottom: 1px solid var(--edge); }
tbody tr:nth-child(even) { background: var(--card); }
tbody th { position: sticky; left: 0; background: var(--page); font-weight: normal; white-space: normal;
           min-width: 8rem; max-width: 13rem; overflow-wrap: break-word; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 0.6rem; margin: 1rem 0; }
dl div { padding: 0.5rem 0.7rem; background: var(--card); border-radius: 6px; }
dt { font-size: 0.8rem; }
dd { margin: 0; font-weight: 600; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(4rem, 1fr)); gap: 0.6rem; }
.captioned { grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); }
.images figure { margin: 0; font-size: 0.75rem; line-height: 1.35; }
.images img { display: block; width: 100%; max-width: 6rem; aspect-ratio: 1; border-radius: 4px; }
.images .small { image-rendering: pixelated; }
svg { display: block; width: 100%; max-width: 36rem; margin: 1rem auto; }
svg path { fill: none; stroke: currentColor; stroke-opacity: 0.55; }
svg .up { stroke-dasharray: 3 3; stroke: var(--accent); stroke-opacity: 1; }
svg rect { fill: var(--page); stroke: currentColor; }
svg text { font: 11px system-ui, sans-serif; text-anchor: middle; fill: currentColor; }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # a browser loads nothing, runs nothing


def document(title: str, sections: list[str]) -> str:
    """The HTML of the whole page, of sections in HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def section(heading: str, *parts: str) -> str:
    """HTML, of parts in HTML."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n" + "\n".join(parts) + "\n</section>"


def heading(text: str) -> str:
    """HTML of a heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str) -> str:
    """HTML."""
    return f"<p>{escape(text)}</p>"


def facts(values: dict[str, str]) -> str:
    """HTML of a few figures, each below what it is."""
    return "<dl>" + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in values.items()) + "</dl>"


def table(frame: pd.DataFrame) -> str:
    """HTML of a table of text that scrolls sideways in a box of its own; its first column names the row."""
    head = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in frame)
    rows = ["".join(f"<td>{escape(str(cell))}</td>" for cell in cells) for _, *cells in frame.itertuples(index=False)]
    names = [f'<th scope="row">{escape(str(name))}</th>' for name in frame.iloc[:, 0]]
    body = "\n".join(f"<tr>{name}{row}</tr>" for name, row in zip(names, rows, strict=True))
    return (f'<div class="box" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody></table></div>")  # fmt: skip


def picture(png: bytes, description: str) -> str:
    """HTML of a PNG file that is as wide as it is or as the page."""
    return f'<img class="picture" src="{_uri(png)}" alt="{escape(description)}">'


def gallery(images: np.ndarray, captions: list[dict[str, str]] | None = None) -> str:
    """HTML of small images side by side, with lines below each: what it is taken for, by whom.

    Args:
        images: (samples, height, width, channels) uint8, of one channel or three. captions: by sample.
    """
    figures = [
        f"<figure>{_image(image)}{''.join(_line(*line) for line in caption.items())}</figure>"
        for image, caption in zip(images, captions or [{}] * len(images), strict=True)
    ]
    kind = "images captioned" if captions else "images"
    return f'<div class="{kind}">\n' + "\n".join(figures) + "\n</div>"


def _line(who: str, what: str) -> str:
    return f"<div>{escape(who)}: <b>{escape(what)}</b></div>"


def _image(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    kind = ' class="small"' if max(image.size) < SMALL else ""
    image.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return f'<img{kind} src="{_uri(file.getvalue())}" alt="a test image">'


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
