"""Class names in pictures: letter by letter, cut where they are long, a number where no font can draw them."""

from collections import Counter
from functools import cache

from matplotlib import font_manager

LONGEST = 24  # letters of a name in a picture
FAMILIES = (  # the fonts that pictures are drawn with, where they are installed; the first comes with matplotlib
    *("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback"),
    *("Arial Unicode MS", "Hiragino Sans", "Microsoft YaHei", "Noto Emoji", "Symbola"),
)


def labels(classes: list[str]) -> list[str]:
    """What pictures call each class: distinct, of LONGEST letters at most; of what can't be drawn, `class N`.

    N is the position in `classes`. It stands in front of those that would be called the same.
    """
    shown = [_cut(name) if drawable(name) else f"class {number}" for number, name in enumerate(classes)]
    numbered, counts = [f"{number}: {name}" for number, name in enumerate(shown)], Counter(shown)
    distinct = [name if counts[name] == 1 else with_number for name, with_number in zip(shown, numbered, strict=True)]
    return distinct if len(set(distinct)) == len(distinct) else numbered


def key(classes: list[str], shown: list[int]) -> str:
    """The sentence that says which of the classes shown have a number for a name; nothing where none has."""
    numbered = [f"class {number} is {classes[number]}" for number in shown if not drawable(classes[number])]
    return f"In the picture {', '.join(numbered)}: no font here can draw that." if numbered else ""


def drawable(name: str) -> bool:
    """Whether the fonts of FAMILIES that are installed have every letter."""
    return bool(name.strip()) and name.isprintable() and set(map(ord, name)) <= _letters()


@cache
def fonts() -> list[str]:
    """Those of FAMILIES that are installed, for matplotlib's `font.family`."""
    return [family for family in FAMILIES if _file(family)]


@cache
def _letters() -> frozenset[int]:
    """Every code point that one of the fonts has."""
    return frozenset().union(*(font_manager.get_font(_file(family)).get_charmap() for family in fonts()))


@cache
def _file(family: str) -> str | None:
    try:
        return font_manager.findfont(family, fallback_to_default=False)
    except ValueError:
        return None


def _cut(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    end = (LONGEST - 1) // 2
    return f"{name[: LONGEST - 1 - end]}…{name[-end:]}"
