from html.parser import HTMLParser

import pytest
from ruamel.yaml import YAML

from pipeline import params
from pipeline.reporting import diagram, graph
from tests.conftest import CHECKOUT

TOY = """
prepare: {deps: ["${data.path}"], outs: [data/a.npy, data/b]}
train:
  foreach: {big: {kind: x}, small: {kind: y}}
  do: {deps: [data/a.npy], outs: ["models/${key}.bin"], plots: ["curves/${key}-${item.kind}.csv": {x: epoch}]}
teach:
  matrix: {source: "${sources}", seed: [0, 1]}
  deps: ["targets/${item.source}.npy", data/b/c.npy]
  outs: ["models/${item.source}-${item.seed}.bin"]
time: {deps: [exported/big.onnx], outs: [time.json]}
fit: {deps: [time.json, models/big.bin], outs: [targets/one.npy]}
export:
  matrix: {model: [big, one-0]}
  deps: ["models/${item.model}.bin"]
  outs: ["exported/${item.model}.onnx"]
end: {deps: [exported, curves/small-y.csv], metrics: [end.json: {cache: false}]}
"""


@pytest.fixture(scope="module")
def toy():
    return graph.of(YAML(typ="safe").load(TOY), {"data": {"path": "images"}, "sources": ["one"]})


def test_every_edge_is_a_path_that_one_writes_and_the_other_reads(toy):
    assert toy.needs == {
        ("prepare", "train"), ("prepare", "teach"), ("fit", "teach"), ("export", "time"), ("time", "fit"),
        ("train", "fit"), ("train", "export"), ("teach", "export"), ("export", "end"), ("train", "end"),
    }  # fmt: skip


def test_a_stage_runs_once_an_item(toy):
    assert toy.executions == {"prepare": 1, "train": 2, "teach": 2, "time": 1, "fit": 1, "export": 2, "end": 1}


def test_a_stage_is_below_all_that_its_last_item_needs(toy):
    assert toy.levels == {"prepare": 0, "train": 1, "time": 3, "fit": 4, "teach": 5, "export": 6, "end": 7}


def test_shown_is_what_does_not_follow_from_the_rest(toy):
    assert toy.shown() == {
        ("prepare", "train"), ("export", "time"), ("time", "fit"), ("train", "fit"), ("fit", "teach"),
        ("teach", "export"), ("export", "end"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def project():
    stages = YAML(typ="safe").load((CHECKOUT / "dvc.yaml").read_text())["stages"]
    return graph.of(stages, params.load(CHECKOUT / "params.yaml").model_dump())


def test_the_projects_stages_lead_from_prepare_to_publish(project):
    assert {stage for stage, level in project.levels.items() if level == 0} == {"prepare"}
    assert {("benchmark", "report"), ("report", "publish")} <= project.shown()
    assert max(project.levels, key=project.levels.get) == "publish"


class Boxes(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.view, self.labels = [], None, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "svg":
            self.view = [float(part) for part in values["viewbox"].split()]
        if tag == "rect":
            self.found.append(tuple(float(values[key]) for key in ("x", "y", "width", "height")))

    def handle_data(self, data):
        self.labels.append(data)


@pytest.mark.parametrize("which", ["toy", "project"])
def test_boxes_lie_apart_within_the_picture(which, request):
    drawn = request.getfixturevalue(which)
    boxes = Boxes(diagram.svg(drawn))
    assert len(boxes.found) == len(drawn.levels)
    for number, (x, y, width, height) in enumerate(boxes.found):
        assert x >= 0 and y >= 0 and x + width <= boxes.view[2] and y + height <= boxes.view[3]
        for left, top, wide, high in boxes.found[:number]:
            assert x + width <= left or left + wide <= x or y + height <= top or top + high <= y


def test_a_box_says_what_it_is_and_how_often(toy):
    labels = Boxes(diagram.svg(toy)).labels
    assert {"prepare", "train × 2", "end"} <= set(labels)


def test_a_line_a_shown_edge_leads_up_where_it_must(toy):
    assert diagram.svg(toy).count('class="up"') == 1  # export to time
