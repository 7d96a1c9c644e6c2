"""Augmentation as a pure function: any process can replay the look that any other process saw."""

import numpy as np

from pipeline.params import Augmentation
from pipeline.randomness import uniform


def render(images: np.ndarray, ids: np.ndarray, view: int, seed: int, spec: Augmentation) -> np.ndarray:
    """One augmented look at each sample: shift with zero padding, horizontal flip, random erasing.

    Args:
        images: (samples, height, width, channels) uint8, the clean images of `ids`.
        ids: (samples,) the samples' positions in their split.
        view: which look; the same (seed, id, view) always gives the same pixels.
    Returns:
        (samples, height, width, channels) uint8.

    Erasing follows Zhong et al. 2020, "Random erasing data augmentation", with a square of zeros whose side is a
    quarter of the image's.
    """
    count, height, width, _ = images.shape
    pad = spec.shift
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top = (uniform(seed, ids, view, 0) * (2 * pad + 1)).astype(np.int64)
    left = (uniform(seed, ids, view, 1) * (2 * pad + 1)).astype(np.int64)
    looks = windows[np.arange(count), top, left]  # (samples, channels, height, width)
    if spec.flip:
        flipped = uniform(seed, ids, view, 2) < 0.5
        looks[flipped] = looks[flipped, :, :, ::-1]
    if spec.erase:
        _erase(looks, ids, view, seed, spec.erase)
    return np.ascontiguousarray(looks.transpose(0, 2, 3, 1))


def _erase(looks: np.ndarray, ids: np.ndarray, view: int, seed: int, probability: float) -> None:
    height, width = looks.shape[2:]
    tall, wide = max(1, height // 4), max(1, width // 4)
    top = (uniform(seed, ids, view, 3) * (height - tall + 1)).astype(np.int64)[:, None]
    left = (uniform(seed, ids, view, 4) * (width - wide + 1)).astype(np.int64)[:, None]
    chosen = (uniform(seed, ids, view, 5) < probability)[:, None]
    rows, columns = np.arange(height), np.arange(width)
    in_rows = chosen & (rows >= top) & (rows < top + tall)  # (samples, height)
    in_columns = (columns >= left) & (columns < left + wide)
    looks *= ~(in_rows[:, None, :, None] & in_columns[:, None, None, :])
