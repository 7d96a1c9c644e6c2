from dataclasses import replace

import numpy as np
import pytest

from pipeline.logits import manifest
from pipeline.logits.manifest import Origin
from pipeline.params import Logits
from pipeline.project import files
from pipeline.project.errors import PipelineError
from pipeline.training import models
from pipeline.training.views import Looks
from tests import toys


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "teacher.safetensors"
    models.save(toys.classifier(), path)
    return path


@pytest.fixture
def origin(weights):
    return Origin.of([weights], toys.INFO, Looks(toys.VIEWS, 5, 2), Logits(top_k=None))


@pytest.fixture
def folder(tmp_path, origin):
    """A cache of small made-up logits."""
    arrays = {"train": np.arange(24).reshape(2, 4, 3), "val": np.arange(6).reshape(1, 2, 3)}
    for name, array in arrays.items():
        files.write_array(tmp_path / "cache" / f"{name}.npy", array.astype(np.float16))
    manifest.seal(tmp_path / "cache", origin)
    return tmp_path / "cache"


def test_a_cache_of_the_same_origin_opens_with_its_values(folder, origin):
    np.testing.assert_array_equal(
        manifest.open_cache(folder, "train", origin), np.arange(24, dtype=np.float16).reshape(2, 4, 3)
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"weights": "0" * 64}, "other weights of the teacher"),
        ({"data": {"train_images.npy": "1" * 64}}, "other prepared data"),
        ({"classes": ["bright", "dark"]}, "other class names"),
        ({"views": toys.VIEWS.model_copy(update={"shift": 2}).model_dump()}, "other `views`"),
        ({"view_seed": 6}, "other `seed`"),
        ({"logits": {"top_k": 2}}, "other `logits`"),
    ],
)
def test_a_cache_of_another_origin_is_refused_with_what_differs(folder, origin, changes, sentence):
    with pytest.raises(PipelineError, match=sentence):
        manifest.open_cache(folder, "train", replace(origin, **changes))


def test_origin_follows_the_bytes_of_the_weights(weights, origin):
    models.save(toys.classifier(seed=1), weights)
    other = Origin.of([weights], toys.INFO, Looks(toys.VIEWS, 5, 2), Logits(top_k=None))
    assert other.weights != origin.weights
    assert other == replace(origin, weights=other.weights)


def test_a_flipped_byte_is_refused(folder, origin):
    content = bytearray((folder / "train.npy").read_bytes())
    content[-3] ^= 1
    (folder / "train.npy").write_bytes(content)
    with pytest.raises(PipelineError, match=r"train\.npy.*checksum"):
        manifest.open_cache(folder, "train", origin)


@pytest.mark.parametrize("name", ["train.npy", "manifest.json"])
def test_a_missing_file_is_named(folder, origin, name):
    (folder / name).unlink()
    with pytest.raises(PipelineError, match=f"{name} is missing"):
        manifest.open_cache(folder, "train", origin)
