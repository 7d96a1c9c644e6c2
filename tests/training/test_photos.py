"""Views of photographs: presets, crops in the original's geometry, colours, TrivialAugment, what is stored larger."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from scipy import stats
from torchvision.transforms.v2 import RandomResizedCrop, TrivialAugmentWide
from torchvision.transforms.v2 import functional as torchvision

from pipeline.logits import caching
from pipeline.logits.caching import Labeller
from pipeline.logits.manifest import Fingerprint
from pipeline.params import Augmentation, StudentViews
from pipeline.project import paths
from pipeline.project.data import Split
from pipeline.training import colours, crops, models, trivial
from pipeline.training.inference import predict
from pipeline.training.loop import Lesson
from pipeline.training.losses import label_loss_alone
from pipeline.training.views import PRESETS, Views, clean, mixed_labels, render, resolved
from tests import toys

NO_STUDENT_VIEWS = StudentViews(count=4, mixup=0, cutmix=0)


def augmentation(**changes):
    return toys.block(Augmentation, "views", **changes)


def views(preset="photo", **changes):
    return Views.fresh(augmentation(preset=preset, **changes), seed=5)


def photos(count=12, side=40, channels=3, seed=0):
    """Slow gradients and noise, each the squeezed copy of an original between 1:2 and 2:1."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 4, 4, channels), np.uint8)
    smooth = [np.asarray(Image.fromarray(each.squeeze()).resize((side, side), Image.BICUBIC)) for each in coarse]
    noise = random.integers(-20, 21, (count, side, side, channels))
    images = np.clip(np.reshape(smooth, noise.shape) + noise, 0, 255).astype(np.uint8)
    return Split(images, np.arange(count) % 2, np.exp2(random.uniform(-1, 1, count)).astype(np.float32))


PHOTOS, ALL = photos(), np.arange(12)


# presets


def test_a_preset_is_what_its_keys_say_and_single_keys_differ_from_it():
    assert resolved(augmentation()) == PRESETS["small"]
    assert PRESETS["small"] == PRESETS["none"] | {"shift": 2, "flip": True}
    assert resolved(augmentation(preset="photo", flip=False, gray=0.5)) == PRESETS["photo"] | {
        "flip": False,
        "gray": 0.5,
    }
    assert resolved(augmentation(crop=0.5)) == PRESETS["none"] | {"flip": True, "crop": 0.5}  # and no shift beside it
    assert resolved(augmentation(preset="photo", crop=1, shift=3)) == PRESETS["photo"] | {"crop": 1, "shift": 3}


@pytest.mark.parametrize("preset", PRESETS)
def test_equal_values_are_equal_views_whoever_named_them(preset, project):
    named = {"preset": preset}
    spelt = {"preset": "small"} | PRESETS[preset]
    models.save(toys.classifier(), paths.weights("resnet"))
    if preset == "photo":
        spelt |= {"shift": None}
    first, second = (Fingerprint.read(toys.settings(views=each), "resnet", toys.INFO) for each in (named, spelt))
    assert first == second and first.views["flip"] == PRESETS[preset]["flip"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preset": "large"}, "'none', 'small' or 'photo'"),
        ({"crop": 0}, "greater than 0"),
        ({"crop": 1.1}, "less than or equal to 1"),
        ({"hue": 0.6}, "less than or equal to 0.5"),
        ({"jitter": -0.1}, "greater than or equal to 0"),
        ({"preset": "photo", "shift": 4}, "has `shift` 4 beside a crop"),
        ({"crop": 0.5, "shift": 1}, "has `shift` 1 beside a crop"),
    ],
    ids=str,
)
def test_what_can_not_be_is_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        augmentation(**changes)


def test_none_shows_the_clean_images():
    images = toys.images(20)
    assert np.array_equal(toys.rendered(images, np.arange(20), 3, views("none")), images)


# a pure function


some_views = st.builds(
    views,
    preset=st.sampled_from(["none", "small", "photo"]),
    crop=st.sampled_from([None, 0.1, 1.0]),
    jitter=st.sampled_from([None, 0.8]),
    trivial=st.booleans(),
    erase=st.sampled_from([None, 1.0]),
)


