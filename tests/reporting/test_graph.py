from typing import NamedTuple

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from pipeline.reporting import graph
from tests.conftest import CHECKOUT


class Stage(NamedTuple):
    """What DVC's own stages are known by."""

    addressing: str


def executions(edges):
    """DVC's graph of pairs (stage, what it needs)."""
    return nx.DiGraph([(Stage(first), Stage(second)) for first, second in edges])


TOY = executions([
    ("train@a", "prepare"), ("train@b", "prepare"), ("fit", "train@a"), ("fit", "train@b"), ("fit", "prepare"),
    ("teach@0-x", "fit"), ("teach@0-x", "prepare"), ("clean", "prepare"), ("end", "teach@0-x"), ("end", "clean"),
])  # fmt: skip


def test_a_node_is_a_stage_and_how_often_it_runs():
    assert set(graph.collapse(TOY)) == {"prepare", "train × 2", "fit", "teach", "clean", "end"}


def test_edges_lead_to_who_needs_it_without_those_that_follow_from_others():
    assert set(graph.collapse(TOY).edges) == {
        ("prepare", "train × 2"), ("train × 2", "fit"), ("fit", "teach"), ("teach", "end"), ("prepare", "clean"),
        ("clean", "end"),
    }  # fmt: skip


def test_stages_that_need_each_other_share_a_node():
    """One student is exported before another is trained, so neither stage is above the other."""
    circle = executions([("export@a", "train@a"), ("fit", "export@a"), ("train@b", "fit"), ("export@b", "train@b"),
                         ("end", "export@b")])  # fmt: skip
    assert set(graph.collapse(circle).edges) == {("export × 2, fit, train × 2", "end")}


def test_a_stage_whose_items_need_one_another_needs_nothing():
    assert not graph.collapse(executions([("train@b", "train@a")])).edges


@pytest.fixture(scope="module")
def project():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(CHECKOUT)
        return graph.load()


def test_the_projects_stages_lead_from_prepare_to_publish(project):
    stages = graph.collapse(project)
    named = {name.partition(" ")[0] for name in stages}
    assert named == set(YAML(typ="safe").load((CHECKOUT / "dvc.yaml").read_text())["stages"])
    assert [name for name, count in stages.in_degree if count == 0] == ["prepare"]
    assert {("benchmark", "report"), ("report", "publish")} <= set(stages.edges)


ANY = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), min_size=1, max_size=40).map(
    lambda pairs: executions([("stage_" + "x" * max(pair), "stage_" + "x" * min(pair)) for pair in pairs])
)


@given(ANY)
def test_boxes_and_lines_lie_apart_within_the_picture(drawn):
    rows, lines = graph.layout(graph.collapse(drawn))
    x, width = graph.place(rows, lines)
    for row in rows:
        left = 0.0
        for point in sorted(row, key=x.get):
            half = (len(point) * graph.LETTER / 2 + graph.PADDING) if isinstance(point, str) else 0
            assert x[point] - half > left
            left = x[point] + half
        assert left < width


@given(ANY)
def test_a_line_leads_from_row_to_row_downwards(drawn):
    stages = graph.collapse(drawn)
    rows, lines = graph.layout(stages)
    row_of = {point: number for number, row in enumerate(rows) for point in row}
    assert all(row_of[below] == row_of[above] + 1 for above, below in lines)
    ways = nx.DiGraph(lines)
    assert all(nx.has_path(ways, above, below) for above, below in stages.edges)
    assert {label for label in row_of if isinstance(label, str)} == set(stages)


def test_the_projects_picture_is_a_phone_wide_and_has_the_same_bytes_again(project, tmp_path):
    for name in ("a.png", "b.png"):
        graph.draw(project, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width < 1.1 * graph.WIDTH * graph.figures.DPI < picture.height * 1.1
