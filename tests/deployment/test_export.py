import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from pipeline.deployment import export, latency, quantisation
from pipeline.project.data import Info
from pipeline.project.errors import PipelineError
from pipeline.scoring import metrics
from pipeline.training.inference import predict
from tests import toys
from tests.conftest import CHECKOUT

COLOURS = Info(["a", "ä b", "c"], 8, [0.1, 0.5, 0.9], [0.2, 0.3, 0.4], {})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model whose batch-norm statistics are no longer the initial ones, and its ONNX file."""
    model = toys.classifier(info=COLOURS).train()
    for seed in range(5):
        model(torch.from_numpy(toys.images(16, channels=3, seed=seed)))
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export.to_onnx(model.eval(), path)
    return model, path


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_exported_logits_are_those_of_torch(exported, batch):
    model, path = exported
    images = toys.images(batch, channels=3, seed=100 + batch)
    logits = latency.onnx_logits(path, images)
    assert (logits.shape, logits.dtype) == ((batch, 3), np.float32)
    np.testing.assert_allclose(logits, predict(model, images, toys.CPU, exact=True), rtol=0, atol=1e-4)


def test_black_and_white_images_agree_too(exported):
    model, path = exported
    images = np.stack([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)])
    expected = predict(model, images, toys.CPU, exact=True)
    np.testing.assert_allclose(latency.onnx_logits(path, images), expected, rtol=0, atol=1e-4)


def test_logits_do_not_depend_on_the_batch_they_are_computed_in(exported):
    images = toys.images(11, channels=3)
    whole, parts = (latency.onnx_logits(exported[1], images, batch=batch) for batch in (500, 4))
    np.testing.assert_allclose(whole, parts, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_byobnet"])
def test_batch_norms_fold_into_the_convolutions_before_them(name):
    architecture = toys.architecture(model=name, kwargs={})
    model = toys.classifier(architecture=architecture, info=COLOURS).train()
    images = torch.from_numpy(toys.images(16, channels=3))
    for _ in range(3):
        model(images)
    folded = export.folded(model.eval())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded(images), model(images), rtol=1e-4, atol=1e-4)


def test_a_convolution_that_others_read_too_keeps_its_batch_norm():
    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm = torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3)
            self.norm.running_mean += 1

        def forward(self, images):
            made = self.convolution(images)
            return (self.norm(made) + made).mean((2, 3))

    model = toys.classifier(info=COLOURS)
    model.net = Both()
    assert export.folded(model.eval()) is model


class Odd(torch.nn.Module):
    """Convolution and batch norm, two times, with modules of their own or with the same ones."""

    def __init__(self, convolutions, norms, statistics=True):
        super().__init__()
        self.convolutions = torch.nn.ModuleList(torch.nn.Conv2d(3, 3, 1) for _ in range(convolutions))
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm2d(3, track_running_stats=statistics) for _ in range(norms))
        for norm in self.norms if statistics else ():
            norm.running_mean += 1

    def forward(self, images):
        for number in range(2):
            convolution = self.convolutions[number % len(self.convolutions)]
            images = self.norms[number % len(self.norms)](convolution(images)).relu()
        return images.mean((2, 3))


@pytest.mark.parametrize(
    ("odd", "norms"), [(Odd(2, 1), 1), (Odd(1, 2), 2), (Odd(1, 1), 1), (Odd(2, 2, statistics=False), 2)]
)
def test_a_batch_norm_that_is_used_twice_or_has_no_statistics_ends_no_export(odd, norms, tmp_path):
    model = toys.classifier(info=COLOURS)
    model.net = odd.eval()
    left = [module for module in export.folded(model).modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(left) == norms
    export.to_onnx(model, tmp_path / "odd.onnx")
    images = toys.images(7, channels=3)
    expected = predict(model, images, toys.CPU, exact=True)
    np.testing.assert_allclose(latency.onnx_logits(tmp_path / "odd.onnx", images), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "vit_relpos_small_patch16_224"])
def test_attention_that_adds_positions_is_exported_and_stays_fused_in_torch(name, tmp_path):
    small = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 1, "num_heads": 3}
    model = toys.classifier(architecture=toys.architecture(model=name, kwargs=small), info=COLOURS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    fused = [module.fused_attn for module in model.modules() if hasattr(module, "fused_attn")]
    export.to_onnx(model, tmp_path / "model.onnx")
    images = toys.images(7, channels=3)
    expected = predict(model, images, toys.CPU, exact=True)
    np.testing.assert_allclose(latency.onnx_logits(tmp_path / "model.onnx", images), expected, rtol=1e-4, atol=1e-4)
    assert [module.fused_attn for module in model.modules() if hasattr(module, "fused_attn")] == fused == [True]


def test_the_file_names_its_classes_input_and_output(exported):
    session = onnxruntime.InferenceSession(exported[1])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == COLOURS.classes
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(uint8)", [8, 8, 3])
    assert (logits.name, logits.shape[1:]) == ("logits", [3])


def test_the_file_tells_nothing_of_the_machine_that_wrote_it(exported):
    for folder in (b"site-packages", str(CHECKOUT).encode(), b".py"):
        assert folder not in exported[1].read_bytes()


def test_the_file_stands_alone(exported):
    assert [path.name for path in exported[1].parent.iterdir()] == ["model.onnx"]


def test_parity_of_a_faithful_export(exported):
    model, path = exported
    images = toys.images(20, channels=3)
    parity = metrics.agreement(predict(model, images, toys.CPU, exact=True), latency.onnx_logits(path, images))
    assert (parity["images"], parity["changed_decisions"]) == (20, 0)
    assert parity["largest_difference"] < 1e-4


def test_parity_sees_a_model_that_is_not_the_exported_one(exported):
    images = toys.images(20, channels=3)
    other = predict(toys.classifier(seed=9, info=COLOURS), images, toys.CPU, exact=True)
    assert metrics.agreement(other, latency.onnx_logits(exported[1], images))["largest_difference"] > 0.01


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: b"no model" * 50, lambda content: content[:-9],
                                    lambda content: content[: len(content) // 2]])  # fmt: skip
def test_a_corrupt_file_is_refused_by_path(exported, tmp_path, damage):
    path = tmp_path / "broken.onnx"
    path.write_bytes(damage(exported[1].read_bytes()))
    with pytest.raises(PipelineError, match=r"broken\.onnx"):
        latency.onnx_logits(path, toys.images(1, channels=3))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"gone\.onnx is missing"):
        latency.onnx_logits(tmp_path / "gone.onnx", toys.images(1))


def test_attention_with_a_bias_is_exported_in_products_and_stays_fused_in_torch(tmp_path):
    small = {"img_size": 8, "patch_size": 4, "depth": 1, "embed_dim": 8, "num_heads": 2}
    model = toys.classifier(architecture=toys.architecture(model="beit_base_patch16_224", kwargs=small), info=COLOURS)
    export.to_onnx(model, tmp_path / "beit.onnx")
    assert model.net.blocks[0].attn.fused_attn
    images = toys.images(5, channels=3)
    expected = predict(model, images, toys.CPU, exact=True)
    np.testing.assert_allclose(latency.onnx_logits(tmp_path / "beit.onnx", images), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("model", [{"model": "test_resnet"}, {"model": "vit_tiny_patch16_224", "kwargs": {"depth": 1}}])
@pytest.mark.parametrize("size", [16, 48])
def test_a_model_that_runs_at_a_size_of_its_own_resizes_in_onnx_and_int8_too(tmp_path, model, size):
    info = replace(COLOURS, image_size=32)
    built = toys.classifier(architecture=toys.architecture(**model, input_size=size), info=info)
    export.to_onnx(built, tmp_path / "model.onnx")
    images = toys.images(20, 32, 3)
    answers, expected = (
        latency.onnx_logits(tmp_path / "model.onnx", images),
        predict(built, images, toys.CPU, exact=True),
    )
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-4)
    quantisation.to_int8(tmp_path / "model.onnx", tmp_path / "int8.onnx", images)
    assert np.isfinite(latency.onnx_logits(tmp_path / "int8.onnx", images)).all()
