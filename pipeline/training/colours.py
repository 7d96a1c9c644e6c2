"""Brightness, contrast, saturation, hue and loss of colour as one affine map of each image's pixels."""

import math

import numpy as np
import torch
from torch import Tensor

GRAY = 127.5  # around which contrast is, as of DALI's ColorTwist: no look at the image is needed
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue, ITU-R BT.601
YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
TOGETHER = 8  # pixels that are one row of a product, by a matrix of as many blocks: a product of rows of 3 is slow
STEPS = 2.0**11  # of which entries are whole parts, so that float32 adds up without rounding on any device


def maps(
    brightness: np.ndarray,
    contrast: np.ndarray,
    saturation: np.ndarray,
    turn: np.ndarray,
    gray: np.ndarray,
    channels: int,
) -> np.ndarray:
    """(samples, channels, channels + 1) float32: a matrix and what is added to its product with a pixel.

    Pixels are multiplied by `brightness`, then their distance from GRAY by `contrast`. `saturation` multiplies, and
    `turn` rotates, what of a pixel is colour in the plane of I and Q of the YIQ space. Images of one channel have
    brightness and contrast alone.

    Args:
        brightness, contrast, saturation: (samples,) factors. turn: (samples,) parts of a whole turn of the hue.
        gray: (samples,) bool: all colour is lost.
    """
    if channels == 1:
        colour = np.ones((len(gray), 1, 1))
    else:
        angle, plane = 2 * np.pi * turn, np.zeros((len(gray), 3, 3))
        plane[:, 0, 0] = 1
        plane[:, 1, 1] = plane[:, 2, 2] = saturation * np.cos(angle)
        plane[:, 2, 1] = saturation * np.sin(angle)
        plane[:, 1, 2] = -plane[:, 2, 1]
        colour = np.linalg.inv(YIQ) @ plane @ YIQ
        colour[gray] = LUMA
    linear = (brightness * contrast)[:, None, None] * colour
    added = np.broadcast_to((GRAY * (1 - contrast))[:, None, None], (len(gray), channels, 1))
    return (np.rint(STEPS * np.concatenate([linear, added], axis=2)) / STEPS).astype(np.float32)


def recolour(images: Tensor, maps: np.ndarray) -> None:
    """Put each image through its map, in place, rounded and cut to 0 to 255.

    Args:
        images: (samples, height, width, channels) uint8, contiguous. maps: of the function of that name.
    """
    count, size, _, channels = images.shape
    together, step = math.gcd(TOGETHER, size * size), 1 if images.device.type == "cpu" else count
    every = torch.from_numpy(maps).to(images.device)
    matrices = torch.zeros(count, together, channels, together, channels, device=images.device)
    matrices.diagonal(dim1=1, dim2=3)[:] = every[:, :, :channels].transpose(1, 2)[..., None]
    matrices = matrices.view(count, together * channels, together * channels)
    added = every[:, None, :, channels].repeat(1, 1, together) + 0.5
    pixels = images.view(count, -1, together * channels)
    for start in range(0, count, step):  # on a CPU one by one, as that fits its cache
        part = slice(start, start + step)
        mapped = torch.baddbmm(added[part], pixels[part].float(), matrices[part])
        pixels[part] = mapped.clamp_(0, 255.5).to(torch.int16)  # cuts off what is behind the point, faster than uint8
