"""Augmentation as a pure function: any process can replay the view that any other process saw."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import betaincinv

from pipeline.params import Augmentation, StudentViews
from pipeline.project.data import UNLABELLED
from pipeline.project.randomness import derive, uniform

# Which draw of `uniform` decides what; a number once used keeps its meaning, or every view would change.
TOP, LEFT, FLIP, ERASE_TOP, ERASE_LEFT, ERASE, PARTNER, SHARE, BOX_TOP, BOX_LEFT, CUTMIX = range(11)


@dataclass(frozen=True)
class Views:
    """The augmented views that training sees: epoch e sees view e modulo `count`, or a fresh one where that is None.

    The other values are those of `views` and `student_views` in pipeline/defaults.yaml.
    """

    seed: int
    count: int | None
    shift: int
    flip: bool
    erase: float
    mixup: float = 0.0
    cutmix: float = 0.0

    @classmethod
    def fresh(cls, augmentation: Augmentation, seed: int) -> "Views":
        """A new view each epoch, none mixed, as whoever learns from soft labels teaches worse: what teachers see."""
        return cls(seed, None, **augmentation.model_dump())

    @classmethod
    def replayed(cls, augmentation: Augmentation, student_views: StudentViews, seed: int) -> "Views":
        """Those that students see and whose logits are cached. seed: `seed` of params.yaml."""
        return cls(derive(seed, "views"), **student_views.model_dump(), **augmentation.model_dump())

    @classmethod
    def alone(cls, augmentation: Augmentation, student_views: StudentViews, kind: str, seed: int) -> "Views":
        """Those that the student alone sees. kind, `baseline.views`: "cached", the same; "new", and others after them,
        without end, as no cache binds it.
        """
        cached = cls.replayed(augmentation, student_views, seed)
        return replace(cached, count=None) if kind == "new" else cached

    @property
    def mixes(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def number(self, epoch: int) -> int:
        """The view that an epoch sees."""
        return epoch if self.count is None else epoch % self.count


def render(images: np.ndarray, ids: np.ndarray, view: int, views: Views) -> np.ndarray:
    """One augmented view of each sample: shift with zero padding, horizontal flip, random erasing, mixing.

    Args:
        images: (split's samples, height, width, channels) uint8, the clean images of the whole split.
        ids: (samples,) the positions in the split of those to show.
        view: which view; the same (seed, id, view) always gives the same pixels.
    Returns:
        (samples, height, width, channels) uint8.
    """
    shown = _augment(images, ids, view, views)
    if not views.mixes:
        return shown
    partners, weights = _mixing(len(images), ids, view, views, *images.shape[1:3])
    others = _augment(images, partners, view, views)
    weights = weights[..., None]  # of 256ths, so that blending is exact integer arithmetic
    return ((weights * shown + (256 - weights) * others + 128) >> 8).astype(np.uint8)


def mixed_labels(labels: np.ndarray, ids: np.ndarray, view: int, views: Views, side: int, classes: int) -> np.ndarray:
    """What `render` shows of each label: (samples,) int64, or (samples, classes) float32 shares where views are mixed.

    Args:
        labels: (split's samples,) int64, of the whole split; no share is UNLABELLED's. side: of the images, in pixels.
    """
    if not views.mixes:
        return labels[ids]
    partners, weights = _mixing(len(labels), ids, view, views, side, side)
    own = weights.mean(axis=(1, 2), dtype=np.float64) / 256 * np.ones(len(ids))
    shares = np.zeros((len(ids), classes), np.float32)
    rows = np.arange(len(ids))
    for shown, share in ((labels[ids], own), (labels[partners], 1 - own)):
        known = shown != UNLABELLED
        shares[rows[known], shown[known]] += share[known]
    return shares


def _augment(images: np.ndarray, ids: np.ndarray, view: int, views: Views) -> np.ndarray:
    """Shift, flip, and erase as in Zhong et al. 2020: a square of zeros whose side is a quarter of the image's."""
    count, (height, width, channels), pad = len(ids), images.shape[1:], views.shift
    padded = np.zeros((count, height + 2 * pad, width + 2 * pad, channels), np.uint8)
    padded[:, pad : pad + height, pad : pad + width] = images[ids]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top = _below(2 * pad + 1, views.seed, ids, view, TOP)
    left = _below(2 * pad + 1, views.seed, ids, view, LEFT)
    shown = windows[np.arange(count), top, left]  # (samples, channels, height, width)
    if views.flip:
        flipped = uniform(views.seed, ids, view, FLIP) < 0.5
        shown[flipped] = shown[flipped, :, :, ::-1]
    if views.erase:
        tall, wide = max(1, height // 4), max(1, width // 4)
        top = _below(height - tall + 1, views.seed, ids, view, ERASE_TOP)
        left = _below(width - wide + 1, views.seed, ids, view, ERASE_LEFT)
        erased = _box(top, left, tall, wide, height, width)
        erased &= (uniform(views.seed, ids, view, ERASE) < views.erase)[:, None, None]
        shown *= ~erased[:, None]
    return np.ascontiguousarray(shown.transpose(0, 2, 3, 1))


def _mixing(
    samples: int, ids: np.ndarray, view: int, views: Views, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each view's partner, and how much of each pixel stays its own, in 256ths.

    Mixup (Zhang et al. 2018) blends all pixels alike; cutmix (Yun et al. 2019) pastes a box of the partner's. Shares
    are drawn from Beta(a, a), by its inverse distribution function.

    Returns:
        (samples,) int64, and (samples, height or 1, width or 1) int32.
    """
    partners = _below(samples, views.seed, ids, view, PARTNER)
    drawn = uniform(views.seed, ids, view, SHARE)
    if views.mixup:
        blended = np.rint(256 * betaincinv(views.mixup, views.mixup, drawn)).astype(np.int32)[:, None, None]
        if not views.cutmix:
            return partners, blended
    side = np.sqrt(1 - betaincinv(views.cutmix, views.cutmix, drawn))  # of the box, as a part of the image's
    tall, wide = np.rint(side * height).astype(np.int64), np.rint(side * width).astype(np.int64)
    top = _below(height - tall + 1, views.seed, ids, view, BOX_TOP)
    left = _below(width - wide + 1, views.seed, ids, view, BOX_LEFT)
    pasted = np.where(_box(top, left, tall, wide, height, width), np.int32(0), np.int32(256))
    if not views.mixup:
        return partners, pasted
    cut = (uniform(views.seed, ids, view, CUTMIX) < 0.5)[:, None, None]
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
