"""Pretrained weights: from the Hugging Face hub, a folder or a file. Nothing in them can run code.

A name of timm's is a repository of the hub; what has come from the hub is a folder; a folder holds timm's `config.json`
beside a file of weights.
"""

import difflib
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pipeline.params import Architecture
from pipeline.project import deadline, files
from pipeline.project.errors import PipelineError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in a folder, the first that is there
ANSWERS = 10.0  # seconds that the hub may take before anything is downloaded
NAMED = 3  # layers, of those that do not fit


@dataclass(frozen=True)
class Backbone:
    """What a model starts from.

    model, kwargs: for timm.create_model. config: timm's description of the weights. tensors: the weights by name.
    """

    model: str
    kwargs: dict[str, Any]
    config: dict[str, Any]
    tensors: dict[str, Tensor]


def read(architecture: Architecture) -> Backbone:
    """What `architecture.backbone` names.

    Raises:
        PipelineError: it is not there, holds code or no weights, is of another model, has another digest than params
            say, or the hub can't be reached.
    """
    import timm

    source = architecture.backbone
    path = _file(source)
    _check_digest(architecture, path)
    tensors = _read(path)
    if source.startswith("file:"):
        described = timm.get_pretrained_cfg(known(architecture.model)) or timm.models.PretrainedCfg()
        config = described.to_dict(remove_source=True)
        head = tensors.get(f"{config.get('classifier')}.weight")  # the file's own classes, which may be none
        config |= {"num_classes": 0 if head is None else len(head), "label_offset": 0}
        return Backbone(architecture.model, {}, config, tensors)
    try:
        kwargs = timm.models.resolve_model_input_args(f"local-dir:{path.parent}")
    except Exception as error:  # timm raises whatever it trips over in the file
        reason = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"`backbone` is {source}, whose config.json is none of timm's: {type(error).__name__}: {reason}."
        ) from None
    model, config = kwargs.pop("model_name"), kwargs.pop("pretrained_cfg")
    if architecture.model not in (None, model):
        raise PipelineError(
            f"`backbone` is {source}, a `{model}`, but `model` is `{architecture.model}`; leave it out."
        )
    config = timm.models.filter_pretrained_cfg(config, remove_source=True)
    config = {key: value for key, value in config.items() if not key.startswith("label_")}
    others = ("in_chans", "num_classes", "pretrained_model_args")  # of these the data decide
    return Backbone(model, {key: value for key, value in kwargs.items() if key not in others}, config, tensors)


def _check_digest(architecture: Architecture, path: Path) -> None:
    """Weights on this machine are no dep that DVC could watch: params name their digest, so a change is noticed."""
    wanted, local = architecture.backbone_sha256, architecture.backbone.startswith(("local-dir:", "file:"))
    if wanted is None and not local:
        return
    if (digest := files.sha256(path)) != wanted:
        says = "is missing" if wanted is None else f"is {wanted}"
        raise PipelineError(
            f"`backbone_sha256` {says}, but the weights of `backbone` {architecture.backbone} have another digest; "
            f"if these are the right ones, write `backbone_sha256: {digest}` beside it."
        )


def start(backbone: Backbone, channels: int, classes: int, kwargs: dict[str, Any]) -> nn.Module:
    """A network of these weights with a new head; timm adapts the first convolution to the channels.

    Raises:
        PipelineError: the weights are not of this model.
    """
    import timm

    config = backbone.config | {"state_dict": backbone.tensors}
    try:
        net = timm.create_model(backbone.model, pretrained=True, pretrained_cfg=config, in_chans=channels,
                                num_classes=backbone.config["num_classes"], **kwargs)  # fmt: skip
    except RuntimeError as error:
        layers = re.findall(r'"([\w.]+)"|size mismatch for ([\w.]+)', str(error))
        if not layers:
            raise
        names = [one or other for one, other in layers]
        learned, asked = input_size(backbone.config), kwargs.get("img_size")
        resized = asked not in (None, learned, (learned, learned))
        hint = f"; try `input_size: {learned}`, at which they learned" if resized else ""
        shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        raise PipelineError(
            f"The weights of `backbone` do not fit `{backbone.model}` with kwargs {kwargs}: {shown} are missing, "
            f"unknown or of another shape{hint}."
        ) from None
    net.pretrained_cfg["state_dict"] = None  # or every copy of the network would copy them too
    net.reset_classifier(classes)
    return net


