import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.params import Views
from pipeline.project.data import UNLABELLED
from pipeline.project.randomness import uniform
from pipeline.training.views import labels_of, render
from tests import toys

seeds = st.integers(0, 2**32 - 1)
specs = st.builds(
    Views,
    count=st.just(4),
    shift=st.integers(0, 3),
    flip=st.booleans(),
    erase=st.sampled_from([0.0, 0.5, 1.0]),
    mixup=st.sampled_from([0.0, 0.2, 1.0]),
    cutmix=st.sampled_from([0.0, 1.0]),
)
PLAIN = Views(count=4, shift=0, flip=False, erase=0.0, mixup=0.0, cutmix=0.0)


def changed(**changes):
    return PLAIN.model_copy(update=changes)


def naive(image, sample, view, seed, spec):
    """One look at one image, step by step, from the same uniform draws."""
    draw = [float(uniform(seed, np.array([sample]), view, number)[0]) for number in range(6)]
    height, width = image.shape[:2]
    top, left = (int(draw[axis] * (2 * spec.shift + 1)) - spec.shift for axis in (0, 1))
    look = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row + top < height and 0 <= column + left < width:
                look[row, column] = image[row + top, column + left]
    if spec.flip and draw[2] < 0.5:
        look = look[:, ::-1].copy()
    if draw[5] < spec.erase:
        tall, wide = height // 4, width // 4
        top, left = int(draw[3] * (height - tall + 1)), int(draw[4] * (width - wide + 1))
        look[top : top + tall, left : left + wide] = 0
    return look


@settings(max_examples=25, deadline=None)
@given(specs, seeds, st.integers(0, 50), st.sampled_from([1, 3]))
def test_looks_equal_a_naive_implementation(spec, seed, view, channels):
    spec = spec.model_copy(update={"mixup": 0.0, "cutmix": 0.0})
    images, ids = toys.images(16, size=8, channels=channels, seed=seed), np.arange(10, 16)
    expected = [naive(images[sample], sample, view, seed, spec) for sample in ids]
    assert np.array_equal(render(images, ids, view, seed, spec), np.stack(expected))


@settings(max_examples=25, deadline=None)
@given(specs, seeds, st.permutations(range(12)), st.integers(1, 12))
def test_a_look_does_not_depend_on_the_batch_that_it_is_in(spec, seed, order, size):
    images, ids = toys.images(12), np.array(order[:size])
    whole = render(images, np.arange(12), 1, seed, spec)
    assert np.array_equal(render(images, ids, 1, seed, spec), whole[ids])


@settings(max_examples=15, deadline=None)
@given(specs, seeds, st.sampled_from([1, 3]))
def test_type_and_shape_stay(spec, seed, channels):
    images = toys.images(5, channels=channels)
    looks = render(images, np.arange(5), 0, seed, spec)
    assert (looks.dtype, looks.shape) == (np.uint8, images.shape)


def test_a_second_call_gives_the_same_bits():
    spec, images = changed(shift=2, flip=True, erase=0.5), toys.images(30)
    assert np.array_equal(render(images, np.arange(30), 3, 1, spec), render(images, np.arange(30), 3, 1, spec))


def test_the_images_themselves_are_left_alone():
    images = toys.images(20)
    images.setflags(write=False)
    before = images.copy()
    render(images, np.arange(20), 0, 0, changed(flip=True, erase=1.0))
    assert np.array_equal(images, before)


@pytest.mark.parametrize("other", [{"view": 1}, {"seed": 1}])
def test_another_view_or_seed_gives_another_look(other):
    spec, images = changed(shift=2, flip=True), toys.images(30)
    first = render(images, np.arange(30), **{"view": 0, "seed": 0, "spec": spec})
    second = render(images, np.arange(30), **{"view": 0, "seed": 0, "spec": spec, **other})
    assert (first != second).any(axis=(1, 2, 3)).mean() > 0.8


