"""Who becomes champion, of models whose answers and times are made by hand."""

import mlflow
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.deployment import measuring
from pipeline.project import data, files, paths
from pipeline.tracking import registry, server
from stages import publish
from tests import toys

IMAGES = np.arange(200, dtype=np.uint8)[:, None, None, None]  # each tells its number
SETTINGS = toys.settings(deploy={"tolerance": 0.02})
NAME = SETTINGS.deploy.name


def write(path, wrong):
    """A model that answers class 1, but class 0 of the first so many images."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixel"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixel", "shape"], ["column"]),
        helper.make_node("Sub", ["column", "border"], ["beyond"]),
        helper.make_node("MatMul", ["beyond", "sides"], ["logits"]),
    ]
    constants = {"shape": np.array([-1, 1]), "border": np.float32(wrong - 0.5), "sides": np.float32([[-1, 1]])}
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 1, 1, 1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    made = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", [images], [logits], made),
                              opset_imports=[helper.make_opsetid("", 18)], ir_version=9)  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


@pytest.fixture
def published(project, monkeypatch):
    """Publishes a model of that many wrong answers of 200 in that time, against 1 ms of the champion: what was said."""
    labels = np.ones(len(IMAGES), np.int64)
    data.save(IMAGES, labels, ["a", "b"], {"train": np.arange(2), "val": np.arange(200)}, paths.PREPARED)
    files.write_json(paths.CHOSEN, {"row": "x"})
    client = server.connect()
    experiment = server.experiment_id(client, "e")

    def publish_one(wrong, milliseconds=1.0):
        took = {"challenger": {"p50_ms": milliseconds, "spread": 0.1}, "champion": {"p50_ms": 1.0, "spread": 0.1}}
        monkeypatch.setattr(measuring, "measure", lambda systems, *more: {name: took[name] for name in systems})
        write(paths.DEPLOYED, wrong)
        run = client.create_run(experiment).info.run_id
        return publish._register(SETTINGS, run, project / run)

    yield publish_one
    mlflow.set_tracking_uri(None)


def holders():
    client = server.connect()
    return [registry.holder(client, NAME, alias) for alias in (registry.CHAMPION, registry.BEST)]


def test_champions_can_not_creep_away_from_the_best_one(published):
    assert published(10) == "fashion 1 is the first champion"
    assert "fashion 2 is the new champion against 1: it is no worse and faster" in published(11, 0.5)
    assert holders() == ["2", "1"]
    assert "fashion 3 stays challenger against 2" in published(12, 0.5)  # no worse than 2, but than 1
    assert "fashion 4 is the new champion against 2: it is better" in published(0, 2.0)
    assert holders() == ["4", "4"]


def test_the_same_weights_win_nothing_however_fast_they_were(published):
    published(10)
    assert published(10, 0.01) == "fashion 2 stays challenger against 1: it gives the champion's own answers"
    assert holders() == ["1", "1"]


def test_a_champion_that_was_gone_back_to_is_the_best_again(published):
    published(0)
    assert "stays challenger" in published(10, 0.5)
    registry.crown(server.connect(), NAME, "2")
    assert "fashion 3 is the new champion against 2: it is no worse and faster" in published(11, 0.5)
