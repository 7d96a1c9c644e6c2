"""Pretrained weights from a folder, a file, and a hub that does not answer."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf

from pipeline.project import files
from pipeline.project.data import Info
from pipeline.project.errors import PipelineError
from pipeline.training import models
from tests import toys
from tests.conftest import CHECKOUT, run

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.25]
COLOURS = Info(["a", "b", "c"], 28, [0.1, 0.5, 0.9], [0.2, 0.3, 0.4], {})
GRAYS = Info(["a", "b", "c"], 28, [0.4], [0.2], {})


def original(channels=3, size=64, **kwargs):
    """A model of timm with random weights and moving statistics that are no longer the initial ones."""
    torch.manual_seed(5)
    net = timm.create_model("test_resnet", num_classes=7, in_chans=channels, channels=(4, 8, 8, 16), **kwargs)
    net.train()(torch.rand(8, channels, size, size))
    return net.eval()


def folder(path: Path, net, **data) -> Path:
    described = {"input_size": (3, 64, 64), "mean": MEAN, "std": STD, "interpolation": "bicubic", **data}
    save_for_hf(net, path, data_config=described, model_args={"channels": [4, 8, 8, 16]}, safe_serialization=True)
    return path


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    net = original()
    return net, folder(tmp_path_factory.mktemp("backbone"), net)


def asked(source, **more):
    """Params of a model that starts from a folder or a file of this machine."""
    kind, _, place = source.partition(":")
    given = {"model": None, "kwargs": {}, "backbone": source, "input_size": 64}
    if "backbone_sha256" not in more:
        path = Path(place) / "model.safetensors" if kind == "local-dir" else Path(place)
        given["backbone_sha256"] = files.sha256(path)
    return toys.architecture(**given | more)


def built(source, info=COLOURS, **more):
    torch.manual_seed(0)
    return models.build(asked(source, **more), info).eval()


@pytest.fixture(scope="module")
def model(pretrained):
    return built(f"local-dir:{pretrained[1]}")


def prepared(images, size=64, mode="bicubic"):
    """What timm's network is to see of (samples, height, width, 3) uint8, by means of torchvision."""
    from torchvision.transforms import InterpolationMode, Normalize
    from torchvision.transforms.v2.functional import resize

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    pixels = resize(pixels, [size, size], InterpolationMode(mode), antialias=True)
    return Normalize(MEAN, STD)(pixels)


@torch.no_grad()
def features(net, pixels):
    return net.forward_head(net.forward_features(pixels), pre_logits=True)


def test_the_body_is_the_pretrained_one_on_pixels_of_its_own_size_and_normalisation(pretrained, model):
    images = toys.images(4, size=28, channels=3)
    expected = features(pretrained[0], prepared(images))
    logits = model.net.get_classifier()(expected)
    torch.testing.assert_close(model(torch.from_numpy(images)), logits, rtol=1e-4, atol=1e-5)
    body = {name: tensor for name, tensor in model.net.state_dict().items() if not name.startswith("fc.")}
    assert all(torch.equal(pretrained[0].state_dict()[name], tensor) for name, tensor in body.items())


def test_with_the_pretrained_head_the_logits_are_the_originals(pretrained):
    net, path = pretrained
    model = built(f"local-dir:{path}", info=Info(list("abcdefg"), 28, MEAN, STD, {}))
    assert not torch.equal(model.net.get_classifier().weight, net.get_classifier().weight)  # though as many classes
    model.net.get_classifier().load_state_dict(net.get_classifier().state_dict())
    images = toys.images(4, size=28, channels=3)
    with torch.inference_mode():
        answers, expected = model(torch.from_numpy(images)), net(prepared(images))
    torch.testing.assert_close(answers, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [16, 64])
def test_pixels_are_resized_as_config_json_says(tmp_path, size, mode):
    path = folder(tmp_path, original(), input_size=(3, size, size), interpolation=mode)
    model, seen = built(f"local-dir:{path}", input_size=size), []
    model.net.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    images = toys.images(4, size=28, channels=3)
    model(torch.from_numpy(images))
    torch.testing.assert_close(seen[0], prepared(images, size, mode), rtol=1e-4, atol=1e-4)


