import json

import numpy as np
import onnx
import pytest
import timm
from timm.models import save_for_hf

from pipeline.deployment import export, fusion, latency
from pipeline.ensembles.ensemble import Ensemble, alone
from pipeline.project import files
from pipeline.project.data import Info
from pipeline.scoring.metrics import log_softmax
from pipeline.training.inference import predict
from tests import toys

INFO = Info(["a", "b", "c", "d"], 8, [0.4], [0.2], {})
MEMBERS = ["x", "y", "z"]
METHODS = ["simple", "mean_probs", "mean_logits", "vote", "weighted", "greedy", "stacking"]


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    widths = ([4, 8, 8, 16], [8, 8, 8, 16], [4, 4, 8, 8])
    for name, channels in zip(MEMBERS, widths, strict=True):
        architecture = toys.architecture(kwargs={"channels": channels})
        export.to_onnx(toys.classifier(seed=len(name), architecture=architecture, info=INFO), folder / f"{name}.onnx")
    return {name: folder / f"{name}.onnx" for name in MEMBERS}


def system(method: str) -> Ensemble:
    stacked = {}
    if method == "stacking":
        random = np.random.default_rng(0)
        stacked = {"coefficients": random.normal(size=(12, 4)).tolist(), "intercept": random.normal(size=4).tolist()}
    return Ensemble(method, MEMBERS, [0.5, 0.5, 0.0], [0.05, 1.0, 2.0], 0.7, **stacked)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", [1, 7])
def test_the_graph_says_what_the_members_and_the_rule_say(members, tmp_path, method, batch):
    images = toys.images(batch, seed=batch)
    one = system(method)
    fusion.fuse(one, members, tmp_path / "ensemble.onnx")
    expected = one.log_probs(np.stack([latency.onnx_logits(members[name], images) for name in MEMBERS]))
    answers = latency.onnx_logits(tmp_path / "ensemble.onnx", images)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-4)


def test_members_of_unequal_input_sizes_are_one_graph_under_one_input(members, tmp_path):
    """The third was pretrained on images of 32 pixels, the fourth on images of 6; all of them see the prepared ones."""
    members = dict(members)
    for name, size in (("y", 32), ("z", 6)):
        net = timm.create_model("test_resnet", channels=(4, 8, 8, 16))
        described = {"input_size": (3, size, size), "interpolation": "bicubic"}
        save_for_hf(net, tmp_path / name, data_config=described, safe_serialization=True)
        architecture = toys.architecture(
            model=None, kwargs={}, backbone=f"local-dir:{tmp_path / name}",
            input_size=32 if name == "y" else None,
            backbone_sha256=files.sha256(tmp_path / name / "model.safetensors"),
        )  # fmt: skip
        model = toys.classifier(architecture=architecture, info=INFO)
        members[name] = tmp_path / f"{name}.onnx"
        export.to_onnx(model, members[name])
        images = toys.images(7)
        np.testing.assert_allclose(
            latency.onnx_logits(members[name], images), predict(model, images, toys.CPU, exact=True), rtol=0, atol=1e-4
        )
    one = system("mean_probs")
    fusion.fuse(one, members, tmp_path / "ensemble.onnx")
    expected = one.log_probs(np.stack([latency.onnx_logits(members[name], images) for name in MEMBERS]))
    answers = latency.onnx_logits(tmp_path / "ensemble.onnx", images)
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-4)


def test_a_single_calibrated_model_is_an_ensemble_of_one(members, tmp_path):
    images = toys.images(5)
    fusion.fuse(alone("x", temperature=2.0), members, tmp_path / "one.onnx")
    expected = log_softmax(latency.onnx_logits(members["x"], images) / 2)
    np.testing.assert_allclose(latency.onnx_logits(tmp_path / "one.onnx", images), expected, rtol=1e-4, atol=1e-5)


def test_the_file_keeps_the_class_names_and_the_free_batch(members, tmp_path):
    fusion.fuse(system("weighted"), members, tmp_path / "ensemble.onnx")
    model = onnx.load(tmp_path / "ensemble.onnx")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(properties["classes"]) == INFO.classes
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
