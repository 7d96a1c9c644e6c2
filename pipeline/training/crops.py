"""Boxes of stored images, and their pixels resized to what is seen: by a kernel on a processor, by products elsewhere.

A stored image is a square into which the whole original was squeezed. Boxes are drawn in the original's geometry and
lie in the stored pixels.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

ATTEMPTS = 10  # at a box that fits into the image, as torchvision's
RATIOS = (3 / 4, 4 / 3)  # width by height
FINEST = 16  # bits of a weight, with 8 of a pixel what float32 adds up without rounding


def middle(aspects: np.ndarray, side: int) -> np.ndarray:
    """(samples, 4) int64 top, left, height and width of each original's middle square, in stored pixels.

    Args:
        aspects: (samples,) width by height of the originals. side: of the stored square, in pixels.
    """
    return _centred(np.minimum(aspects, 1), np.minimum(1 / aspects, 1), side)


def drawn(aspects: np.ndarray, side: int, least: float, draw: Callable[[str, int], np.ndarray]) -> np.ndarray:
    """(samples, 4) int64: boxes of random area and ratio at random places (Szegedy et al. 2015, as in torchvision).

    Of ATTEMPTS, the first that fits is taken; if none does, the largest box in the middle of a ratio within RATIOS.

    Args:
        aspects, side: as of `middle`. least: the smallest area, as a share of the image's.
        draw: "area", "ratio", "top" or "left" and the attempt to (samples,) uniform numbers.
    """
    height, width = fallback(aspects)
    boxes = _centred(height, width, side)
    open_ = np.ones(len(aspects), bool)
    low, high = np.log(RATIOS)
    for attempt in range(ATTEMPTS):
        share = least + (1 - least) * draw("area", attempt)
        ratio = np.exp(low + (high - low) * draw("ratio", attempt)) / aspects  # width by height, in the stored square
        height, width = np.sqrt(share / ratio), np.sqrt(share * ratio)
        fits = open_ & (height <= 1) & (width <= 1)
        boxes[fits, 2:] = _pixels(height[fits], width[fits], side)
        open_ &= ~fits
        if not open_.any():
            break
    placed = ~open_
    for axis, name in enumerate(("top", "left")):
        room = side - boxes[:, 2 + axis] + 1
        boxes[placed, axis] = (draw(name, 0) * room).astype(np.int64)[placed]
    return boxes


def fallback(aspects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(samples,) height and width, as shares of the image's, of the largest box whose ratio is within RATIOS."""
    low, high = RATIOS
    return np.minimum(aspects / low, 1), np.minimum(high / aspects, 1)


def _centred(height: np.ndarray, width: np.ndarray, side: int) -> np.ndarray:
    sizes = _pixels(height, width, side)
    return np.concatenate([(side - sizes) // 2, sizes], axis=1)


def _pixels(height: np.ndarray, width: np.ndarray, side: int) -> np.ndarray:
    """Shares of a side to (samples, 2) whole pixels, at least one."""
    return np.maximum(1, np.rint(side * np.stack([height, width], axis=1))).astype(np.int64)


def by_kernel(images: np.ndarray, ids: np.ndarray, boxes: np.ndarray, mirrored: np.ndarray, size: int) -> Tensor:
    """(samples, size, size, channels) uint8 on the CPU: the boxes, resized with antialiasing by torch's kernel.

    Args:
        images: (split's samples, side, side, channels) uint8. ids: (samples,) whose. boxes: (samples, 4) of `drawn`.
        mirrored: (samples,) bool, whether left and right change places.
    """
    shown = torch.empty(len(ids), size, size, images.shape[3], dtype=torch.uint8)
    for row, (sample, (top, left, height, width)) in enumerate(zip(ids, boxes, strict=True)):
        box = np.array(images[sample : sample + 1, top : top + height, left : left + width])
        pixels = torch.from_numpy(box).permute(0, 3, 1, 2)  # channels last in memory, which is four times faster
        seen = interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        shown[row] = (seen.flip(3) if mirrored[row] else seen)[0].permute(1, 2, 0)
    return shown


def by_products(images: Tensor, boxes: np.ndarray, mirrored: np.ndarray, size: int) -> Tensor:
    """The same on the images' device, by two batched products with the weights of the kernel.

    Weights are whole multiples of a power of two, as the kernel has them, so that float32 adds up without rounding: the
    bytes are the same in any order and any batch, and those of the kernel.

    Args:
        images: (samples, side, side, channels) uint8, those of `boxes`.
    """
    count, side, _, channels = images.shape
    place = torch.from_numpy(boxes).to(images.device)
    back = torch.from_numpy(mirrored).to(images.device)
    columns = weights(place[:, 1], place[:, 3], back, side, size)
    rows = weights(place[:, 0], place[:, 2], torch.zeros_like(back), side, size)
    pixels = images.permute(0, 1, 3, 2).contiguous().float().view(count, side * channels, side)
    pixels = pixels.bmm(columns.transpose(1, 2)).add_(0.5).floor_().view(count, side, channels * size)
    pixels = rows.bmm(pixels).add_(0.5).to(torch.uint8)  # which cuts off what is behind the point
    return pixels.view(count, size, channels, size).permute(0, 1, 3, 2).contiguous()


def weights(starts: Tensor, lengths: Tensor, mirrored: Tensor, side: int, size: int) -> Tensor:
    """(samples, size, side) float32: what each stored pixel of an axis weighs in each pixel that is seen.

    The triangle of bilinear interpolation, as wide as a pixel that is seen where the box shrinks. Rounded as torch's
    kernel for uint8 does: to 15 bits of the largest one.

    Args:
        starts, lengths: (samples,) int64, of the boxes on this axis. mirrored: (samples,) bool.
    """
    exact = torch.float32 if starts.device.type == "mps" else torch.float64  # which Apple's has not
    starts, lengths = starts[:, None, None], lengths[:, None, None].to(exact)
    seen = torch.arange(size, device=starts.device)[None, :, None]
    seen = torch.where(mirrored[:, None, None], size - 1 - seen, seen)
    stored = torch.arange(side, device=starts.device)[None, None, :] - starts
    scale = lengths / size
    reach, centre = scale.clamp(min=1), scale * (seen + 0.5)
    first = (centre - reach + 0.5).clamp(min=0).floor()
    end = torch.minimum((centre + reach + 0.5).floor(), lengths)
    triangle = (1 - ((stored - centre + 0.5) / reach).abs()).clamp(min=0)
    triangle = torch.where((stored >= first) & (stored < end), triangle, 0)
    triangle = triangle / triangle.sum(dim=2, keepdim=True)
    bits = ((2.0**15 - 0.5) / triangle.amax(dim=(1, 2), keepdim=True)).log2().ceil() - 1
    steps = torch.exp2(bits.clamp(max=FINEST))
    return ((triangle * steps + 0.5).floor() / steps).float()
