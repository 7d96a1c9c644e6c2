"""Augmentation as a pure function: any process can replay the look that any other process saw."""

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from pipeline.params import Augmentation, Views
from pipeline.project.data import UNLABELLED
from pipeline.project.randomness import derive, uniform

# Which draw of `uniform` decides what; a number once used keeps its meaning, or every look would change.
TOP, LEFT, FLIP, ERASE_TOP, ERASE_LEFT, ERASE, PARTNER, SHARE, BOX_TOP, BOX_LEFT, CUTMIX = range(11)


@dataclass(frozen=True)
class Looks:
    """Which augmented looks training sees: epoch e sees look e modulo `count`, or a fresh one where that is None."""

    spec: Augmentation
    seed: int
    count: int | None

    @classmethod
    def cached(cls, views: Views, seed: int) -> "Looks":
        """Those that students see and that teachers' logits are cached for. seed: `seed` of params.yaml."""
        return cls(views, derive(seed, "views"), views.count)

    def view(self, epoch: int) -> int:
        return epoch if self.count is None else epoch % self.count


def render(images: np.ndarray, ids: np.ndarray, view: int, seed: int, spec: Augmentation) -> np.ndarray:
    """One augmented look at each sample: shift with zero padding, horizontal flip, random erasing, mixing.

    Args:
        images: (split's samples, height, width, channels) uint8, the clean images of the whole split.
        ids: (samples,) the positions in the split of those to look at.
        view: which look; the same (seed, id, view) always gives the same pixels.
    Returns:
        (samples, height, width, channels) uint8.
    """
    looks = _look(images, ids, view, seed, spec)
    if not spec.mixes:
        return looks
    partners, weights = _mixing(len(images), ids, view, seed, spec, *images.shape[1:3])
    others = _look(images, partners, view, seed, spec)
    weights = weights[..., None]  # of 256ths, so that blending is exact integer arithmetic
    return ((weights * looks + (256 - weights) * others + 128) >> 8).astype(np.uint8)


def labels_of(
    labels: np.ndarray, ids: np.ndarray, view: int, seed: int, spec: Augmentation, side: int, classes: int
) -> np.ndarray:
    """What `render` shows of each label: (samples,) int64, or (samples, classes) float32 shares where looks are mixed.

    Args:
        labels: (split's samples,) int64, of the whole split; no share is UNLABELLED's. side: of the images, in pixels.
    """
    if not spec.mixes:
        return labels[ids]
    partners, weights = _mixing(len(labels), ids, view, seed, spec, side, side)
    own = weights.mean(axis=(1, 2), dtype=np.float64) / 256 * np.ones(len(ids))
    shares = np.zeros((len(ids), classes), np.float32)
    rows = np.arange(len(ids))
    for shown, share in ((labels[ids], own), (labels[partners], 1 - own)):
        known = shown != UNLABELLED
        shares[rows[known], shown[known]] += share[known]
    return shares


def _look(images: np.ndarray, ids: np.ndarray, view: int, seed: int, spec: Augmentation) -> np.ndarray:
    """Shift, flip, and erase as in Zhong et al. 2020: a square of zeros whose side is a quarter of the image's."""
    count, (height, width, channels), pad = len(ids), images.shape[1:], spec.shift
    padded = np.zeros((count, height + 2 * pad, width + 2 * pad, channels), np.uint8)
    padded[:, pad : pad + height, pad : pad + width] = images[ids]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top = _below(2 * pad + 1, seed, ids, view, TOP)
    left = _below(2 * pad + 1, seed, ids, view, LEFT)
    looks = windows[np.arange(count), top, left]  # (samples, channels, height, width)
    if spec.flip:
        flipped = uniform(seed, ids, view, FLIP) < 0.5
        looks[flipped] = looks[flipped, :, :, ::-1]
    if spec.erase:
        tall, wide = max(1, height // 4), max(1, width // 4)
        top = _below(height - tall + 1, seed, ids, view, ERASE_TOP)
        left = _below(width - wide + 1, seed, ids, view, ERASE_LEFT)
        erased = _box(top, left, tall, wide, height, width)
        erased &= (uniform(seed, ids, view, ERASE) < spec.erase)[:, None, None]
        looks *= ~erased[:, None]
    return np.ascontiguousarray(looks.transpose(0, 2, 3, 1))


def _mixing(
    samples: int, ids: np.ndarray, view: int, seed: int, spec: Augmentation, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each look's partner, and how much of each pixel stays its own, in 256ths.

    Mixup (Zhang et al. 2018) blends all pixels alike; cutmix (Yun et al. 2019) pastes a box of the partner's. Shares
    are drawn from Beta(a, a), by its inverse distribution function.

    Returns:
        (samples,) int64, and (samples, height or 1, width or 1) int32.
    """
    partners = _below(samples, seed, ids, view, PARTNER)
    drawn = uniform(seed, ids, view, SHARE)
    if spec.mixup:
        blended = np.rint(256 * betaincinv(spec.mixup, spec.mixup, drawn)).astype(np.int32)[:, None, None]
        if not spec.cutmix:
            return partners, blended
    side = np.sqrt(1 - betaincinv(spec.cutmix, spec.cutmix, drawn))  # of the box, as a part of the image's
    tall, wide = np.rint(side * height).astype(np.int64), np.rint(side * width).astype(np.int64)
    top = _below(height - tall + 1, seed, ids, view, BOX_TOP)
    left = _below(width - wide + 1, seed, ids, view, BOX_LEFT)
    pasted = np.where(_box(top, left, tall, wide, height, width), np.int32(0), np.int32(256))
    if not spec.mixup:
        return partners, pasted
    cut = (uniform(seed, ids, view, CUTMIX) < 0.5)[:, None, None]
    return partners, np.where(cut, pasted, blended)


def _box(
    top: np.ndarray, left: np.ndarray, tall: np.ndarray | int, wide: np.ndarray | int, height: int, width: int
) -> np.ndarray:
    """(samples, height, width) bool, true inside each sample's box."""
    rows, columns = np.arange(height)[None], np.arange(width)[None]
    top, left = top[:, None], left[:, None]
    tall, wide = np.reshape(tall, (-1, 1)), np.reshape(wide, (-1, 1))
    in_rows = (rows >= top) & (rows < top + tall)
    in_columns = (columns >= left) & (columns < left + wide)
    return in_rows[:, :, None] & in_columns[:, None, :]


def _below(bound: int | np.ndarray, seed: int, ids: np.ndarray, view: int, draw: int) -> np.ndarray:
    """Whole numbers from 0 to bound - 1, one an id."""
    return (uniform(seed, ids, view, draw) * bound).astype(np.int64)
