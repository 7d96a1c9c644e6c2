"""A timm model by name, with its own input size and normalisation, in one self-describing safetensors file."""

import difflib
import json
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipeline import errors, files
from pipeline.data import Info
from pipeline.errors import PipelineError
from pipeline.params import Architecture


class Classifier(nn.Module):
    """A network that takes the prepared pixels as they are: a caller can't get the normalisation wrong."""

    def __init__(self, net: nn.Module, architecture: Architecture, info: Info) -> None:
        super().__init__()
        self.net = net
        self.architecture = architecture
        self.info = info
        self.register_buffer("mean", 255 * torch.tensor(info.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(info.std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, height, width, channels) uint8 to (batch, classes) float32 logits."""
        pixels = images.permute(0, 3, 1, 2).float()  # channels last in memory, as convolutions like it
        return self.net((pixels - self.mean) / self.std).float()


def build(architecture: Architecture, info: Info) -> Classifier:
    """A randomly initialised model; a name, argument or size that timm can't use is a PipelineError."""
    import timm

    if not timm.is_model(architecture.model):
        close = difflib.get_close_matches(architecture.model, timm.list_models(), n=3)
        hint = f"the closest are {', '.join(close)}" if close else "`timm.list_models()` lists them"
        raise PipelineError(f"timm has no model `{architecture.model}`; {hint}.")
    try:
        net = timm.create_model(
            architecture.model, num_classes=len(info.classes), in_chans=len(info.mean), **architecture.kwargs
        )
        if architecture.stem_stride is not None:
            stem = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
            stem.stride = (architecture.stem_stride, architecture.stem_stride)
        model = Classifier(net, architecture, info)
        model.eval()(torch.zeros(2, info.image_size, info.image_size, len(info.mean), dtype=torch.uint8))
    except Exception as error:  # timm raises whatever its code trips over
        raise PipelineError(
            f"`{architecture.model}` with kwargs {architecture.kwargs} does not work on images of "
            f"{info.image_size} pixels: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from None
    return model.to(memory_format=torch.channels_last)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: Classifier) -> int:
    """Of convolutions and matrix products for one image."""
    from torch.utils.flop_counter import FlopCounterMode

    info = model.info
    image = torch.zeros(1, info.image_size, info.image_size, len(info.mean), dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval().cpu()(image)
    return counter.get_total_flops() // 2


def save(model: Classifier, path: Path) -> None:
    """Weights as safetensors, with what it takes to rebuild the model as the file's metadata."""
    spec = {
        "architecture": model.architecture.model_dump(include=set(Architecture.model_fields)),
        "info": vars(model.info),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with files.replacing(path) as temporary:
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
    model = build(architecture, info)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise PipelineError(f"{path} holds weights of another shape than its model's ({reason}); delete it.") from None
    return model.eval()
