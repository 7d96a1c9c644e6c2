"""A timm model with its own input size and normalisation, in one self-describing safetensors file."""

import json
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipeline.params import Architecture
from pipeline.project import errors, files
from pipeline.project.data import Info
from pipeline.project.errors import PipelineError
from pipeline.training import backbones, onednn
from pipeline.training.backbones import Backbone


class Classifier(nn.Module):
    """A network that takes the prepared pixels as they are: a caller can't get size and normalisation wrong.

    pretrained: timm's description of the weights that it started from, whose interpolation, mean and standard deviation
    it keeps; None: it has those of the data. It runs at `size` pixels, see `side`.
    """

    def __init__(
        self, net: nn.Module, architecture: Architecture, info: Info, pretrained: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.net = net
        self.architecture = architecture
        self.info = info
        self.pretrained = pretrained
        self.size, self.interpolation = 2 * (side(architecture, info, pretrained),), "bilinear"
        mean, std = info.mean, info.std
        if pretrained:
            from timm.data import resolve_input_data_config

            given = {key: pretrained[key] for key in ("mean", "std")}
            if len(info.mean) == 1:
                given = {key: [sum(value) / len(value)] for key, value in given.items()}
            wanted = resolve_input_data_config(net, given)
            mean, std = wanted["mean"], wanted["std"]
            self.interpolation = "bilinear" if wanted["interpolation"] == "bilinear" else "bicubic"
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, height, width, channels) uint8 to (batch, classes) float32 logits."""
        pixels = images.permute(0, 3, 1, 2).float()  # channels last in memory, as convolutions like it
        if self.size != pixels.shape[2:]:
            pixels = nn.functional.interpolate(pixels, self.size, mode=self.interpolation, antialias=True)
        return self.net((pixels - self.mean) / self.std).float()


def build(architecture: Architecture, info: Info) -> Classifier:
    """A model with random weights, or with those of `backbone` and a random head.

    Raises:
        PipelineError: timm can't use a name, an argument or the images' size; see also backbones.read.
    """
    if architecture.backbone is None:
        return _assembled(architecture, info)
    backbone = backbones.read(architecture)
    own = {key: value for key, value in backbone.kwargs.items() if key != "img_size"}  # of which `side` decides
    named = {"model": backbone.model, "kwargs": own | architecture.kwargs, "backbone": None}
    return _assembled(architecture.model_copy(update=named), info, backbone.config, backbone)


def _assembled(
    architecture: Architecture, info: Info, pretrained: dict[str, Any] | None = None, backbone: Backbone | None = None
) -> Classifier:
    import timm

    model, kwargs = backbones.known(architecture.model), architecture.kwargs
    classes, channels, size = len(info.classes), len(info.mean), side(architecture, info, pretrained)
    described = timm.get_pretrained_cfg(model)
    if described and described.fixed_input_size:  # it has positions, which timm makes for this size or resizes to it
        kwargs = {"img_size": (size, size)} | kwargs
    try:
        if backbone:
            net = backbones.start(backbone, channels, classes, kwargs)
        else:
            net = timm.create_model(model, pretrained_cfg=pretrained, num_classes=classes, in_chans=channels, **kwargs)
        if architecture.stem_stride is not None:
            stem = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
            stem.stride = (architecture.stem_stride, architecture.stem_stride)
        onednn.spare(net)
        classifier = Classifier(net, architecture, info, pretrained)
        classifier.eval()(torch.zeros(2, info.image_size, info.image_size, channels, dtype=torch.uint8))
    except PipelineError:
        raise
    except Exception as error:  # timm raises whatever its code trips over
        hint = "" if size == _learned_at(pretrained, size) else f"; try `input_size: {_learned_at(pretrained, size)}`"
        raise PipelineError(
            f"`{model}` with kwargs {architecture.kwargs} does not work on images of {size} pixels: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{hint}"
        ) from None
    return classifier.to(memory_format=torch.channels_last)


def side(architecture: Architecture, info: Info, pretrained: dict[str, Any] | None) -> int:
    """Pixels a side at which a model runs: as it says, or that of its weights or of the views, whichever is smaller."""
    asked = architecture.kwargs.get("img_size")
    asked = asked[-1] if isinstance(asked, list) and asked else asked
    if architecture.input_size is None and isinstance(asked, int):
        return asked
    return architecture.input_size or min(info.image_size, _learned_at(pretrained, info.image_size))


def _learned_at(pretrained: dict[str, Any] | None, default: int) -> int:
    """Pixels a side of the images that the weights learned from."""
    return backbones.input_size(pretrained) if pretrained else default


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def heads(model: Classifier) -> tuple[nn.Module, ...]:
    """What a new set of classes replaces: one layer, or two where a model learned from a teacher's answers too."""
    found = model.net.get_classifier()
    return found if isinstance(found, tuple) else (found,)


def multiply_adds(model: Classifier) -> int | None:
    """Of convolutions and matrix products for one image; None, with a warning, where torch can't count them."""
    from torch.utils.flop_counter import FlopCounterMode

    info = model.info
    image = torch.zeros(1, info.image_size, info.image_size, len(info.mean), dtype=torch.uint8)
    try:
        with FlopCounterMode(display=False) as counter:  # without gradients it trips over a parameter's views
            model.eval().cpu()(image)
    except Exception as error:  # of its own assertions
        name, reason = model.architecture.model, " ".join(str(error).split())[:200]
        print(f"warning: The multiply-adds of `{name}` can't be counted ({type(error).__name__}: {reason}).",
              file=sys.stderr)  # fmt: skip
        return None
    return counter.get_total_flops() // 2


def save(model: Classifier, path: Path) -> None:
    """Weights as safetensors, with what it takes to rebuild the model as the file's metadata."""
    spec = {
        "architecture": model.architecture.model_dump(include=set(Architecture.model_fields)) | {"backbone": None},
        "info": vars(model.info),
    }
    if model.pretrained:
        spec["pretrained"] = model.pretrained
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with files.atomic_write(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, {"spec": json.dumps(spec, sort_keys=True)}))


def load(path: Path) -> Classifier:
    """The model that `save` wrote, in eval mode."""
    try:
        with safe_open(path, framework="pt") as file:
            spec = json.loads(file.metadata()["spec"])
            architecture, info = Architecture(**spec["architecture"]), Info(**spec["info"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except FileNotFoundError:
        raise errors.missing(path) from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise PipelineError(f"{path} is corrupt or was not written by this pipeline ({error}); delete it.") from None
    model = _assembled(architecture, info, spec.get("pretrained"))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise PipelineError(f"{path} holds weights of another shape than its model's ({reason}); delete it.") from None
    return model.eval()