def test_without_shift_flip_and_erasing_the_images_come_back():
    images = toys.images(20)
    assert np.array_equal(render(images, np.arange(20), 2, 0, PLAIN), images)


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_rest():
    images = toys.images(2000, size=4)
    looks = render(images, np.arange(2000), 0, 0, changed(flip=True))
    mirrored = (looks == images[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (looks == images).all(axis=(1, 2, 3))
    assert (mirrored | same).all()
    assert 0.45 < mirrored.mean() < 0.55


def test_erasing_blanks_exactly_one_square():
    white = np.full((50, 16, 16, 3), 255, np.uint8)
    for look in render(white, np.arange(50), 0, 0, changed(erase=1.0)):
        blank = (look == 0).all(axis=2)
        rows, columns = np.flatnonzero(blank.any(axis=1)), np.flatnonzero(blank.any(axis=0))
        assert blank.sum() == (look == 0).any(axis=2).sum() == 16
        assert len(rows) == len(columns) == np.ptp(rows) + 1 == np.ptp(columns) + 1 == 4


def test_erasing_is_as_frequent_as_its_probability():
    white = np.full((2000, 8, 8, 1), 255, np.uint8)
    looks = render(white, np.arange(2000), 0, 0, changed(erase=0.3))
    assert (looks == 0).any(axis=(1, 2, 3)).mean() == pytest.approx(0.3, abs=0.04)


def test_every_shift_within_the_limit_occurs():
    image = np.zeros((1, 9, 9, 1), np.uint8)
    image[0, 4, 4] = 255
    looks = render(np.repeat(image, 500, axis=0), np.arange(500), 0, 0, changed(shift=2))
    assert {tuple(np.argwhere(look[:, :, 0])[0] - 4) for look in looks} == {
        (row, column) for row in range(-2, 3) for column in range(-2, 3)
    }


def mixed(spec, count=200, size=16):
    """Every image a constant of its own, so that a pixel of 0 (id 0) or of 200 (the others) tells whose it is."""
    images = np.full((count, size, size, 1), 200, np.uint8)
    images[: count // 2] = 0
    of = (np.arange(count) >= count // 2).astype(np.int64)
    looks = render(images, np.arange(count), 0, 0, spec)
    shares = labels_of(of, np.arange(count), 0, 0, spec, size, 2)
    return looks[..., 0], shares, of


@pytest.mark.parametrize("changes", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_labels_are_the_shares_of_the_pixels(changes):
    looks, shares, _ = mixed(changed(**changes))
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(shares[:, 1], looks.mean(axis=(1, 2)) / 200, atol=0.005)
    assert ((shares > 0.1) & (shares < 0.9)).any(axis=1).mean() > 0.2


def test_mixup_blends_every_pixel_alike():
    looks, _, _ = mixed(changed(mixup=1.0))
    assert all(len(np.unique(look)) == 1 for look in looks)


def test_cutmix_pastes_one_box():
    looks, _, of = mixed(changed(cutmix=1.0))
    for look, own in zip(looks, of, strict=True):
        pasted = look != 200 * own
        assert set(np.unique(look)) <= {0, 200}
        rows, columns = np.flatnonzero(pasted.any(axis=1)), np.flatnonzero(pasted.any(axis=0))
        assert pasted.sum() == len(rows) * len(columns)


def test_with_both_about_half_of_the_looks_have_each():
    looks, _, _ = mixed(changed(mixup=1.0, cutmix=1.0), count=2000)
    blended = np.array([len(np.unique(look)) == 1 and look[0, 0] not in (0, 200) for look in looks])
    cut = np.array([len(np.unique(look)) == 2 for look in looks])
    assert 0.15 < blended.mean() < 0.35  # a half of the pairs are of one colour, where nothing is seen
    assert 0.15 < cut.mean() < 0.35


def test_pairs_and_shares_replay_and_change_with_the_view():
    spec = changed(mixup=1.0)
    first, again = mixed(spec), mixed(spec)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    labels = np.arange(50)
    shares = [labels_of(labels, labels, view, 0, spec, 8, 50) for view in (0, 1)]
    assert (shares[0] != shares[1]).any(axis=1).mean() > 0.9


def test_the_partner_is_seen_as_it_is_in_that_look():
    spec = changed(shift=2, flip=True)
    images, ids = toys.images(12), np.arange(12)
    alone = render(images, ids, 1, 7, spec).astype(int)
    both = render(images, ids, 1, 7, spec.model_copy(update={"mixup": 1.0})).astype(int)
    for sample in ids:
        explained = [
            np.abs(alone[sample] * weight + alone[partner] * (256 - weight) + 128 - 256 * both[sample]).max() <= 256
            for partner in ids
            for weight in range(257)
        ]
        assert any(explained)


def test_shares_follow_beta():
    from scipy import stats

    labels = np.arange(4000)
    shares = labels_of(labels, labels, 0, 0, changed(mixup=2.0), 8, 4000)[labels, labels]
    assert stats.kstest(shares, stats.beta(2, 2).cdf).statistic < 0.03


def test_labels_of_looks_that_are_not_mixed_stay_numbers():
    labels = np.array([3, 1, 2], np.int64)
    assert np.array_equal(labels_of(labels, np.array([2, 0]), 0, 0, PLAIN, 8, 4), [2, 3])


def test_the_shares_of_a_mixed_image_without_a_label_are_those_of_its_labelled_part():
    spec, labels = changed(mixup=1.0), np.arange(200) % 4
    hidden = np.where(np.arange(200) < 100, labels, UNLABELLED)
    everything, known = (labels_of(each, np.arange(200), 0, 0, spec, 8, 4) for each in (labels, hidden))
    sums = known.sum(axis=1)
    assert (known <= everything).all()
    assert np.isclose(sums, 0).any() and np.isclose(sums, 1).any() and ((sums > 0.05) & (sums < 0.95)).any()
