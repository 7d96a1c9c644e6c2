"""Augmentation as a pure function: any process can replay the view that any other process saw."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from pipeline.params import Augmentation, StudentViews
from pipeline.project.data import UNLABELLED, Split
from pipeline.project.randomness import derive, uniform
from pipeline.training import colours, crops, trivial

# Which draw of `uniform` decides what; a number once used keeps its meaning, or every view would change.
TOP, LEFT, FLIP, ERASE_TOP, ERASE_LEFT, ERASE, PARTNER, SHARE, BOX_TOP, BOX_LEFT, CUTMIX = range(11)
BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAY, OPERATION, STRENGTH, SIGN, ERASE_AREA, ERASE_RATIO = range(11, 21)
CROP = {"top": 21, "left": 22, "area": 32, "ratio": 48}  # of area and ratio the first attempt's, the others' follow

NOTHING = {"shift": 0, "flip": False, "crop": 1.0, "jitter": 0.0, "hue": 0.0, "gray": 0.0, "trivial": False,
           "erase": 0.0}  # fmt: skip
# Of `photo`, crops keep a third of the image, as fine-tuning is brief and a smaller part may not show what the label
# says; jitter and erasing are timm's defaults; colour is rarely lost and hardly turned, as it often is what tells.
PRESETS = {
    "none": NOTHING,
    "small": NOTHING | {"shift": 2, "flip": True},
    "photo": NOTHING | {"flip": True, "crop": 0.35, "jitter": 0.4, "hue": 0.03, "gray": 0.05, "erase": 0.25},
}
ERASED, STRETCHED = (0.02, 0.33), (0.3, 3.3)  # of a box: shares of the area, heights by widths (Zhong et al. 2020)
CHUNK = 2**23  # bytes of views that are made at once
CPU = torch.device("cpu")

Draw = Callable[[int], np.ndarray]
"""The number of a draw to (samples,) float64 in [0, 1)."""


@dataclass(frozen=True)
class Views:
    """The augmented views that training sees: epoch e sees view e modulo `count`, or a fresh one where that is None.

    The other values are those of `views`, its preset resolved, and `student_views` in pipeline/defaults.yaml.
    """

    seed: int
    count: int | None
    shift: int
    flip: bool
    erase: float
    mixup: float = 0.0
    cutmix: float = 0.0
    crop: float = 1.0
    jitter: float = 0.0
    hue: float = 0.0
    gray: float = 0.0
    trivial: bool = False

    @classmethod
    def fresh(cls, augmentation: Augmentation, seed: int) -> "Views":
        """A new view each epoch, none mixed, as whoever learns from soft labels teaches worse: what teachers see."""
        return cls(seed, None, **resolved(augmentation))

    @classmethod
    def replayed(cls, augmentation: Augmentation, student_views: StudentViews, seed: int) -> "Views":
        """Those that students see and whose logits are cached. seed: `seed` of params.yaml."""
        return cls(derive(seed, "views"), **student_views.model_dump(), **resolved(augmentation))

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

    @property
    def recolours(self) -> bool:
        return self.jitter > 0 or self.hue > 0 or self.gray > 0

    def number(self, epoch: int) -> int:
        """The view that an epoch sees."""
        return epoch if self.count is None else epoch % self.count


def resolved(augmentation: Augmentation) -> dict[str, Any]:
    """The preset's values with those of params laid over them; where there is a crop, nothing is shifted."""
    values = PRESETS[augmentation.preset] | augmentation.model_dump(exclude={"preset"}, exclude_none=True)
    return values | {"shift": 0} if values["crop"] < 1 else values


