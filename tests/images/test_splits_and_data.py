import tracemalloc

import numpy as np
import pytest

from pipeline.images import checks, splits
from pipeline.images.sources import Source
from pipeline.project import data, files
from pipeline.project.errors import PipelineError
from tests import toys

SHARES = {0: 60, 1: 30, 2: 10}


def source(fixed=None, images=None, repeat=1):
    labels = np.repeat(list(SHARES), [repeat * count for count in SHARES.values()]).astype(np.int64)
    labels = np.random.default_rng(0).permutation(labels)
    images = toys.images(len(labels), size=4) if images is None else images
    return Source(images, labels, ["a", "b", "c"], np.full(len(labels), "") if fixed is None else fixed)


def counts(source, ids):
    return np.bincount(source.labels[ids], minlength=3).tolist()


def positions(whole, settings, seed):
    return splits.split(whole, settings, seed)[0]


def test_splits_are_disjoint_and_leave_nothing_out():
    parts = positions(source(), toys.data_params(), seed=0)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(100))


def test_splits_are_stratified():
    whole = source(repeat=5)
    parts = positions(whole, toys.data_params(val_fraction=0.25, test_fraction=0.2), seed=0)
    assert {name: counts(whole, ids) for name, ids in parts.items()} == {
        "test": [60, 30, 10],
        "val": [60, 30, 10],
        "train": [180, 90, 30],
    }


def test_positions_of_val_and_test_ascend_and_those_of_train_are_shuffled():
    split = positions(source(), toys.data_params(), seed=0)
    assert (np.diff(split["val"]) > 0).all() and (np.diff(split["test"]) > 0).all()
    assert 0.35 < (np.diff(split["train"]) > 0).mean() < 0.65


def test_the_same_seed_gives_the_same_splits():
    first, second = (positions(source(), toys.data_params(), seed=3) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_splits():
    first, second = (positions(source(), toys.data_params(), seed=seed) for seed in (0, 1))
    assert not any(np.array_equal(first[name], second[name]) for name in first)


def test_the_test_split_of_the_source_is_kept():
    fixed = np.where(np.arange(100) < 30, "test", "")
    parts = positions(source(fixed), toys.data_params(), seed=0)
    assert parts["test"].tolist() == list(range(30))
    assert sorted([*parts["train"], *parts["val"]]) == list(range(30, 100))


def test_the_val_split_of_the_source_is_kept():
    fixed = np.where(np.arange(100) < 30, "val", "")
    parts = positions(source(fixed), toys.data_params(), seed=0)
    assert parts["val"].tolist() == list(range(30))
    assert len(parts["test"]) == 14


def test_unlabelled_samples_are_other_images_of_train_without_their_labels():
    whole, settings = source(), toys.data_params(train_samples=20)
    few = positions(whole, settings, seed=0)
    parts, labels = splits.split(whole, toys.data_params(train_samples=20, unlabelled_samples=30), seed=0)
    without = np.flatnonzero(labels == data.UNLABELLED)
    assert len(without) == 30 and sorted(parts["train"]) == sorted([*few["train"], *without])
    assert set(without) <= set(positions(whole, toys.data_params(), seed=0)["train"])
    assert np.array_equal(np.delete(labels, without), np.delete(whole.labels, without))
    assert (whole.labels != data.UNLABELLED).all()
    assert all(np.array_equal(parts[name], few[name]) for name in ("val", "test"))
    everything, labels = splits.split(whole, toys.data_params(train_samples=20, unlabelled_samples=1000), seed=0)
    assert len(everything["train"]) == 64 and (labels != data.UNLABELLED).sum() == 56


def test_train_samples_takes_so_many_stratified_and_leaves_val_and_test_alone():
    whole = source()
    everything = positions(whole, toys.data_params(), seed=0)
    fewer = positions(whole, toys.data_params(train_samples=20), seed=0)
    assert counts(whole, fewer["train"]) == [12, 6, 2]
    assert set(fewer["train"]) < set(everything["train"])
    assert all(np.array_equal(fewer[name], everything[name]) for name in ("val", "test"))


@pytest.mark.parametrize("samples", [61, 64, 1000])
def test_train_samples_near_or_beyond_what_there_is_are_fine(samples):
    parts = positions(source(), toys.data_params(train_samples=samples), seed=0)
    assert len(parts["train"]) == min(samples, 64)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"val_fraction": 0.01}, r"data\.val_fraction"),
        ({"test_fraction": 0.01}, r"data\.test_fraction"),
        ({"val_fraction": 0.999}, r"data\.val_fraction"),
        ({"train_samples": 2}, r"data\.train_samples"),
    ],
)
def test_a_part_too_small_for_the_classes_is_refused_by_its_key(changes, key):
    with pytest.raises(PipelineError, match=key):
        positions(source(), toys.data_params(**changes), seed=0)


def test_duplicates_are_counted_between_splits():
    images = toys.images(10, size=4)
    images[[5, 6]], images[8], images[9] = images[0], images[1], images[5]
    whole = source(images=np.concatenate([images, toys.images(90, size=4, seed=1)]))
    counted = checks.duplicates(
        checks.digests(whole.images), {"train": np.arange(5), "val": np.array([5, 6, 7]), "test": np.array([8, 9])}
    )
    assert counted == {"val_in_train": 2, "test_in_train": 2, "test_in_val": 1}


POSITIONS = {"train": np.array([0, 2, 3]), "val": np.array([1]), "test": np.array([4, 5])}


