import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.params import Augmentation, StudentViews
from pipeline.project.data import UNLABELLED
from pipeline.project.randomness import derive, uniform
from pipeline.training.views import Views, mixed_labels
from tests import toys
from tests.toys import rendered

many_views = st.builds(
    Views,
    seed=st.integers(0, 2**32 - 1),
    count=st.just(4),
    shift=st.integers(0, 3),
    flip=st.booleans(),
    erase=st.sampled_from([0.0, 0.5, 1.0]),
    mixup=st.sampled_from([0.0, 0.2, 1.0]),
    cutmix=st.sampled_from([0.0, 1.0]),
)
PLAIN = Views(seed=0, count=4, shift=0, flip=False, erase=0.0)


def changed(**changes):
    return replace(PLAIN, **changes)


def naive(image, sample, view, views):
    """One view of one image, step by step, from the same uniform draws."""
    draw = [float(uniform(views.seed, np.array([sample]), view, number)[0]) for number in range(6)]
    height, width = image.shape[:2]
    top, left = (int(draw[axis] * (2 * views.shift + 1)) - views.shift for axis in (0, 1))
    shown = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row + top < height and 0 <= column + left < width:
                shown[row, column] = image[row + top, column + left]
    if views.flip and draw[2] < 0.5:
        shown = shown[:, ::-1].copy()
    if draw[5] < views.erase:
        tall, wide = height // 4, width // 4
        top, left = int(draw[3] * (height - tall + 1)), int(draw[4] * (width - wide + 1))
        shown[top : top + tall, left : left + wide] = 0
    return shown


@settings(max_examples=25, deadline=None)
@given(many_views, st.integers(0, 50), st.sampled_from([1, 3]))
def test_views_equal_a_naive_implementation(views, view, channels):
    views = replace(views, mixup=0.0, cutmix=0.0)
    images, ids = toys.images(16, size=8, channels=channels, seed=views.seed), np.arange(10, 16)
    expected = [naive(images[sample], sample, view, views) for sample in ids]
    assert np.array_equal(rendered(images, ids, view, views), np.stack(expected))


@settings(max_examples=25, deadline=None)
@given(many_views, st.permutations(range(12)), st.integers(1, 12))
def test_a_view_does_not_depend_on_the_batch_that_it_is_in(views, order, size):
    images, ids = toys.images(12), np.array(order[:size])
    whole = rendered(images, np.arange(12), 1, views)
    assert np.array_equal(rendered(images, ids, 1, views), whole[ids])


@settings(max_examples=15, deadline=None)
@given(many_views, st.sampled_from([1, 3]))
def test_type_and_shape_stay(views, channels):
    images = toys.images(5, channels=channels)
    shown = rendered(images, np.arange(5), 0, views)
    assert (shown.dtype, shown.shape) == (np.uint8, images.shape)


def test_a_second_call_gives_the_same_bits():
    views, images = changed(shift=2, flip=True, erase=0.5), toys.images(30)
    assert np.array_equal(rendered(images, np.arange(30), 3, views), rendered(images, np.arange(30), 3, views))


def test_the_images_themselves_are_left_alone():
    images = toys.images(20)
    images.setflags(write=False)
    before = images.copy()
    rendered(images, np.arange(20), 0, changed(flip=True, erase=1.0))
    assert np.array_equal(images, before)


@pytest.mark.parametrize(("view", "seed"), [(1, 0), (0, 1)])
def test_another_number_or_seed_gives_another_view(view, seed):
    images = toys.images(30)
    first = rendered(images, np.arange(30), 0, changed(shift=2, flip=True))
    second = rendered(images, np.arange(30), view, changed(shift=2, flip=True, seed=seed))
    assert (first != second).any(axis=(1, 2, 3)).mean() > 0.8


