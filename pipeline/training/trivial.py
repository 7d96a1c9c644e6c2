"""TrivialAugment, its wide space: one operation of random strength an image (Müller and Hutter 2021)."""

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

BINS = 31  # strengths, evenly from none to the most
FARTHEST, STEEPEST, WIDEST, STRONGEST = 32.0, 0.99, 135.0, 0.99  # pixels, tangent of a shear, degrees, factor - 1
SIGNED = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate",
          "brightness", "colour", "contrast", "sharpness")  # fmt: skip
OPERATIONS = ("identity", *SIGNED, "posterise", "solarise", "autocontrast", "equalise")


def augment(images: Tensor, operation: np.ndarray, strength: np.ndarray, sign: np.ndarray) -> None:
    """Change images in place, each by one of OPERATIONS; what comes into view is black.

    Args:
        images: (samples, height, width, 1 or 3) uint8 on the CPU.
        operation, strength, sign: (samples,) uniform numbers in [0, 1), which choose one of OPERATIONS, one of BINS
            strengths and its sign.
    """
    bins = (strength * BINS).astype(np.int64)
    for row, number in enumerate((operation * len(OPERATIONS)).astype(np.int64)):
        level = bins[row] / (BINS - 1)
        name = OPERATIONS[number]
        signed = -level if name in SIGNED and sign[row] < 0.5 else level
        images[row] = applied(images[row].permute(2, 0, 1), name, float(signed)).permute(1, 2, 0)


def applied(image: Tensor, name: str, level: float) -> Tensor:
    """(channels, height, width) uint8 after that operation.

    Args:
        image: (channels, height, width) uint8. level: 0 to 1 of the most, -1 to 1 of operations in SIGNED.
    """
    if name == "identity":
        return image
    return _functions()[name](image.contiguous(), level)


def _functions() -> dict[str, Callable[[Tensor, float], Tensor]]:
    from torchvision.transforms.v2 import functional

    def moved(image: Tensor, angle: float = 0.0, translate: tuple[int, int] = (0, 0),
              shear: tuple[float, float] = (0.0, 0.0), center: list[float] | None = None) -> Tensor:  # fmt: skip
        return functional.affine(image, angle, list(translate), 1.0, list(shear), center=center)

    def sheared(level: float) -> float:
        return math.degrees(math.atan(STEEPEST * level))

    return {
        "shear_x": lambda image, level: moved(image, shear=(sheared(level), 0.0), center=[0.0, 0.0]),
        "shear_y": lambda image, level: moved(image, shear=(0.0, sheared(level)), center=[0.0, 0.0]),
        "translate_x": lambda image, level: moved(image, translate=(int(FARTHEST * level), 0)),
        "translate_y": lambda image, level: moved(image, translate=(0, int(FARTHEST * level))),
        "rotate": lambda image, level: functional.rotate(image, WIDEST * level),
        "brightness": lambda image, level: functional.adjust_brightness(image, 1 + STRONGEST * level),
        "colour": lambda image, level: functional.adjust_saturation(image, 1 + STRONGEST * level),
        "contrast": lambda image, level: functional.adjust_contrast(image, 1 + STRONGEST * level),
        "sharpness": lambda image, level: functional.adjust_sharpness(image, 1 + STRONGEST * level),
        "posterise": lambda image, level: functional.posterize(image, 8 - round(6 * level)),
        "solarise": lambda image, level: functional.solarize(image, 255 * (1 - level)),
        "autocontrast": lambda image, level: functional.autocontrast(image),
        "equalise": lambda image, level: functional.equalize(image),
    }