def render(split: Split, ids: np.ndarray, view: int, views: Views, size: int, device: torch.device = CPU) -> Tensor:
    """One augmented view of each sample, the same whatever others are asked for with it.

    In this order: a shift with zero padding or a crop, a flip, TrivialAugment, colours, erasing, mixing. Only crops,
    colours and mixing are computed on a device that is no CPU, and crops not before TrivialAugment.

    Args:
        split: the whole split. Its images may be stored larger than they are seen.
        ids: (samples,) the positions in the split of those to show.
        view: which view; the same (seed, id, view) always gives the same pixels.
        size: of the views, pixels a side.
    Returns:
        (samples, size, size, channels) uint8 on the device.
    """
    shown = torch.empty(len(ids), size, size, split.images.shape[3], dtype=torch.uint8, device=device)
    step = max(1, CHUNK // max(1, shown[:1].nbytes))
    for start in range(0, len(ids), step):
        some = ids[start : start + step]
        part = _augment(split, some, view, views, size, device)
        if views.mixes:
            partners, weights = _mixing(len(split), some, view, views, size)
            part = _blend(part, _augment(split, partners, view, views, size, device), weights)
        shown[start : start + step] = part
    return shown


def clean(split: Split, ids: np.ndarray, size: int) -> np.ndarray:
    """(samples, size, size, channels) uint8, the images without augmentation: the middle square of each original."""
    if split.aspects is None and split.images.shape[1] == size:
        return split.images[ids]
    boxes = crops.middle(_aspects(split, ids), split.images.shape[1])
    return crops.by_kernel(split.images, ids, boxes, np.zeros(len(ids), bool), size).numpy()


def mixed_labels(labels: np.ndarray, ids: np.ndarray, view: int, views: Views, side: int, classes: int) -> np.ndarray:
    """What `render` shows of each label: (samples,) int64, or (samples, classes) float32 shares where views are mixed.

    Args:
        labels: (split's samples,) int64, of the whole split; no share is UNLABELLED's. side: of the views, in pixels.
    """
    if not views.mixes:
        return labels[ids]
    partners, weights = _mixing(len(labels), ids, view, views, side)
    own = weights.mean(axis=(1, 2), dtype=np.float64) / 256 * np.ones(len(ids))
    shares = np.zeros((len(ids), classes), np.float32)
    rows = np.arange(len(ids))
    for shown, share in ((labels[ids], own), (labels[partners], 1 - own)):
        known = shown != UNLABELLED
        shares[rows[known], shown[known]] += share[known]
    return shares


def _augment(split: Split, ids: np.ndarray, view: int, views: Views, size: int, device: torch.device) -> Tensor:
    """Everything but mixing."""
    draw = partial(uniform, views.seed, ids, view)
    mirrored = draw(FLIP) < 0.5 if views.flip else np.zeros(len(ids), bool)
    if views.crop < 1:
        shown = _cropped(split, ids, views, size, CPU if views.trivial else device, mirrored, draw)
    else:
        top, left = (_below(2 * views.shift + 1, draw(number)) for number in (TOP, LEFT))
        shown = torch.from_numpy(_shifted(clean(split, ids, size), views.shift, top, left, mirrored))
    if views.trivial:
        trivial.augment(shown, draw(OPERATION), draw(STRENGTH), draw(SIGN))
    shown = shown.to(device)
    if views.recolours:
        colours.recolour(shown, _maps(views, draw, shown.shape[3]))
    if views.erase:
        _erase(shown, draw(ERASE) < views.erase, _erased(views, draw, size))
    return shown


def _cropped(
    split: Split, ids: np.ndarray, views: Views, size: int, device: torch.device, mirrored: np.ndarray, draw: Draw
) -> Tensor:
    side = split.images.shape[1]
    boxes = crops.drawn(_aspects(split, ids), side, views.crop, lambda name, attempt: draw(CROP[name] + attempt))
    if device.type == "cpu":
        return crops.by_kernel(split.images, ids, boxes, mirrored, size)
    return crops.by_products(torch.from_numpy(split.images[ids]).to(device), boxes, mirrored, size)


def _aspects(split: Split, ids: np.ndarray) -> np.ndarray:
    return np.ones(len(ids)) if split.aspects is None else split.aspects[ids].astype(np.float64)


def _shifted(images: np.ndarray, pad: int, top: np.ndarray, left: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Padded with zeros on each side; what is seen of that begins at `top` and `left`, and is mirrored or not."""
    count, height, width, channels = images.shape
    padded = np.zeros((count, height + 2 * pad, width + 2 * pad, channels), np.uint8)
    padded[:, pad : pad + height, pad : pad + width] = images
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    shown = windows[np.arange(count), top, left]  # (samples, channels, height, width)
    shown[mirrored] = shown[mirrored, :, :, ::-1]
    return np.ascontiguousarray(shown.transpose(0, 2, 3, 1))


def _maps(views: Views, draw: Draw, channels: int) -> np.ndarray:
    """As pipeline.training.colours has them."""
    factors = (1 + views.jitter * (2 * draw(number) - 1) for number in (BRIGHTNESS, CONTRAST, SATURATION))
    return colours.maps(*factors, views.hue * (2 * draw(HUE) - 1), draw(GRAY) < views.gray, channels)


def _erased(views: Views, draw: Draw, size: int) -> np.ndarray:
    """(samples, 4) top, left, height and width: a quarter of the side, or of crops a box as in Zhong et al. 2020."""
    tops, lefts = draw(ERASE_TOP), draw(ERASE_LEFT)
    if views.crop < 1:
        (least, most), (low, high) = ERASED, np.log(STRETCHED)
        side = size * np.sqrt(least + (most - least) * draw(ERASE_AREA))
        stretch = np.exp((low + (high - low) * draw(ERASE_RATIO)) / 2)
        tall, wide = (np.clip(np.rint(long), 1, size).astype(np.int64) for long in (side * stretch, side / stretch))
    else:
        tall = wide = np.full(len(tops), max(1, size // 4))
    return np.stack([_below(size - tall + 1, tops), _below(size - wide + 1, lefts), tall, wide], axis=1)


def _erase(shown: Tensor, chosen: np.ndarray, boxes: np.ndarray) -> None:
    """Blank the box of each chosen image, in place."""
    pixels = shown.numpy() if shown.device.type == "cpu" else shown
    for row in np.flatnonzero(chosen):
        top, left, tall, wide = boxes[row].tolist()
        pixels[row, top : top + tall, left : left + wide] = 0


def _blend(shown: Tensor, others: Tensor, weights: np.ndarray) -> Tensor:
    """weights: (samples, size or 1, size or 1) int32, in 256ths, so that this is exact integer arithmetic."""
    own = torch.from_numpy(weights)[..., None].to(shown.device)
    return ((own * shown + (256 - own) * others + 128) >> 8).to(torch.uint8)


def _mixing(samples: int, ids: np.ndarray, view: int, views: Views, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Each view's partner, and how much of each pixel stays its own, in 256ths.

    Mixup (Zhang et al. 2018) blends all pixels alike; cutmix (Yun et al. 2019) pastes a box of the partner's. Shares
    are drawn from Beta(a, a), by its inverse distribution function.

    Returns:
        (samples,) int64, and (samples, size or 1, size or 1) int32.
    """
    draw = partial(uniform, views.seed, ids, view)
    partners, drawn = _below(samples, draw(PARTNER)), draw(SHARE)
    if views.mixup:
        blended = np.rint(256 * betaincinv(views.mixup, views.mixup, drawn)).astype(np.int32)[:, None, None]
        if not views.cutmix:
            return partners, blended
    side = np.sqrt(1 - betaincinv(views.cutmix, views.cutmix, drawn))  # of the box, as a part of the image's
    long = np.rint(side * size).astype(np.int64)
    top, left = (_below(size - long + 1, draw(number)) for number in (BOX_TOP, BOX_LEFT))
    pasted = np.where(_box(top, left, long, size), np.int32(0), np.int32(256))
    if not views.mixup:
        return partners, pasted
    cut = (draw(CUTMIX) < 0.5)[:, None, None]
    return partners, np.where(cut, pasted, blended)


def _box(top: np.ndarray, left: np.ndarray, long: np.ndarray, size: int) -> np.ndarray:
    """(samples, size, size) bool, true inside each sample's square of that length."""
    at = np.arange(size)[None]
    in_rows, in_columns = ((at >= first[:, None]) & (at < (first + long)[:, None]) for first in (top, left))
    return in_rows[:, :, None] & in_columns[:, None, :]


def _below(bound: int | np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Uniform numbers to whole ones from 0 to bound - 1."""
    return (drawn * bound).astype(np.int64)
