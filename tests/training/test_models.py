import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from pipeline.project.data import Info
from pipeline.project.errors import PipelineError
from pipeline.training import models
from tests import toys

COLOURS = Info(["a", "b", "c"], 8, [0.1, 0.5, 0.9], [0.2, 0.3, 0.4], {})


@pytest.fixture
def saved(tmp_path):
    """A model whose batch-norm statistics are no longer the initial ones, and its file."""
    model = toys.classifier().train()
    model(torch.from_numpy(toys.images(16)))
    models.save(model.eval(), tmp_path / "model.safetensors")
    return model, tmp_path / "model.safetensors"


def logits(model, images):
    with torch.inference_mode():
        return model(torch.from_numpy(images))


def first_convolution(model):
    return next(module for module in model.modules() if isinstance(module, nn.Conv2d))


def test_a_loaded_model_gives_identical_logits(saved):
    model, path = saved
    assert torch.equal(logits(models.load(path), toys.images(9, seed=1)), logits(model, toys.images(9, seed=1)))


def test_a_loaded_model_is_in_eval_mode_and_knows_what_it_is(saved):
    loaded = models.load(saved[1])
    assert not loaded.training
    assert (loaded.info, loaded.architecture) == (toys.INFO, toys.ARCHITECTURE)


def test_equal_models_give_equal_files(saved, tmp_path):
    models.save(saved[0], tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == saved[1].read_bytes()


def test_the_file_is_plain_json_and_raw_tensors(saved):
    model, path = saved
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    assert json.loads(header.pop("__metadata__")["spec"])["info"]["classes"] == toys.INFO.classes
    state = model.state_dict()
    assert set(header) == set(state)
    types = {"F32": np.float32, "I64": np.int64}
    for name, entry in header.items():
        low, high = (start + offset for offset in entry["data_offsets"])
        tensor = np.frombuffer(content[low:high], types[entry["dtype"]]).reshape(entry["shape"])
        assert np.array_equal(tensor, state[name].numpy())


def test_the_model_normalises_its_pixels_itself():
    model, pixels = toys.classifier(info=COLOURS), toys.images(4, channels=3)
    normalised = (pixels / 255 - np.array(COLOURS.mean)) / np.array(COLOURS.std)
    with torch.inference_mode():
        expected = model.net(torch.from_numpy(normalised.transpose(0, 3, 1, 2)).float())
    torch.testing.assert_close(logits(model, pixels), expected, rtol=1e-4, atol=1e-5)


def test_logits_are_float32_one_a_class():
    answers = logits(toys.classifier(info=COLOURS), toys.images(4, channels=3))
    assert (answers.dtype, answers.shape) == (torch.float32, (4, 3))


def test_equal_seeds_build_equal_weights():
    first, second = (toys.classifier(seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_stem_stride_is_set_and_survives_saving(tmp_path):
    changed = toys.architecture(stem_stride=1)
    model = toys.classifier(architecture=changed)
    assert first_convolution(toys.classifier()).stride == (2, 2)
    assert first_convolution(model).stride == (1, 1)
    models.save(model, tmp_path / "model.safetensors")
    assert first_convolution(models.load(tmp_path / "model.safetensors")).stride == (1, 1)


def test_parameters_are_counted_without_buffers():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert models.parameters(model) == 3 * 4 + 4 + 4 + 4


class Token(nn.Module):
    """Hands a view of a parameter to a layer, as models with class tokens do."""

    def __init__(self, learns):
        super().__init__()
        self.token, self.layer, self.learns = nn.Parameter(torch.ones(1, 6)), nn.Linear(6, 2), learns

    def forward(self, images):
        with torch.set_grad_enabled(self.learns and torch.is_grad_enabled()):
            return self.layer(self.token.expand(len(images), -1))


def test_multiply_adds_are_counted_where_a_layer_is_given_a_view_of_a_parameter():
    model = toys.classifier()
    model.net = Token(learns=True)
    assert models.multiply_adds(model) == 6 * 2


def test_multiply_adds_that_torch_can_not_count_are_missing_with_a_warning(capsys):
    model = toys.classifier()
    model.net = Token(learns=False)
    assert models.multiply_adds(model) is None
    warning = capsys.readouterr().err
    assert (
        warning.startswith("warning: The multiply-adds of `test_resnet` can't be counted") and warning.count("\n") == 1
    )


def test_an_unknown_name_is_refused_with_close_ones():
    with pytest.raises(PipelineError, match=r"no model `test_resnett`.*test_resnet\b"):
        models.build(toys.architecture(model="test_resnett"), toys.INFO)


def test_an_unknown_name_like_no_other_is_refused():
    with pytest.raises(PipelineError, match=r"list_models"):
        models.build(toys.architecture(model="?????????"), toys.INFO)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"no_such_argument": 1},
        {"channels": 5},
        {"act_layer": "nope"},
        {"global_pool": "nope"},
        {"num_classes": 7},
        {"channels": []},
        {"layers": []},
        {"block": "basic"},
        {"features_only": True},
        {"checkpoint_path": "/nowhere/weights.bin"},
    ],
    ids=str,
)
def test_arguments_that_timm_cannot_use_are_refused(kwargs):
    with pytest.raises(PipelineError, match=f"`test_resnet` with kwargs .*{next(iter(kwargs))}"):
        models.build(toys.architecture(model="test_resnet", kwargs=kwargs), toys.INFO)


