import numpy as np
import pytest

from pipeline.distillation.objectives import label_loss
from pipeline.logits import caching, topk
from pipeline.project.data import Split
from pipeline.project.errors import PipelineError
from pipeline.training import loop
from pipeline.training.folds import fold_of
from pipeline.training.loop import batch, predict
from pipeline.training.views import Looks, render
from tests import toys

TRAIN = toys.split(21)
LOOKS = Looks(toys.VIEWS, 5, count=2)


@pytest.fixture(scope="module")
def teacher():
    """One whose logits tell looks apart."""
    model, loss = toys.classifier(), lambda logits, labels, *_: label_loss(logits, labels)
    settings = toys.TRAINING.model_copy(update={"epochs": 20})
    loop.fit(model, TRAIN, TRAIN, settings, LOOKS, loss, device=toys.CPU, seed=0, name="teacher")
    return model


def cached(path, looks=LOOKS, top_k=None, model=None):
    caching.cache(path, [model or toys.classifier()], TRAIN, looks, top_k=top_k, device=toys.CPU, name="teacher")
    return np.load(path)


def test_looks_are_the_models_predictions_on_replayed_views(tmp_path):
    rows = cached(tmp_path / "train.npy")
    assert (rows.dtype, rows.shape) == (np.float16, (2, 21, 2))
    for view in range(2):
        pixels = render(TRAIN.images, np.arange(21), view, 5, toys.VIEWS)
        expected = predict(toys.classifier(), pixels, toys.CPU, exact=False).astype(np.float16)
        np.testing.assert_array_equal(rows[view], expected)


def test_mixed_looks_are_asked_as_they_are_seen(tmp_path):
    spec = toys.VIEWS.model_copy(update={"mixup": 1.0, "cutmix": 1.0})
    rows = cached(tmp_path / "train.npy", Looks(spec, 5, 1))
    pixels = render(TRAIN.images, np.arange(21), 0, 5, spec)
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
    for epoch in range(4):
        images, _, _ = batch(TRAIN, ids, LOOKS, epoch, None, 2)
        assert np.array_equal(images.numpy(), shown[epoch % 2, ids])


def test_looks_of_several_chunks_are_those_of_one(tmp_path, monkeypatch):
    whole = cached(tmp_path / "whole.npy")
    monkeypatch.setattr(caching, "CHUNK", 8)
    np.testing.assert_allclose(cached(tmp_path / "chunked.npy").astype(float), whole.astype(float), atol=2e-3)


def test_clean_logits_are_the_models_predictions_on_the_images(tmp_path):
    expected = predict(toys.classifier(), TRAIN.images, toys.CPU, exact=True).astype(np.float16)
    np.testing.assert_array_equal(cached(tmp_path / "val.npy", looks=None), expected[None])


def test_top_k_rows_hold_what_the_full_ones_do(tmp_path):
    full = cached(tmp_path / "full.npy").astype(np.float32)
    rows = cached(tmp_path / "top.npy", top_k=1)
    decoded = np.stack([topk.decode(look, 2) for look in rows])
    np.testing.assert_allclose(decoded, full, atol=0.01)  # of two classes, the rest is the other one


def test_a_failure_leaves_no_half_written_cache(tmp_path):
    model = toys.classifier()
    model.net.get_classifier().bias.data.fill_(1e6)
    with pytest.raises(PipelineError, match="float16"):
        cached(tmp_path / "val.npy", model=model)
    assert list(tmp_path.glob("**/val.npy*")) == []


@pytest.mark.parametrize("top_k", [None, 1])
def test_a_teacher_confirms_what_it_said(tmp_path, teacher, top_k):
    rows = cached(tmp_path / "train.npy", top_k=top_k, model=teacher)
    caching.check([teacher], TRAIN, rows, LOOKS, toys.CPU, tmp_path)


@pytest.mark.parametrize("top_k", [None, 1])
@pytest.mark.parametrize("other", ["teacher", "looks", "images"])
def test_a_teacher_denies_what_it_did_not_say(tmp_path, teacher, top_k, other):
    rows = cached(tmp_path / "train.npy", top_k=top_k, model=teacher)
    model, train, looks = teacher, TRAIN, LOOKS
    if other == "teacher":
        model = toys.classifier(seed=1)
    elif other == "looks":
        looks = Looks(toys.VIEWS.model_copy(update={"shift": 3}), 5, 2)
    else:
        train = Split(TRAIN.images[::-1], TRAIN.labels)
    with pytest.raises(PipelineError, match=r"train\.npy does not hold what its teacher says: look \d at .* image \d+"):
        caching.check([model], train, rows, looks, toys.CPU, tmp_path / "train.npy")


def test_out_of_fold_labels_come_from_a_teacher_that_has_not_seen_the_image():
    """Labels are noise, so whoever gets them right has learned them by heart."""
    split = Split(toys.images(60), np.random.default_rng(1).integers(0, 2, 60))
    ids, settings = np.arange(60), toys.TRAINING.model_copy(update={"epochs": 60, "lr": 0.03})
    looks = Looks(toys.VIEWS.model_copy(update={"shift": 0, "flip": False}), 5, count=1)
    teachers = []
    for fold in range(2):
        model = toys.classifier(seed=fold)
        loop.fit(
            model, split, split, settings, looks, lambda logits, labels, *_: label_loss(logits, labels),
            device=toys.CPU, seed=0, name="teacher", ids=ids[fold_of(ids, 2, 3) != fold],
        )  # fmt: skip
        teachers.append(model)
    decisions = [predict(model, split.images, toys.CPU, exact=True).argmax(1) for model in teachers]
    by_heart = np.stack(decisions) == split.labels
    fold = fold_of(ids, 2, 3)
    assert by_heart[1 - fold, ids].mean() > 0.9
    answers = caching.ask(teachers, split.images, ids, toys.CPU, 3, exact=True)
    assert 0.3 < (answers.argmax(1) == split.labels).mean() < 0.7
    for number in range(2):
        alone = predict(teachers[number], split.images[fold == number], toys.CPU, exact=True)
        assert np.array_equal(answers[fold == number], alone)