@pytest.fixture
def saved(tmp_path):
    images, labels = toys.images(6, channels=3), np.array([0, 1, 1, 0, 0, 1])
    return tmp_path, images, labels, data.save(images, labels, ["a", "b"], POSITIONS, tmp_path)


@pytest.mark.parametrize("name", list(POSITIONS))
def test_a_split_comes_back_as_it_was_saved(saved, name):
    folder, images, labels, _ = saved
    split = data.open_split(folder, name)
    assert np.array_equal(split.images, images[POSITIONS[name]]) and split.images.dtype == np.uint8
    assert np.array_equal(split.labels, labels[POSITIONS[name]]) and split.labels.dtype == np.int64
    assert len(split) == len(POSITIONS[name])


def test_info_comes_back_as_it_was_saved(saved):
    folder, _, _, info = saved
    assert data.open_info(folder) == info
    assert (info.classes, info.image_size, len(info.sha256)) == (["a", "b"], 8, 6)


def test_mean_and_std_are_those_of_the_training_images_alone(saved):
    _, images, _, info = saved
    train = images[POSITIONS["train"]].astype(np.float64).reshape(-1, 3) / 255
    assert info.mean == pytest.approx(train.mean(axis=0), abs=1e-5)
    assert info.std == pytest.approx(train.std(axis=0), abs=1e-5)


@pytest.mark.parametrize("chunk", [1, 500, 2**24])
@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_std_are_those_of_numpy_whatever_the_chunks(tmp_path, monkeypatch, chunk, channels):
    monkeypatch.setattr(data, "CHUNK", chunk)
    images, ids = toys.images(50, channels=channels), np.random.default_rng(0).permutation(50)
    info = data.save(images, np.zeros(50, int), ["a"], {"train": ids}, tmp_path)
    train = images[ids] / np.float32(255)
    axes = (0, 1, 2)
    assert info.mean == [round(float(value), 6) for value in train.mean(axis=axes, dtype=np.float64)]
    assert info.std == [round(float(value), 6) for value in train.std(axis=axes, dtype=np.float64)]
    assert np.array_equal(np.load(tmp_path / "train_images.npy"), images[ids])


def test_no_more_than_a_chunk_of_images_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CHUNK", 2**20)
    files.write_array(tmp_path / "x.npy", np.zeros((4000, 64, 64, 3), np.uint8))  # 49 MB
    images, ids = files.open_array(tmp_path / "x.npy"), np.random.default_rng(0).permutation(4000)
    tracemalloc.start()
    data.save(images, np.zeros(4000, np.int64), ["a"], {"train": ids}, tmp_path)
    whole = Source(images, np.zeros(4000, np.int64), ["a"], np.full(4000, ""))
    checks.duplicates(checks.digests(whole.images), {"train": ids[:2000], "val": ids[2000:3000], "test": ids[3000:]})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2**20  # of which numpy's counting takes eight bytes a value of one channel


def test_the_std_of_a_constant_channel_can_be_divided_by(tmp_path):
    info = data.save(np.full((6, 4, 4, 1), 7, np.uint8), np.zeros(6, int), ["a", "b"], POSITIONS, tmp_path)
    assert info.std[0] > 0


@pytest.mark.parametrize("name", ["train_images.npy", "train_labels.npy"])
@pytest.mark.parametrize("left", [0, 40, -1])
def test_a_truncated_file_is_refused_by_name(saved, name, left):
    path = saved[0] / name
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(PipelineError, match=name):
        data.open_split(saved[0], "train")


@pytest.mark.parametrize("name", ["dataset.json", "val_images.npy"])
def test_a_missing_file_is_named(saved, name):
    (saved[0] / name).unlink()
    with pytest.raises(PipelineError, match=f"{name} is missing"):
        data.open_info(saved[0]), data.open_split(saved[0], "val")


def test_images_without_a_label_join_train_alone_and_do_not_move_the_others():
    whole = source()
    more = Source(
        np.concatenate([whole.images, toys.images(40, size=4, seed=1)]),
        np.concatenate([whole.labels, np.full(40, data.UNLABELLED)]),
        whole.classes,
        np.full(140, ""),
    )
    settings = toys.data_params(train_samples=20)
    with_more, without = (positions(each, settings, seed=0) for each in (more, whole))
    assert sorted(with_more["train"]) == [*sorted(without["train"]), *range(100, 140)]
    assert all(np.array_equal(with_more[name], without[name]) for name in ("val", "test"))
    assert 5 < (with_more["train"][:30] >= 100).sum() < 30  # shuffled among the others


def test_whole_images_of_train_are_stored_beside_what_models_see_of_val(tmp_path):
    images, labels = toys.images(6, channels=3), np.array([0, 1, 1, 0, 0, 1])
    whole, aspects = toys.images(3, size=12, channels=3, seed=1), np.array([1.5, 1.0, 0.5], np.float32)
    info = data.save(images, labels, ["a", "b"], POSITIONS, tmp_path, (whole, aspects), background="black", bits=12)
    train, val = (data.open_split(tmp_path, name) for name in ("train", "val"))
    assert np.array_equal(train.images, whole) and np.array_equal(train.aspects, aspects)
    assert np.array_equal(val.images, images[[1]]) and val.aspects is None
    assert (info.image_size, info.background, info.bits) == (8, "black", 12) == (
        data.open_info(tmp_path).image_size, "black", 12)  # fmt: skip
    assert "train_aspects.npy" in info.sha256
    assert info.mean == pytest.approx(whole.mean(axis=(0, 1, 2)) / 255, abs=1e-5)
