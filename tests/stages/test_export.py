"""What the export of one model writes, from prepared images and a trained model."""

import json

import numpy as np
import pytest

from pipeline.deployment import latency
from pipeline.project import data, paths
from pipeline.project.errors import PipelineError
from pipeline.training import models
from stages import export
from tests import toys


def prepared(val):
    """Prepared images: 64 to train on, which are always the same, and those of val."""
    images = np.concatenate([toys.images(64), val])
    labels = np.arange(len(images), dtype=np.int64) % 2
    splits = {"train": np.arange(64), "val": np.arange(64, len(images))}
    data.save(images, labels, ["dark", "bright"], splits, paths.PREPARED)


@pytest.fixture
def model(project):
    models.save(toys.classifier(), paths.weights("net"))


def test_int8_knows_nothing_of_the_images_that_it_is_judged_on(model):
    written = []
    for brightness in (1, 8):
        prepared(toys.images(40, seed=1) // brightness)
        export._export("net", toys.CPU)
        written.append(paths.int8("net").read_bytes())
    assert written[0] == written[1]


def test_scores_say_what_became_of_int8(model, capsys):
    prepared(toys.images(40, seed=1))
    rows = export._export("net", toys.CPU)
    assert json.loads(paths.export_scores("net").read_text()) == rows
    assert rows["int8"]["per_channel"] in (0, 1) and rows["int8"]["fp32_products"] == 0
    assert "no product left in fp32" in capsys.readouterr().out


def test_a_file_that_decides_otherwise_than_torch_ends_the_export(model, monkeypatch):
    prepared(toys.images(40, seed=1))
    true = latency.onnx_logits
    monkeypatch.setattr(latency, "onnx_logits", lambda path, images, **more: true(path, 255 - images, **more)[:, ::-1])
    with pytest.raises(PipelineError, match=r"net/model\.onnx is another model"):
        export._export("net", toys.CPU)
    assert not paths.export_scores("net").exists()


def test_an_arm_is_the_seeds_of_params_and_what_is_left_of_others_goes(project):
    for seed in ("0", "1", "9"):
        (paths.STUDENTS / "ensemble" / seed).mkdir(parents=True)
    assert export._students("ensemble", [0, 1]) == ["ensemble-0", "ensemble-1"]
    assert sorted(path.name for path in (paths.STUDENTS / "ensemble").iterdir()) == ["0", "1"]
