"""ONNX out of torch."""

import copy
import io
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.project import files
from pipeline.training.models import Classifier


def to_onnx(model: Classifier, path: Path) -> None:
    """Write `model` with uint8 images in, normalisation inside, a dynamic batch, and the class names as metadata.

    `images`: (batch, height, width, channels) uint8 to `logits`: (batch, classes) float32.
    """
    import onnx

    info = model.info
    example = torch.zeros(2, info.image_size, info.image_size, len(info.mean), dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    traced = folded(model.cpu().eval())
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), unfused(traced):
        warnings.simplefilter("ignore")  # of the exporter's own making
        program = torch.onnx.export(
            traced,
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    proto = program.model_proto
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output, proto.graph):
        part.ClearField("metadata_props")  # of the exporter: where in this machine's folders each node's code stands
    known = {"classes": info.classes, "background": info.background, "bits": info.bits}
    onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in known.items()})
    with files.atomic_write(path) as temporary:
        onnx.save(proto, temporary)


@contextmanager
def unfused(model: nn.Module) -> Iterator[None]:
    """Attention written out as products and a softmax, as the exporter refuses the fused one that adds a position."""
    attentions = [module for module in model.modules() if getattr(module, "fused_attn", False)]
    for module in attentions:
        module.fused_attn = False
    try:
        yield
    finally:
        for module in attentions:
            module.fused_attn = True


def folded(model: Classifier) -> Classifier:
    """A copy with batch norms inside the convolutions before them, as the exporter would write them, in less time.

    Where that would be another function, as a convolution's output has other readers too, it is the model itself.
    """
    info, copied = model.info, copy.deepcopy(model)
    shape = (2, info.image_size, info.image_size, len(info.mean))
    images = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
        for convolution, norm in _neighbours(copied, images):
            copied.set_submodule(convolution, fuse_conv_bn_eval(*map(copied.get_submodule, (convolution, norm))))
            left = [getattr(copied.get_submodule(norm), name, nn.Identity()) for name in ("drop", "act")]  # timm's
            copied.set_submodule(norm, nn.Sequential(*left))
        return copied if torch.allclose(copied(images), expected, rtol=1e-4, atol=1e-4) else model


def _neighbours(model: nn.Module, images: torch.Tensor) -> list[tuple[str, str]]:
    """The name of each batch norm that reads what a convolution wrote, after that convolution's.

    Only of norms that have statistics, and where norm and convolution are used once and only by each other.
    """
    writers: dict[int, tuple[str, torch.Tensor]] = {}  # by the id of what they wrote, which is kept, or ids come again
    pairs, uses, hooks = [], Counter(), []

    def writes(name: str, tensor: torch.Tensor) -> None:
        uses[name] += 1
        writers[id(tensor)] = name, tensor

    def reads(name: str, tensors: tuple[torch.Tensor, ...]) -> None:
        uses[name] += 1
        for tensor in tensors:
            if id(tensor) in writers:
                pairs.append((writers[id(tensor)][0], name))

    for name, module in model.named_modules():
        if type(module) is nn.Conv2d:  # others do more to their weights
            hooks.append(module.register_forward_hook(lambda _, given, made, name=name: writes(name, made)))
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(lambda _, given, name=name: reads(name, given)))
    model(images)
    for hook in hooks:
        hook.remove()
    readers = Counter(convolution for convolution, _ in pairs)
    return [pair for pair in pairs if uses[pair[0]] == uses[pair[1]] == readers[pair[0]] == 1]
