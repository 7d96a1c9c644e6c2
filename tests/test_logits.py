from dataclasses import replace

import numpy as np
import pytest

from pipeline import logits, models
from pipeline.errors import PipelineError
from pipeline.logits import Origin
from pipeline.training import predict
from pipeline.views import render
from tests import toys

TRAIN = toys.split(21)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "teacher.safetensors"
    models.save(toys.classifier(), path)
    return path


@pytest.fixture
def origin(weights):
    return Origin.of(weights, toys.INFO, toys.VIEWS, 5)


@pytest.fixture
def folder(tmp_path, origin):
    """A cache of small made-up logits."""
    arrays = {"train": np.arange(24).reshape(2, 4, 3), "val": np.arange(6).reshape(1, 2, 3)}
    logits.save(tmp_path / "cache", {name: array.astype(np.float16) for name, array in arrays.items()}, origin)
    return tmp_path / "cache"


def test_looks_are_the_models_predictions_on_replayed_views():
    model = toys.classifier()
    cached = logits.looks(model, TRAIN, toys.VIEWS, 5, toys.CPU, "teacher")
    assert (cached.dtype, cached.shape) == (np.float16, (2, 21, 2))
    for view in range(2):
        pixels = render(TRAIN.images, np.arange(21), view, 5, toys.VIEWS)
        np.testing.assert_array_equal(cached[view], predict(model, pixels, toys.CPU, exact=False).astype(np.float16))


def test_looks_of_several_chunks_are_those_of_one(monkeypatch):
    whole = logits.looks(toys.classifier(), TRAIN, toys.VIEWS, 5, toys.CPU, "teacher")
    monkeypatch.setattr(logits, "CHUNK", 8)
    chunked = logits.looks(toys.classifier(), TRAIN, toys.VIEWS, 5, toys.CPU, "teacher")
    np.testing.assert_allclose(chunked.astype(float), whole.astype(float), atol=2e-3)


def test_clean_logits_are_the_models_predictions_on_the_images():
    model = toys.classifier()
    expected = predict(model, TRAIN.images, toys.CPU, exact=True).astype(np.float16)
    np.testing.assert_array_equal(logits.clean(model, TRAIN, toys.CPU), expected[None])


def test_logits_too_large_for_float16_are_refused():
    model = toys.classifier()
    model.net.get_classifier().bias.data.fill_(1e6)
    with pytest.raises(PipelineError, match="float16"):
        logits.clean(model, TRAIN, toys.CPU)


def test_a_cache_of_the_same_origin_opens_with_its_values(folder, origin):
    np.testing.assert_array_equal(
        logits.open_cache(folder, "train", origin), np.arange(24, dtype=np.float16).reshape(2, 4, 3)
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"weights": "0" * 64}, "other weights of the teacher"),
        ({"data": {"train_images.npy": "1" * 64}}, "other prepared data"),
        ({"classes": ["bright", "dark"]}, "other class names"),
        ({"views": toys.VIEWS.model_copy(update={"shift": 2}).model_dump()}, "other `views`"),
        ({"view_seed": 6}, "other `seed`"),
    ],
)
def test_a_cache_of_another_origin_is_refused_with_what_differs(folder, origin, changes, sentence):
    with pytest.raises(PipelineError, match=sentence):
        logits.open_cache(folder, "train", replace(origin, **changes))


def test_origin_follows_the_bytes_of_the_weights(weights, origin):
    models.save(toys.classifier(seed=1), weights)
    assert Origin.of(weights, toys.INFO, toys.VIEWS, 5) == replace(
        origin, weights=Origin.of(weights, toys.INFO, toys.VIEWS, 5).weights
    )
    assert Origin.of(weights, toys.INFO, toys.VIEWS, 5) != origin


def test_a_flipped_byte_is_refused(folder, origin):
    content = bytearray((folder / "train.npy").read_bytes())
    content[-3] ^= 1
    (folder / "train.npy").write_bytes(content)
    with pytest.raises(PipelineError, match=r"train\.npy.*checksum"):
        logits.open_cache(folder, "train", origin)


@pytest.mark.parametrize("name", ["train.npy", "manifest.json"])
def test_a_missing_file_is_named(folder, origin, name):
    (folder / name).unlink()
    with pytest.raises(PipelineError, match=f"{name} is missing"):
        logits.open_cache(folder, "train", origin)
