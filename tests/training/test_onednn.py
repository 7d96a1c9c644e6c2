"""Convolutions that oneDNN gets wrong are computed as others, and a network stays the same function."""

import timm
import torch
from torch import nn

from pipeline.training import onednn


def net(name: str, **kwargs) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=3, in_chans=3, **kwargs)


def spared(name: str, **kwargs) -> tuple[nn.Module, nn.Module]:
    """The network as timm makes it, and the same weights after `spare`."""
    plain, ours = net(name, **kwargs), net(name, **kwargs)
    ours.load_state_dict(plain.state_dict())
    onednn.spare(ours)
    return plain, ours


def narrow(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.in_channels < onednn.NARROW


def test_no_narrow_convolution_is_strided_and_the_net_is_the_same_function():
    plain, ours = spared("repvgg_a0")
    strided = [name for name, module in plain.named_modules() if narrow(module) and module.stride != (1, 1)]
    assert strided and not any(module.stride != (1, 1) for module in ours.modules() if narrow(module))
    pixels = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(pixels), plain.eval()(pixels))


def seen(model: nn.Module, pixels: torch.Tensor) -> tuple[list[bool], torch.Tensor, list[torch.Tensor]]:
    """Whether each strided convolution was given less than its stride, the answers, and the weights' gradients."""
    smaller = []

    def look(module: nn.Conv2d, given: tuple[torch.Tensor], _: torch.Tensor) -> None:
        if module.stride != (1, 1):
            smaller.append(min(given[0].shape[-2:]) < module.stride[0])

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(look)
    answers = model(pixels)
    answers.square().sum().backward()
    return smaller, answers.detach(), [parameter.grad for parameter in model.parameters()]


def test_no_convolution_learns_from_less_than_its_stride_and_answers_and_gradients_are_the_same():
    for name in ("test_resnet", "tf_efficientnet_lite0", "resnet10t"):  # Lite's own padding needs nothing
        plain, ours = spared(name)
        pixels = torch.rand(4, 3, 16, 16)
        (before, *known), (after, *answered) = (seen(model.train(), pixels) for model in (plain, ours))
        assert any(before) or name != "test_resnet"
        assert not any(after) or name == "tf_efficientnet_lite0", name
        torch.testing.assert_close(answered, known, rtol=1e-3, atol=1e-4)


def test_a_net_that_answers_is_exported_as_it_is():
    _, ours = spared("test_resnet")
    smaller, *_ = seen(ours.eval(), torch.rand(1, 3, 8, 8))
    assert any(smaller)


def test_gradients_in_bf16_hold_no_memory_that_nobody_wrote():
    """Where the processor computes in bf16, they were nan as soon as such memory held one."""
    convolution = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)).to(
        memory_format=torch.channels_last
    )
    onednn.spare(convolution)
    pixels = torch.rand(32, 8, 1, 1).to(memory_format=torch.channels_last)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            answers = convolution(pixels)
        spoil()
        convolution.zero_grad()
        answers.sum().backward()
        assert convolution[0].weight.grad.isfinite().all()


def spoil() -> None:
    """Leave nan in memory that is given out next."""
    kept = [torch.full((count * 2**power,), float("nan")) for power in range(2, 18) for count in (2, 3)]
    del kept