@settings(max_examples=25, deadline=None)
@given(some_views, st.permutations(range(12)), st.integers(1, 12), st.sampled_from([1, 3]), st.booleans())
def test_a_view_does_not_depend_on_the_batch_that_it_is_in(seen, order, size, channels, mixes):
    split, seen = photos(channels=channels), replace(seen, mixup=0.4 * mixes, cutmix=1.0 * mixes)
    ids = np.array(order[:size])
    whole = render(split, ALL, 1, seen, 16)
    assert whole.dtype == torch.uint8 and whole.shape == (12, 16, 16, channels)
    assert torch.equal(render(split, ids, 1, seen, 16), whole[ids])


def test_views_of_several_chunks_are_those_of_one(monkeypatch):
    seen = replace(views(), mixup=0.4)
    whole = render(PHOTOS, ALL, 1, seen, 16)
    monkeypatch.setattr("pipeline.training.views.CHUNK", 5 * 16 * 16 * 3)
    assert torch.equal(render(PHOTOS, ALL, 1, seen, 16), whole)


def test_each_view_is_another_one():
    shown = {render(PHOTOS, ALL[:1], view, views(), 24).numpy().tobytes() for view in range(20)}
    assert len(shown) == 20


def test_no_view_depends_on_torchs_own_randomness():
    seen = views(trivial=True)
    torch.manual_seed(0)
    first = render(PHOTOS, ALL, 0, seen, 24)
    torch.manual_seed(1)
    assert torch.equal(render(PHOTOS, ALL, 0, seen, 24), first)


# boxes


def test_the_middle_square_of_an_original_is_known_by_its_aspect():
    boxes = crops.middle(np.array([1, 2, 0.5]), 100)
    assert boxes.tolist() == [[0, 0, 100, 100], [0, 25, 100, 50], [25, 0, 50, 100]]


def draws(count, seed=0):
    random = np.random.default_rng(seed)
    return lambda name, attempt: random.random(count)


@pytest.mark.parametrize("aspect", [1.0, 2.0, 0.6])
def test_boxes_have_area_and_ratio_of_the_originals_geometry(aspect):
    top, left, height, width = crops.drawn(np.full(3000, aspect), 1000, 0.2, draws(3000)).T
    assert min(top.min(), left.min()) == 0 and max((top + height).max(), (left + width).max()) == 1000
    share, ratio = height * width / 1e6, aspect * width / height
    assert 0.195 < share.min() < 0.25 and 0.749 < ratio.min() < 0.77 and 1.31 < ratio.max() < 1.335
    torch.manual_seed(0)
    theirs, original = RandomResizedCrop(1, scale=(0.2, 1.0)), torch.empty(1, 1000, round(1000 * aspect))
    drawn = [theirs.make_params([original]) for _ in range(1000)]
    tall, wide = (np.array([each[name] for each in drawn]) for name in ("height", "width"))
    assert stats.ks_2samp(share, tall * wide / original.numel()).statistic < 0.06
    assert stats.ks_2samp(ratio, wide / tall).statistic < 0.06


def test_where_no_box_fits_it_is_the_largest_one_in_the_middle():
    boxes = crops.drawn(np.array([4.0, 0.25]), 120, 1.0, draws(2))  # whole images of 4:1, and yet none beyond 4:3
    assert boxes.tolist() == [[0, 40, 120, 40], [40, 0, 40, 120]]


@pytest.mark.parametrize("size", [12, 40, 56])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_a_box_are_those_of_torchvision_and_pillow(size, channels):
    split = photos(channels=channels)
    boxes = crops.drawn(split.aspects.astype(float), 40, 0.1, draws(12))
    mirrored = ALL % 2 == 0
    shown = crops.by_kernel(split.images, ALL, boxes, mirrored, size).numpy().astype(int)
    for sample, (top, left, height, width) in enumerate(boxes.tolist()):
        image = split.images[sample]
        pixels = torchvision.resized_crop(
            torch.from_numpy(image).permute(2, 0, 1), top, left, height, width, [size, size], antialias=True
        )
        cut = Image.fromarray(image[top : top + height, left : left + width].squeeze())
        for expected in (pixels.permute(1, 2, 0).numpy(), np.asarray(cut.resize((size, size), Image.BILINEAR))):
            expected = expected.reshape(size, size, channels)
            seen = shown[sample, :, ::-1] if mirrored[sample] else shown[sample]
            assert np.abs(seen - expected).max() <= 1