def test_without_shift_flip_and_erasing_the_images_come_back():
    images = toys.images(20)
    assert np.array_equal(rendered(images, np.arange(20), 2, PLAIN), images)


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_rest():
    images = toys.images(2000, size=4)
    shown = rendered(images, np.arange(2000), 0, changed(flip=True))
    mirrored = (shown == images[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (shown == images).all(axis=(1, 2, 3))
    assert (mirrored | same).all()
    assert 0.45 < mirrored.mean() < 0.55


def test_erasing_blanks_exactly_one_square():
    white = np.full((50, 16, 16, 3), 255, np.uint8)
    for shown in rendered(white, np.arange(50), 0, changed(erase=1.0)):
        blank = (shown == 0).all(axis=2)
        rows, columns = np.flatnonzero(blank.any(axis=1)), np.flatnonzero(blank.any(axis=0))
        assert blank.sum() == (shown == 0).any(axis=2).sum() == 16
        assert len(rows) == len(columns) == np.ptp(rows) + 1 == np.ptp(columns) + 1 == 4


def test_erasing_is_as_frequent_as_its_probability():
    white = np.full((2000, 8, 8, 1), 255, np.uint8)
    shown = rendered(white, np.arange(2000), 0, changed(erase=0.3))
    assert (shown == 0).any(axis=(1, 2, 3)).mean() == pytest.approx(0.3, abs=0.04)


def test_every_shift_within_the_limit_occurs():
    image = np.zeros((1, 9, 9, 1), np.uint8)
    image[0, 4, 4] = 255
    shown = rendered(np.repeat(image, 500, axis=0), np.arange(500), 0, changed(shift=2))
    assert {tuple(np.argwhere(each[:, :, 0])[0] - 4) for each in shown} == {
        (row, column) for row in range(-2, 3) for column in range(-2, 3)
    }


def mixed(views, count=200, size=16):
    """Every image a constant of its own, so that a pixel of 0 (id 0) or of 200 (the others) tells whose it is."""
    images = np.full((count, size, size, 1), 200, np.uint8)
    images[: count // 2] = 0
    of = (np.arange(count) >= count // 2).astype(np.int64)
    shown = rendered(images, np.arange(count), 0, views)
    shares = mixed_labels(of, np.arange(count), 0, views, size, 2)
    return shown[..., 0], shares, of


@pytest.mark.parametrize("changes", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_labels_are_the_shares_of_the_pixels(changes):
    shown, shares, _ = mixed(changed(**changes))
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(shares[:, 1], shown.mean(axis=(1, 2)) / 200, atol=0.005)
    assert ((shares > 0.1) & (shares < 0.9)).any(axis=1).mean() > 0.2


def test_mixup_blends_every_pixel_alike():
    shown, _, _ = mixed(changed(mixup=1.0))
    assert all(len(np.unique(each)) == 1 for each in shown)


def test_cutmix_pastes_one_box():
    shown, _, of = mixed(changed(cutmix=1.0))
    for each, own in zip(shown, of, strict=True):
        pasted = each != 200 * own
        assert set(np.unique(each)) <= {0, 200}
        rows, columns = np.flatnonzero(pasted.any(axis=1)), np.flatnonzero(pasted.any(axis=0))
        assert pasted.sum() == len(rows) * len(columns)


def test_with_both_about_half_of_the_views_have_each():
    shown, _, _ = mixed(changed(mixup=1.0, cutmix=1.0), count=2000)
    blended = np.array([len(np.unique(each)) == 1 and each[0, 0] not in (0, 200) for each in shown])
    cut = np.array([len(np.unique(each)) == 2 for each in shown])
    assert 0.15 < blended.mean() < 0.35  # a half of the pairs are of one colour, where nothing is seen
    assert 0.15 < cut.mean() < 0.35


def test_pairs_and_shares_replay_and_change_with_the_view():
    views = changed(mixup=1.0)
    first, again = mixed(views), mixed(views)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    labels = np.arange(50)
    shares = [mixed_labels(labels, labels, view, views, 8, 50) for view in (0, 1)]
    assert (shares[0] != shares[1]).any(axis=1).mean() > 0.9


def test_the_partner_is_seen_as_it_is_in_that_view():
    views = changed(seed=7, shift=2, flip=True)
    images, ids = toys.images(12), np.arange(12)
    alone = rendered(images, ids, 1, views).astype(int)
    both = rendered(images, ids, 1, replace(views, mixup=1.0)).astype(int)
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
    shares = mixed_labels(labels, labels, 0, changed(mixup=2.0), 8, 4000)[labels, labels]
    assert stats.kstest(shares, stats.beta(2, 2).cdf).statistic < 0.03


def test_labels_of_views_that_are_not_mixed_stay_numbers():
    labels = np.array([3, 1, 2], np.int64)
    assert np.array_equal(mixed_labels(labels, np.array([2, 0]), 0, PLAIN, 8, 4), [2, 3])


def test_the_shares_of_a_mixed_image_without_a_label_are_those_of_its_labelled_part():
    views, labels = changed(mixup=1.0), np.arange(200) % 4
    hidden = np.where(np.arange(200) < 100, labels, UNLABELLED)
    everything, known = (mixed_labels(each, np.arange(200), 0, views, 8, 4) for each in (labels, hidden))
    sums = known.sum(axis=1)
    assert (known <= everything).all()
    assert np.isclose(sums, 0).any() and np.isclose(sums, 1).any() and ((sums > 0.05) & (sums < 0.95)).any()


AUGMENTATION = toys.block(Augmentation, "views", shift=3, flip=False, erase=0.25)
STUDENT_VIEWS = toys.block(StudentViews, "student_views", count=4, mixup=0.5, cutmix=1.0)


def test_fresh_views_are_new_in_every_epoch_and_never_mixed():
    views = Views.fresh(AUGMENTATION, seed=11)
    assert views == Views(seed=11, count=None, shift=3, flip=False, erase=0.25, mixup=0.0, cutmix=0.0)
    assert [views.number(epoch) for epoch in range(6)] == [0, 1, 2, 3, 4, 5]


def test_replayed_views_come_again_and_are_those_of_params():
    views = Views.replayed(AUGMENTATION, STUDENT_VIEWS, seed=11)
    expected = Views(seed=derive(11, "views"), count=4, shift=3, flip=False, erase=0.25, mixup=0.5, cutmix=1.0)
    assert views == expected
    assert [views.number(epoch) for epoch in range(6)] == [0, 1, 2, 3, 0, 1]


def test_the_student_alone_sees_the_students_views_and_then_new_ones():
    augmentation = toys.block(Augmentation, "views", shift=2, flip=True, erase=0.5)
    student_views = StudentViews(count=3, mixup=0, cutmix=0)
    limited, unlimited = (Views.alone(augmentation, student_views, kind, 0) for kind in ("cached", "new"))
    assert limited == Views.replayed(augmentation, student_views, 0)
    images, ids = toys.images(6, size=8), np.arange(6)
    shown = [rendered(images, ids, unlimited.number(epoch), unlimited) for epoch in range(8)]
    for epoch in range(limited.count):
        assert np.array_equal(shown[epoch], rendered(images, ids, limited.number(epoch), limited))
    assert len({each.tobytes() for each in shown}) == 8


@pytest.mark.parametrize(
    ("views", "digest"),
    [
        (Views(5, 4, 2, True, 0.0), "e58b8369becaeba45fa28391a42a7b2f7e42447d42684b37888b142aa92d941e"),
        (Views(5, 4, 2, True, 0.5, 0.4, 1.0), "a674c77528200fe339879de5612ef7269551e7436b6e0cf63a5034ce987dcc64"),
    ],
    ids=["small", "all"],
)
def test_small_views_stay_the_bytes_that_they_are(views, digest):
    images, ids = toys.images(40, size=28), np.arange(39, -1, -1)
    shown = b"".join(rendered(images, ids, view, views).tobytes() for view in range(3))
    assert hashlib.sha256(shown).hexdigest() == digest