def test_pixels_of_the_right_size_are_left_as_they_are(model):
    seen, images = [], toys.images(2, size=64, channels=3)
    with model.net.register_forward_pre_hook(lambda module, given: seen.append(given[0])):
        model(torch.from_numpy(images))
    expected = (images / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(seen[0].permute(0, 2, 3, 1), expected, rtol=0, atol=1e-5)


def test_gray_images_sum_the_weights_of_the_colours(pretrained):
    net, path = pretrained
    model, seen = built(f"local-dir:{path}", info=GRAYS), []
    torch.testing.assert_close(model.net.conv1[0].weight, net.conv1[0].weight.sum(dim=1, keepdim=True))
    model.net.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model(torch.full((1, 28, 28, 1), 51, dtype=torch.uint8))
    torch.testing.assert_close(seen[0], torch.full((1, 1, 64, 64), (0.2 - 0.4) / 0.25), rtol=1e-5, atol=1e-5)


def test_the_same_weights_from_a_file_are_the_same_body(pretrained, tmp_path, model):
    kwargs = {"channels": [4, 8, 8, 16]}
    torch.save({"model": pretrained[0].state_dict()}, tmp_path / "weights.pth")
    headless = {name: value for name, value in pretrained[0].state_dict().items() if not name.startswith("fc.")}
    save_file(headless, tmp_path / "headless.safetensors")
    for name in ("weights.pth", "headless.safetensors"):
        loaded = built(f"file:{tmp_path / name}", model="test_resnet", kwargs=kwargs).net.state_dict()
        assert all(torch.equal(loaded[layer], value) for layer, value in headless.items())


def test_a_saved_model_is_rebuilt_without_its_backbone(pretrained, tmp_path, model):
    path = folder(tmp_path / "backbone", pretrained[0])
    models.save(built(f"local-dir:{path}"), tmp_path / "model.safetensors")
    for file in path.iterdir():
        file.unlink()
    loaded, images = models.load(tmp_path / "model.safetensors"), torch.from_numpy(toys.images(3, 28, 3))
    with torch.inference_mode():
        assert torch.equal(loaded(images), model(images))
    models.save(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_a_model_of_a_fixed_size_is_rebuilt_for_it(tmp_path):
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=1, embed_dim=12, num_heads=3)
    save_for_hf(net, tmp_path, safe_serialization=True)
    model = built(f"local-dir:{tmp_path}")
    models.save(model, tmp_path / "saved.safetensors")
    images = torch.from_numpy(toys.images(2, 28, 3))
    with torch.inference_mode():
        assert torch.equal(models.load(tmp_path / "saved.safetensors")(images), model(images))
    assert model.size == (64, 64)


def test_equal_seeds_build_equal_heads(pretrained, model):
    again = built(f"local-dir:{pretrained[1]}").state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["local-dir", "file"])
@pytest.mark.parametrize("digest", [None, "0" * 64])
def test_weights_on_this_machine_need_their_digest_and_the_error_gives_it(pretrained, kind, digest):
    source = f"local-dir:{pretrained[1]}" if kind == "local-dir" else f"file:{pretrained[1] / 'model.safetensors'}"
    right = hashlib.sha256((pretrained[1] / "model.safetensors").read_bytes()).hexdigest()
    with pytest.raises(PipelineError, match=f"write `backbone_sha256: {right}`"):
        built(source, model="test_resnet", backbone_sha256=digest)