def input_size(config: dict[str, Any]) -> int:
    """Pixels a side of the images that weights learned from, by timm's description of them; 224 where it is silent."""
    return (config.get("input_size") or (3, 224, 224))[-1]


def known(model: str) -> str:
    """The name itself; one that timm does not have is a PipelineError with the closest that it has."""
    import timm

    if not timm.is_model(model):
        raise PipelineError(f"timm has no model `{model}`; {_closest(model, timm.list_models())}.")
    return model


def _closest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3)
    return f"the closest are {', '.join(close)}" if close else "`timm.list_models()` lists them"


def _file(source: str) -> Path:
    """The weights' file, beside which config.json stands unless the source is the file itself."""
    kind, _, place = source.partition(":")
    if kind == "file":
        if not Path(place).is_file():
            raise PipelineError(f"`backbone` is {source}, but {place} is no file.")
        return Path(place)
    folder = Path(place) if kind == "local-dir" else _downloaded(place or _repository(source), source)
    if not (folder / "config.json").is_file():
        raise PipelineError(
            f"`backbone` is {source}, but {folder} has no config.json; `timm.models.save_for_hf` writes such a folder."
        )
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise PipelineError(f"`backbone` is {source}, but {folder} has no {' and no '.join(WEIGHTS)}.")


def _repository(name: str) -> str:
    """Where on the hub timm's weights of that name are."""
    import timm

    if not timm.models.is_model_pretrained(name):
        raise PipelineError(f"timm has no pretrained weights `{name}`; {_closest(name, timm.list_pretrained())}.")
    if not (repository := timm.get_pretrained_cfg(name).hf_hub_id):
        raise PipelineError(f"timm's `{name}` is not on the hub; download it and set `backbone` to file:PATH.")
    return repository


def _downloaded(repository: str, source: str) -> Path:
    """A folder with the repository's config.json and weights. What has been downloaded once is not asked for again."""
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # or each of its retries says so
    name, _, revision = repository.partition("@")

    def get(file: str, commit: str | None, **more: bool) -> Path:
        return Path(hf_hub_download(name, file, revision=commit or None, **more))

    try:
        try:
            config = get("config.json", revision, local_files_only=True)
            return get(WEIGHTS[0], config.parent.name, local_files_only=True).parent
        except hub.LocalEntryNotFoundError:
            config = deadline.within(ANSWERS, get, "config.json", revision)
            return get(WEIGHTS[0], config.parent.name).parent  # of the same commit
    except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError, hub.RemoteEntryNotFoundError):
        raise PipelineError(
            f"`backbone` is {source}, but the hub has no such repository with config.json and {WEIGHTS[0]}, or keeps "
            "it from who has no token."
        ) from None
    except Exception as error:  # of the network, by whatever library the hub's client uses
        raise PipelineError(
            f"`backbone` is {source}, which is not on this machine, and the hub can't be reached "
            f"({type(error).__name__}); download it where there is a network and copy it here: its folder for "
            "local-dir:FOLDER, or the hub's cache for HF_HOME."
        ) from None


def _read(path: Path) -> dict[str, Tensor]:
    import timm

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused anyway
            tensors = timm.models.load_state_dict(str(path))  # torch's files with weights_only
    except Exception as error:  # a damaged file makes torch raise what it likes
        if "weights_only" in str(error):
            raise PipelineError(
                f"{path} is a pickle that holds more than weights, perhaps code, and is not opened; save the model's "
                "`state_dict()` alone, best as safetensors."
            ) from None
        raise PipelineError(f"{path} can't be read as weights ({type(error).__name__}); get it anew.") from None
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise PipelineError(f"{path} holds no weights; it should be a model's `state_dict()`.")
    return tensors