def test_an_image_size_that_the_model_cannot_use_is_refused():
    with pytest.raises(PipelineError, match="images of 8 pixels"):
        models.build(toys.architecture(model="test_vit", kwargs={}), toys.INFO)


def test_a_model_of_random_weights_runs_at_the_size_of_the_views_or_at_its_own(tmp_path):
    """The resized pixels are those of torchvision; a network with positions is made for the size without `kwargs`."""
    from torchvision.transforms.v2.functional import resize

    info, vit = replace(COLOURS, image_size=32), {"model": "vit_tiny_patch16_224", "kwargs": {"depth": 1}}
    assert toys.classifier(architecture=toys.architecture(**vit), info=info).size == (32, 32)
    for more in ({"model": "test_resnet"}, vit):
        model, seen = toys.classifier(architecture=toys.architecture(**more, input_size=48), info=info), []
        models.save(model, tmp_path / "model.safetensors")
        loaded, images = models.load(tmp_path / "model.safetensors"), toys.images(3, 32, 3)
        assert torch.equal(logits(loaded, images), logits(model, images))
        model.net.register_forward_pre_hook(lambda module, given, seen=seen: seen.append(given[0]))
        logits(model, images)
        pixels = resize(torch.from_numpy(images).permute(0, 3, 1, 2).float(), [48, 48], antialias=True)
        torch.testing.assert_close(seen[0], (pixels - model.mean) / model.std)


def test_two_sizes_of_one_model_are_refused():
    with pytest.raises(ValidationError, match="has `input_size` 48 and `img_size` in `kwargs`"):
        toys.architecture(kwargs={"img_size": 48}, input_size=48)


@pytest.mark.parametrize("left", [0, 4, 100, -10])
def test_a_truncated_file_is_refused_by_path(saved, left):
    saved[1].write_bytes(saved[1].read_bytes()[:left])
    with pytest.raises(PipelineError, match=r"model\.safetensors is corrupt"):
        models.load(saved[1])


@pytest.mark.parametrize("start", [0, 9, 40])
def test_a_damaged_header_is_refused_by_path(saved, start):
    content = bytearray(saved[1].read_bytes())
    content[start : start + 8] = b"\xff" * 8
    saved[1].write_bytes(content)
    with pytest.raises(PipelineError, match=r"model\.safetensors is corrupt"):
        models.load(saved[1])


def test_a_file_of_another_program_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(PipelineError, match="not written by this pipeline"):
        models.load(tmp_path / "other.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"model\.safetensors is missing"):
        models.load(tmp_path / "model.safetensors")
