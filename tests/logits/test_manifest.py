from dataclasses import replace

import numpy as np
import pytest

from pipeline.logits import manifest
from pipeline.logits.manifest import Fingerprint
from pipeline.project import files, paths
from pipeline.project.errors import PipelineError
from pipeline.training import models
from tests import toys

SETTINGS = toys.settings(cross_fit={"folds": 2})
WEIGHTS = [*map(paths.weights, ("resnet", "resnet-fold0of2", "resnet-fold1of2"))]


@pytest.fixture
def fingerprint(project):
    """Of a teacher and the two that label in its place, whose weights are in the project."""
    for number, path in enumerate(WEIGHTS):
        models.save(toys.classifier(seed=number), path)
    return Fingerprint.read(SETTINGS, "resnet", toys.INFO)


@pytest.fixture
def folder(project, fingerprint):
    """A cache of small made-up logits."""
    arrays = {"train": np.arange(24).reshape(2, 4, 3), "val": np.arange(6).reshape(1, 2, 3)}
    for name, array in arrays.items():
        files.write_array(project / "cache" / f"{name}.npy", array.astype(np.float16))
    manifest.seal(project / "cache", fingerprint)
    return project / "cache"


def test_a_cache_of_the_same_origin_opens_with_its_values(folder, fingerprint):
    np.testing.assert_array_equal(
        manifest.open_cache(folder, "train", fingerprint), np.arange(24, dtype=np.float16).reshape(2, 4, 3)
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"weights": ["0" * 64]}, "other weights of the teacher"),
        ({"data": {"train_images.npy": "1" * 64}}, "other prepared data"),
        ({"classes": ["bright", "dark"]}, "other class names"),
        ({"views": vars(replace(toys.VIEWS, shift=2))}, "other `seed`, `views` or `student_views`"),
        ({"logits": {"top_k": 2}}, "other `logits`"),
    ],
)
def test_a_cache_of_another_origin_is_refused_with_what_differs(folder, fingerprint, changes, sentence):
    with pytest.raises(PipelineError, match=sentence):
        manifest.open_cache(folder, "train", replace(fingerprint, **changes))


@pytest.mark.parametrize("number", range(3))
def test_origin_follows_the_bytes_of_the_weights_those_of_fold_teachers_too(fingerprint, number):
    models.save(toys.classifier(seed=7), WEIGHTS[number])
    other = Fingerprint.read(SETTINGS, "resnet", toys.INFO)
    assert [one == another for one, another in zip(fingerprint.weights, other.weights, strict=True)].count(False) == 1
    assert other.weights[number] == files.sha256(WEIGHTS[number]) and other == replace(
        fingerprint, weights=other.weights
    )


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"views": {"shift": 3}}, {"student_views": {"count": 5}}, {"logits": {"top_k": 1}}],
    ids=str,
)
def test_origin_follows_what_params_say_of_views_and_logits(fingerprint, changes):
    assert Fingerprint.read(toys.settings(cross_fit={"folds": 2}, **changes), "resnet", toys.INFO) != fingerprint


@pytest.mark.parametrize("name", ["train.npy", "manifest.json"])
def test_a_missing_file_is_named(folder, fingerprint, name):
    (folder / name).unlink()
    with pytest.raises(PipelineError, match=f"{name} is missing"):
        manifest.open_cache(folder, "train", fingerprint)