def test_weights_that_changed_are_refused(pretrained, tmp_path):
    path = folder(tmp_path, pretrained[0])
    params = asked(f"local-dir:{path}")
    weights = bytearray((path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (path / "model.safetensors").write_bytes(weights)
    with pytest.raises(PipelineError, match=f"is {params.backbone_sha256}, but the weights .* have another digest"):
        models.build(params, COLOURS)


def test_what_the_hub_has_given_once_is_not_asked_for_again(pretrained, tmp_path, monkeypatch):
    """The hub's cache, made by hand; no network."""
    from huggingface_hub import constants

    snapshot = tmp_path / "models--some--one" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "models--some--one" / "refs").mkdir()
    (tmp_path / "models--some--one" / "refs/main").write_text("0" * 40)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_bytes((pretrained[1] / name).read_bytes())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = built("hf-hub:some/one", backbone_sha256=None)
    assert torch.equal(model.net.state_dict()["conv1.0.weight"], pretrained[0].state_dict()["conv1.0.weight"])
    with pytest.raises(PipelineError, match="have another digest"):
        built("hf-hub:some/one", backbone_sha256="0" * 64)


@pytest.mark.parametrize(
    "source", ["hf-hub:timm/resnet18.a1_in1k", pytest.param("resnet18.a1_in1k", marks=pytest.mark.long)]
)
def test_a_hub_that_can_not_be_reached_is_a_sentence_within_seconds(source, tmp_path):
    script = f"""
import time, timm
from pipeline.project import errors
from pipeline.training import backbones
from tests import toys
began = time.monotonic()
def ask():
    try:
        backbones.read(toys.architecture(model=None, backbone="{source}"))
    finally:
        print(time.monotonic() - began)
errors.run(ask)
"""
    result = run(sys.executable, "-c", script, cwd=CHECKOUT, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path))
    assert float(result.stdout) < 20
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith(f"error: `backbone` is {source}, which is not on this machine")
    assert "local-dir:FOLDER" in result.stderr and "HF_HOME" in result.stderr


def sizes(model, side):
    """The sides of what the network itself is given."""
    seen, channels = [], len(model.info.mean)
    with model.net.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[2:])):
        model(torch.from_numpy(toys.images(1, side, channels)))
    return seen


@pytest.mark.parametrize(
    ("weights", "views", "asked", "expected"),
    [(64, 28, None, 28), (16, 28, None, 16), (64, 28, 40, 40), (64, 28, 64, 64), (16, 28, 28, 28)],
)
def test_a_model_runs_at_the_smaller_size_of_weights_and_views_or_as_it_says(tmp_path, weights, views, asked, expected):
    path = folder(tmp_path / "backbone", original(), input_size=(3, weights, weights))
    model = built(f"local-dir:{path}", info=replace(COLOURS, image_size=views), input_size=asked)
    models.save(model, tmp_path / "saved.safetensors")
    loaded, images = models.load(tmp_path / "saved.safetensors"), torch.from_numpy(toys.images(2, views, 3))
    assert model.size == loaded.size == (expected, expected)
    assert sizes(model, views) == sizes(loaded, views) == [torch.Size((expected, expected))]
    with torch.inference_mode():
        assert torch.equal(model(images), loaded(images))


VIT = {"depth": 1, "embed_dim": 12, "num_heads": 3}


@pytest.fixture
def vit(tmp_path):
    """One with positions of 64 pixels in patches of 16, and its folder."""
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", img_size=64, **VIT).eval()
    save_for_hf(net, tmp_path / "vit", safe_serialization=True)
    return net, tmp_path / "vit"


@pytest.mark.parametrize(("asked", "side"), [(None, 32), (32, 32), (96, 96)])
def test_positions_are_resized_by_timm(vit, tmp_path, asked, side):
    net, path = vit
    model = built(f"local-dir:{path}", info=replace(COLOURS, image_size=32), input_size=asked)
    net.set_input_size((side, side))  # timm's own way, on a model that exists
    torch.testing.assert_close(model.net.pos_embed, net.pos_embed)
    assert sizes(model, 32) == [torch.Size((side, side))]
    models.save(model, tmp_path / "saved.safetensors")
    assert torch.equal(models.load(tmp_path / "saved.safetensors").net.pos_embed, model.net.pos_embed)


def test_a_size_that_the_network_can_not_take_is_refused_by_name(vit):
    with pytest.raises(PipelineError, match=r"`vit_tiny_patch16_224` .* images of 8 pixels: .*; try `input_size: 64`"):
        built(f"local-dir:{vit[1]}", input_size=8)


def test_weights_that_timm_can_not_resize_are_refused_by_name(tmp_path):
    torch.manual_seed(0)
    net = timm.create_model("mixer_s32_224", img_size=64)
    save_for_hf(net, tmp_path, safe_serialization=True)
    with pytest.raises(
        PipelineError, match=r"`mixer_s32_224` .*; try `input_size: 64`, at which they learned"
    ) as error:
        built(f"local-dir:{tmp_path}", info=replace(COLOURS, image_size=32), input_size=None)
    assert "\n" not in str(error.value)
    assert built(f"local-dir:{tmp_path}", info=replace(COLOURS, image_size=32), input_size=64).size == (64, 64)