@pytest.mark.parametrize("size", [7, 16, 40, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_products_on_a_device_give_the_pixels_of_the_kernel(size, channels):
    split = photos(channels=channels)
    boxes, mirrored = crops.drawn(split.aspects.astype(float), 40, 0.05, draws(12)), ALL % 3 == 0
    kernel = crops.by_kernel(split.images, ALL, boxes, mirrored, size).int()
    products = crops.by_products(torch.from_numpy(split.images), boxes, mirrored, size)
    assert products.dtype == torch.uint8 and products.is_contiguous()
    assert (products.int() - kernel).abs().max() <= 1
    assert (products.int() != kernel).float().mean() < 0.01


def test_products_do_not_depend_on_the_batch():
    boxes, mirrored = crops.drawn(PHOTOS.aspects.astype(float), 40, 0.05, draws(12)), ALL % 2 == 0
    images = torch.from_numpy(PHOTOS.images)
    whole = crops.by_products(images, boxes, mirrored, 16)
    for row in ALL:
        one = slice(row, row + 1)
        assert torch.equal(crops.by_products(images[one], boxes[one], mirrored[one], 16), whole[one])


def test_weights_are_whole_steps_that_float32_adds_up_exactly():
    starts, lengths = torch.tensor([3, 0, 10]), torch.tensor([37, 256, 200])
    found = crops.weights(starts, lengths, torch.zeros(3, dtype=torch.bool), 256, 24)
    assert torch.equal(found * 2**crops.FINEST, (found * 2**crops.FINEST).round())
    torch.testing.assert_close(found.sum(dim=2), torch.ones(3, 24), rtol=0, atol=1e-3)
    assert not found[0, :, :3].any() and not found[0, :, 40:].any()


def test_a_crop_shows_an_original_in_its_own_proportions():
    """Stripes of an original of 2:1, 20 stored pixels wide and 40 in the original, become as wide as they were."""
    stored = np.zeros((1, 120, 120, 1), np.uint8)
    stored[:, :, (np.arange(120) // 20) % 2 == 1] = 255
    split = Split(stored, np.zeros(1, np.int64), np.array([2.0], np.float32))
    shown = render(split, np.array([0]), 0, views("none"), 120).numpy()[0, 60, :, 0]
    edges = np.flatnonzero(np.diff((shown > 127).astype(int)))
    assert np.diff(edges).tolist() == [40, 40]


# what is stored larger


def test_without_a_crop_the_middle_square_is_seen_and_shifted():
    split = photos(side=48)
    still = render(split, ALL, 0, views("none"), 24)
    moved = render(split, ALL, 0, views("none", shift=2), 24).numpy()
    boxes = crops.middle(split.aspects.astype(float), 48)
    assert torch.equal(still, crops.by_kernel(split.images, ALL, boxes, np.zeros(12, bool), 24))
    assert np.array_equal(still, clean(split, ALL, 24))
    padded = np.pad(still.numpy(), ((0, 0), (2, 2), (2, 2), (0, 0)))
    for sample in ALL:
        windows = [padded[sample, top : top + 24, left : left + 24] for top in range(5) for left in range(5)]
        assert any(np.array_equal(moved[sample], window) for window in windows)


def test_batches_have_the_size_that_the_model_is_made_for():
    split, info = photos(side=40), replace(toys.INFO, image_size=24)
    lesson = Lesson(split, ALL, replace(views(), cutmix=1.0), label_loss_alone(0.0, None))
    pixels, labels, _ = lesson.batch(ALL, 0, info)
    assert pixels.shape == (12, 24, 24, 3) and torch.equal(pixels, render(split, ALL, 0, lesson.views, 24))
    assert np.array_equal(labels.numpy(), mixed_labels(split.labels, ALL, 0, lesson.views, 24, 2))


def test_cached_answers_are_to_the_views_that_training_sees(tmp_path):
    split, info = photos(side=24, channels=1), replace(toys.INFO, image_size=16)
    seen = Views.replayed(augmentation(preset="photo", trivial=True), replace_count(3), 0)
    model = toys.classifier(info=info)
    caching.cache(tmp_path / "train.npy", Labeller([model], toys.CPU, 0), split, seen, top_k=None, name="teacher")
    rows = np.load(tmp_path / "train.npy")
    lesson = Lesson(split, ALL, seen, label_loss_alone(0.0, None))
    for epoch in range(4):
        pixels, _, _ = lesson.batch(ALL, epoch, info)
        expected = predict(model, pixels, toys.CPU, exact=False).astype(np.float16)
        np.testing.assert_array_equal(rows[epoch % 3], expected)


def replace_count(count):
    return NO_STUDENT_VIEWS.model_copy(update={"count": count})


# colours


def mapped(image, brightness=1.0, contrast=1.0, saturation=1.0, turn=0.0, gray=False):
    """One image or pixel after its map, by the arithmetic of `recolour`."""
    image = np.array(image, np.uint8)
    pixels = torch.from_numpy(np.broadcast_to(image, (1, 4, 4, len(image))).copy() if image.ndim == 1 else image[None])
    values = (np.array([value]) for value in (brightness, contrast, saturation, turn))
    colours.recolour(pixels, colours.maps(*values, np.array([gray]), pixels.shape[3]))
    return pixels[0, 0, 0].tolist() if image.ndim == 1 else pixels[0].numpy()


def test_colours_have_the_values_that_a_hand_computes():
    assert mapped([100, 60, 200]) == [100, 60, 200]
    assert mapped([100, 60, 200], brightness=1.5) == [150, 90, 255]
    assert mapped([100, 60, 200], contrast=0.5) == [114, 94, 164]  # 127.5 + (value - 127.5) / 2
    assert mapped([100, 60, 200], contrast=2) == [73, 0, 255]  # 72.5
    luma = round(0.299 * 100 + 0.587 * 60 + 0.114 * 200)
    assert mapped([100, 60, 200], saturation=0) == mapped([100, 60, 200], gray=True) == [luma] * 3 == [88] * 3
    assert mapped([100, 60, 200], turn=0.5) == [76, 116, 0]  # twice the luma, 175.8, less the value
    assert mapped([100, 60, 200], turn=1.0) == [100, 60, 200]
    assert mapped([90, 90, 90], saturation=2, turn=0.3) == [90, 90, 90]
    assert mapped([200], brightness=0.5, contrast=2) == [73]  # 127.5 + 2 * (100 - 127.5)
    assert mapped([200], saturation=0, turn=0.5, gray=True) == [200]


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.4])
def test_brightness_and_saturation_are_those_of_torchvision(factor):
    image = PHOTOS.images[0]
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    for key, function in (("brightness", "adjust_brightness"), ("saturation", "adjust_saturation")):
        expected = getattr(torchvision, function)(pixels, factor).permute(1, 2, 0).numpy().astype(int)
        assert np.abs(mapped(image, **{key: factor}) - expected).max() <= 1


def test_a_turn_of_the_hue_is_a_rotation_that_leaves_brightness():
    turned = np.array(mapped([120, 100, 140], turn=0.25), float)
    assert colours.LUMA @ turned == pytest.approx(colours.LUMA @ [120, 100, 140], abs=0.6)
    before, after = (colours.YIQ[1:] @ each for each in ([120, 100, 140], turned))
    assert after == pytest.approx([-before[1], before[0]], abs=1)


@pytest.mark.parametrize("side", [8, 15])
def test_every_image_of_a_batch_has_its_own_map(side):
    random, images = np.random.default_rng(0), toys.images(6, side, 3)
    values = random.uniform(0.5, 1.5, (3, 6)), random.uniform(-0.5, 0.5, 6), random.random(6) < 0.3
    found = colours.maps(*values[0], *values[1:], 3)
    pixels = torch.from_numpy(images.copy())
    colours.recolour(pixels, found)
    exact = np.einsum("nab,nhwb->nhwa", found[:, :, :3].astype(float), images) + found[:, None, None, :, 3]
    assert np.array_equal(pixels.numpy(), np.clip(np.floor(exact + 0.5), 0, 255))


def test_factors_are_within_the_jitter_and_gray_is_as_frequent_as_its_probability():
    constant = Split(np.full((2000, 8, 8, 1), 100, np.uint8), np.zeros(2000, np.int64))
    shown = render(constant, np.arange(2000), 0, views("none", jitter=0.2), 8).numpy()[:, 0, 0, 0].astype(float)
    low, high = 127.5 + 1.2 * (80 - 127.5), 127.5 + 0.8 * (120 - 127.5)
    assert low - 1 <= shown.min() < 78 and 117 < shown.max() <= high + 1
    coloured = Split(np.tile(np.array([200, 50, 100], np.uint8), (2000, 4, 4, 1)), np.zeros(2000, np.int64))
    shown = render(coloured, np.arange(2000), 0, views("none", gray=0.3), 4).numpy()
    assert (shown == shown[..., :1]).all(axis=(1, 2, 3)).mean() == pytest.approx(0.3, abs=0.04)


# erasing


def test_crops_lose_one_box_of_a_share_of_their_area():
    white = Split(np.full((400, 40, 40, 1), 255, np.uint8), np.zeros(400, np.int64))
    shown = render(white, np.arange(400), 0, views("none", crop=0.5, erase=1.0), 40).numpy()[..., 0] == 0
    shares = shown.mean(axis=(1, 2))
    for blank in shown:
        rows, columns = np.flatnonzero(blank.any(axis=1)), np.flatnonzero(blank.any(axis=0))
        assert blank.sum() == len(rows) * len(columns) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert 0.012 < shares.min() < 0.05 and 0.28 < shares.max() < 0.35


# TrivialAugment


TORCHVISIONS = {
    "identity": "Identity", "shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX",
    "translate_y": "TranslateY", "rotate": "Rotate", "brightness": "Brightness", "colour": "Color",
    "contrast": "Contrast", "sharpness": "Sharpness", "posterise": "Posterize", "solarise": "Solarize",
    "autocontrast": "AutoContrast", "equalise": "Equalize",
}  # fmt: skip


@pytest.mark.parametrize("name", trivial.OPERATIONS)
@pytest.mark.parametrize("bin_", [0, 7, 30])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_operation_is_torchvisions(name, bin_, channels):
    """Against its class, whose space of strengths and operations is its own."""
    image = torch.from_numpy(photos(1, 48, channels).images[0]).permute(2, 0, 1)
    theirs = TrivialAugmentWide()
    strengths, signed = theirs._AUGMENTATION_SPACE[TORCHVISIONS[name]]
    strengths = strengths(trivial.BINS, 48, 48)
    assert signed == (name in trivial.SIGNED)
    for sign in (1, -1) if signed else (1,):
        strength = 0.0 if strengths is None else sign * float(strengths[bin_])
        expected = theirs._apply_image_or_video_transform(
            image, TORCHVISIONS[name], strength, interpolation=theirs.interpolation, fill={torch.Tensor: None}
        )
        found = trivial.applied(image, name, sign * bin_ / (trivial.BINS - 1))
        assert (found.int() - expected.int()).abs().max() <= 1


def test_every_operation_is_as_likely_and_changes_its_image_alone():
    operation = (np.arange(len(trivial.OPERATIONS)) + 0.5) / len(trivial.OPERATIONS)
    images = torch.from_numpy(photos(14, 32).images)
    for strength in (0.0, 0.99):
        changed = images.clone()
        trivial.augment(changed, operation, np.full(14, strength), np.zeros(14))
        for row, name in enumerate(trivial.OPERATIONS):
            level = (strength > 0) * (-1.0 if name in trivial.SIGNED else 1.0)
            expected = trivial.applied(images[row].permute(2, 0, 1), name, level).permute(1, 2, 0)
            assert torch.equal(changed[row], expected)


# mixing


def test_mixed_photographs_are_the_two_views_by_their_shares():
    seen = replace(views(), mixup=1.0)
    alone, both = render(PHOTOS, ALL, 1, views(), 16).int(), render(PHOTOS, ALL, 1, seen, 16).int()
    for sample in ALL:
        explained = [
            (alone[sample] * weight + alone[partner] * (256 - weight) + 128 - 256 * both[sample]).abs().max() <= 256
            for partner in ALL
            for weight in range(257)
        ]
        assert any(explained)
