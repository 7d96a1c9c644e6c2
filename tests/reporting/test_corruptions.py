import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline.reporting import corruptions
from tests.toys import images

NAMES = list(corruptions.SEVERITY)


def corrupted(pixels, name, seed=0):
    return corruptions.corrupt(pixels, name, np.random.default_rng(seed))


def flat(value, size=64, channels=3, count=4):
    return np.full((count, size, size, channels), value, np.uint8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(3, 8, 8, 1), (3, 28, 28, 1), (2, 224, 224, 3), (3, 40, 24, 3), (0, 8, 8, 3)])
def test_every_corruption_keeps_shape_and_type_and_is_the_same_again(name, shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    pixels.flags.writeable = False
    before = pixels.copy()
    first = corrupted(pixels, name)
    assert first.shape == shape and first.dtype == np.uint8
    assert np.array_equal(first, corrupted(pixels, name)) and np.array_equal(pixels, before)
    assert shape[0] == 0 or not np.array_equal(first, pixels)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_corrupted_alike_alone_and_among_others(name):
    pixels = images(3, size=32, channels=3)
    difference = corrupted(pixels, name)[0].astype(int) - corrupted(pixels[:1], name)[0]
    assert np.abs(difference).max() <= (1 if name == "blur" else 0)  # whose sums may be rounded otherwise


@pytest.mark.parametrize("name", NAMES)
def test_severity_is_that_of_the_two_benchmarks_and_between_them_in_between(name):
    small, large = corruptions.SEVERITY[name]
    assert [corruptions.severity_at(name, side) for side in (8, 32, 224, 1024)] == [small, small, large, large]
    geometric = (32 * 224) ** 0.5
    assert corruptions.severity_at(name, geometric) == pytest.approx((small + large) / 2)


@pytest.mark.parametrize(("size", "deviation"), [(32, 0.08), (224, 0.18)])
def test_noise_has_its_deviation_and_no_bias(size, deviation):
    noise = corrupted(flat(128, size), "noise").astype(float) - 128
    inside = np.clip(np.random.default_rng(9).normal(0, 255 * deviation, 10**6), -128, 127)
    assert noise.std() == pytest.approx(inside.std(), rel=0.03)
    assert abs(noise.mean()) < 4 * inside.std() / noise.size**0.5 + 0.3
    assert not np.array_equal(noise, corrupted(flat(128, size), "noise", seed=1).astype(float) - 128)


@pytest.mark.parametrize(("size", "deviation"), [(28, 0.7), (32, 0.7), (224, 3)])
def test_blur_is_that_of_scipy(size, deviation):
    pixels = images(2, size=size, channels=3)
    expected = gaussian_filter(pixels.astype(float), (0, deviation, deviation, 0), mode="mirror", truncate=3)
    assert np.abs(corrupted(pixels, "blur") - expected).max() <= 1.5  # rounding, and how far the kernel reaches
    assert np.array_equal(corrupted(flat(200), "blur"), flat(200))


def test_jpeg_is_that_of_pillow():
    pixels = images(2, size=64, channels=3)
    quality = round(corruptions.severity_at("jpeg", 64))
    file = io.BytesIO()
    Image.fromarray(pixels[0]).save(file, "JPEG", quality=quality)
    expected = np.asarray(Image.open(file)).astype(float)
    assert np.abs(corrupted(pixels, "jpeg")[0] - expected).mean() < 2


def test_pixelate_leaves_blocks_of_one_value_and_the_mean():
    pixels = images(2, size=224, channels=3)
    made = corrupted(pixels, "pixelate")
    blocks = round(0.4 * 224)
    assert len(np.unique(made[0].reshape(224, -1), axis=0)) == blocks
    assert len(np.unique(made[0].transpose(1, 0, 2).reshape(224, -1), axis=0)) == blocks
    assert made.mean() == pytest.approx(pixels.mean(), abs=1)


def test_brightness_is_a_factor_and_contrast_a_share_of_the_distance_from_the_mean():
    assert np.array_equal(corrupted(flat(100, 32), "brightness"), flat(130, 32))
    assert np.array_equal(corrupted(flat(100, 224), "brightness"), flat(160, 224))
    assert (corrupted(flat(250, 32), "brightness") == 255).all()
    halves = flat(50, 32, channels=1)
    halves[:, :16] = 150
    made = corrupted(halves, "contrast")
    assert set(np.unique(made)) == {80, 120}  # the mean is 100, of the 50 on either side 0.4 is left


def test_a_sample_has_of_each_class_in_proportion_and_is_the_same_again():
    labels = np.repeat([0, 1, 2, 3], [600, 300, 99, 1])
    chosen = corruptions.sample(labels, 100, seed=3)
    assert len(set(chosen.tolist())) == 100 and (np.diff(chosen) > 0).all()
    assert np.abs(np.bincount(labels[chosen], minlength=4) - [60, 30, 9.9, 0.1]).max() <= 1
    assert np.array_equal(chosen, corruptions.sample(labels, 100, seed=3))
    assert not np.array_equal(chosen, corruptions.sample(labels, 100, seed=4))
    assert corruptions.sample(labels, 5000, seed=3).tolist() == list(range(1000))


@pytest.mark.parametrize("name", ["noise", "blur"])
def test_what_is_written_in_parts_is_what_is_made_at_once(monkeypatch, tmp_path, name):
    pixels = images(7, size=16)
    ids = np.array([0, 2, 3, 6])
    whole = corruptions.write(tmp_path / "a.npy", pixels, ids, name, seed=5)
    monkeypatch.setattr("pipeline.project.data.CHUNK", pixels[:1].nbytes)
    parts = corruptions.write(tmp_path / "b.npy", pixels, ids, name, seed=5)
    assert whole.shape == (4, 16, 16, 1) and np.abs(whole.astype(int) - parts).max() <= (1 if name == "blur" else 0)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.npy", "b.npy"]
