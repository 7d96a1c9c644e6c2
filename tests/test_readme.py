import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from pipeline.reporting import tables
from stages import import_images
from tests.conftest import CHECKOUT

README = CHECKOUT / "README.md"
LARGEST = 12_000  # bytes
PAGES = [README, *sorted((CHECKOUT / "docs").rglob("*.md")), *sorted((CHECKOUT / "benchmarks").glob("*.md"))]
NAMED = r"\b((?:pipeline|stages|tests|benchmarks|profiles|docs)/[a-z0-9_/-]+\.(?:py|yaml|md|json))\b"


def six_rows() -> str:
    """The README's table, of the committed run."""
    return tables.pipes(tables.overview(pd.read_csv(CHECKOUT / "reports/benchmark.csv")))


def code(page: Path) -> list[str]:
    """The page's lines of code and its words of code; old commits have other files, so their lines are left out."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line for line in [*"".join(blocks).splitlines(), *inline] if "git checkout" not in line]


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives to the page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in titles}


def test_the_readme_can_be_read_in_one_go():
    assert README.stat().st_size <= LARGEST


def test_the_readme_shows_six_rows_of_the_committed_run():
    shown = README.read_text(encoding="utf-8").split("<!-- benchmark -->")[1].split("<!-- /benchmark -->")[0]
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert rows == six_rows().splitlines() and len(rows) == 2 + 6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_every_link_leads_to_a_file_or_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_every_command_and_file_that_a_page_names_is_there(page):
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    for words in code(page):
        assert set(re.findall(r"(?<![\w-])make ([a-z-]+)", words)) <= targets, words
        modules = re.findall(r"python -m ([a-z_]+(?:\.[a-z_]+)*)", words)
        assert all(find_spec(module) for module in modules), words
        there = set(re.findall(NAMED, words)) - {str(import_images.PROFILE), str(import_images.OTHER_PROFILE)}
        assert all((CHECKOUT / name).is_file() for name in there), words
        for module, names in re.findall(r"^ *from ([\w.]+) import ([\w, ]+)$", words):
            imported = importlib.import_module(module)
            assert all(hasattr(imported, name) or find_spec(f"{module}.{name}") for name in names.split(", ")), words
