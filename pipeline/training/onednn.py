"""Convolutions whose gradient oneDNN gets wrong on a CPU, computed as others that it gets right: the same functions."""

from functools import partial

from torch import Tensor, nn
from torch.nn.functional import pad

NARROW = 16  # channels: a block of oneDNN's on AVX-512; on AVX2 it is 8


def spare(net: nn.Module) -> None:
    """Change what the network's convolutions are given, in place.

    - A strided 1x1 convolution of few channels: oneDNN writes past its memory in the gradient of the weights, where
      channels come last and fill less than a block (https://github.com/uxlfoundation/oneDNN/issues/6035). Pixels are
      left out before it, and not in it.
    - A larger one of an image smaller than its stride, in bf16: the gradient of the weights takes in memory that nobody
      has written. Such an image is padded with zeros to the stride.
    """
    for module in net.modules():
        if not isinstance(module, nn.Conv2d) or module.stride == (1, 1):
            continue
        if module.kernel_size != (1, 1):
            half = tuple(step * (side - 1) // 2 for step, side in zip(module.dilation, module.kernel_size, strict=True))
            if module.padding == half:  # then all sizes up to the stride give one pixel; timm's own padding differs
                module.register_forward_pre_hook(_padded)
        elif module.padding == (0, 0) and module.in_channels // module.groups < NARROW:
            module.register_forward_pre_hook(partial(_every, module.stride))
            module.stride = (1, 1)


def _every(stride: tuple[int, int], _: nn.Module, images: tuple[Tensor]) -> tuple[Tensor]:
    return (images[0][..., :: stride[0], :: stride[1]],)


def _padded(module: nn.Conv2d, images: tuple[Tensor]) -> tuple[Tensor] | None:
    down, right = (max(0, step - side) for step, side in zip(module.stride, images[0].shape[-2:], strict=True))
    return (pad(images[0], (0, right, 0, down)),) if module.training and (down or right) else None
