from dataclasses import replace

import numpy as np
import pytest

from pipeline.logits import caching, topk
from pipeline.logits.caching import Labeller
from pipeline.project.data import Split
from pipeline.project.errors import PipelineError
from pipeline.training.folds import fold_of
from pipeline.training.inference import predict
from pipeline.training.loop import Lesson, Trainer
from pipeline.training.losses import label_loss_alone
from pipeline.training.views import render
from tests import toys

TRAIN, VIEWS = toys.split(21), toys.VIEWS
LABELS_ALONE = label_loss_alone(0.0, None)


def labeller(*models):
    return Labeller(models or [toys.classifier()], toys.CPU, seed=3)


def fit(model, split, settings, views, ids):
    Trainer(model, settings, Lesson(split, ids, views, LABELS_ALONE), toys.CPU, seed=0, name="teacher").fit(split)
    return model


@pytest.fixture(scope="module")
def teacher():
    """One whose logits tell views apart."""
    return labeller(fit(toys.classifier(), TRAIN, toys.training(epochs=20), VIEWS, np.arange(21)))


def cached(path, views=VIEWS, top_k=None, by=None):
    caching.cache(path, by or labeller(), TRAIN, views, top_k=top_k, name="teacher")
    return np.load(path)


def test_rows_are_the_models_predictions_on_replayed_views(tmp_path):
    rows = cached(tmp_path / "train.npy")
    assert (rows.dtype, rows.shape) == (np.float16, (2, 21, 2))
    for view in range(2):
        pixels = render(TRAIN, np.arange(21), view, VIEWS, 8)
        expected = predict(toys.classifier(), pixels, toys.CPU, exact=False).astype(np.float16)
        np.testing.assert_array_equal(rows[view], expected)


def test_mixed_views_are_asked_as_they_are_seen(tmp_path):
    views = replace(VIEWS, count=1, mixup=1.0, cutmix=1.0)
    rows = cached(tmp_path / "train.npy", views)
    pixels = render(TRAIN, np.arange(21), 0, views, 8)
    expected = predict(toys.classifier(), pixels, toys.CPU, exact=False).astype(np.float16)
    np.testing.assert_array_equal(rows[0], expected)


def test_the_pixels_that_are_asked_about_are_those_that_training_sees(tmp_path, monkeypatch):
    asked, ids = [], np.array([4, 20, 0, 7])

    def spy(model, images, device, *, exact):
        asked.append(images)
        return predict(model, images, device, exact=exact)

    monkeypatch.setattr(caching, "predict", spy)
    monkeypatch.setattr(caching, "CHUNK", 8)
    cached(tmp_path / "train.npy")
    shown = np.concatenate(asked).reshape(2, 21, 8, 8, 1)
    lesson = Lesson(TRAIN, np.arange(21), VIEWS, LABELS_ALONE)
    for epoch in range(4):
        images, _, _ = lesson.batch(ids, epoch, toys.INFO)
        assert np.array_equal(images.numpy(), shown[epoch % 2, ids])


def test_views_of_several_chunks_are_those_of_one(tmp_path, monkeypatch):
    whole = cached(tmp_path / "whole.npy")
    monkeypatch.setattr(caching, "CHUNK", 8)
    np.testing.assert_allclose(cached(tmp_path / "chunked.npy").astype(float), whole.astype(float), atol=2e-3)


def test_clean_logits_are_the_models_predictions_on_the_images(tmp_path):
    expected = predict(toys.classifier(), TRAIN.images, toys.CPU, exact=True).astype(np.float16)
    np.testing.assert_array_equal(cached(tmp_path / "val.npy", views=None), expected[None])


def test_top_k_rows_hold_what_the_full_ones_do(tmp_path):
    full = cached(tmp_path / "full.npy").astype(np.float32)
    rows = cached(tmp_path / "top.npy", top_k=1)
    decoded = np.stack([topk.decode(view, 2) for view in rows])
    np.testing.assert_allclose(decoded, full, atol=0.01)  # of two classes, the rest is the other one


def test_a_failure_leaves_no_half_written_cache(tmp_path):
    model = toys.classifier()
    model.net.get_classifier().bias.data.fill_(1e6)
    with pytest.raises(PipelineError, match="float16"):
        cached(tmp_path / "val.npy", by=labeller(model))
    assert list(tmp_path.glob("**/val.npy*")) == []


@pytest.mark.parametrize("top_k", [None, 1])
def test_a_teacher_confirms_what_it_said(tmp_path, teacher, top_k):
    rows = cached(tmp_path / "train.npy", top_k=top_k, by=teacher)
    caching.check(teacher, TRAIN, rows, VIEWS, tmp_path)


@pytest.mark.parametrize("top_k", [None, 1])
@pytest.mark.parametrize("other", ["teacher", "views", "images"])
def test_a_teacher_denies_what_it_did_not_say(tmp_path, teacher, top_k, other):
    rows = cached(tmp_path / "train.npy", top_k=top_k, by=teacher)
    by = labeller(toys.classifier(seed=1)) if other == "teacher" else teacher
    views = replace(VIEWS, shift=3) if other == "views" else VIEWS
    moved = np.roll(TRAIN.images, 1, axis=0)  # so that each is of the other class than the one in its place
    train = Split(moved, TRAIN.labels) if other == "images" else TRAIN
    with pytest.raises(PipelineError, match=r"train\.npy does not hold what its teacher says: view \d of .* image \d+"):
        caching.check(by, train, rows, views, tmp_path / "train.npy")


def test_out_of_fold_labels_come_from_a_teacher_that_has_not_seen_the_image():
    """Labels are noise, so whoever gets them right has learned them by heart."""
    split = Split(toys.images(60), np.random.default_rng(1).integers(0, 2, 60))
    ids, fold = np.arange(60), fold_of(np.arange(60), 2, 3)
    views, settings = replace(VIEWS, count=1, shift=0, flip=False), toys.training(epochs=60, lr=0.03)
    teachers = [fit(toys.classifier(seed=number), split, settings, views, ids[fold != number]) for number in range(2)]
    decisions = [predict(model, split.images, toys.CPU, exact=True).argmax(1) for model in teachers]
    by_heart = np.stack(decisions) == split.labels
    assert by_heart[1 - fold, ids].mean() > 0.9
    answers = labeller(*teachers).ask(split.images, ids, exact=True)
    assert 0.3 < (answers.argmax(1) == split.labels).mean() < 0.7
    for number in range(2):
        alone = predict(teachers[number], split.images[fold == number], toys.CPU, exact=True)
        assert np.array_equal(answers[fold == number], alone)
