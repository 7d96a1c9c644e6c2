"""Can a model be trained, exported and made INT8? `python -m pipeline.deployment.tryout` knows before it is trained.

Words are teachers of params.yaml, `student`, or names of timm's; without a word it tries every model of params.yaml.
Images are noise of the size that params.yaml says.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline import params
from pipeline.deployment import export, latency, quantisation
from pipeline.params import Architecture, Data
from pipeline.project import errors
from pipeline.project.data import Info
from pipeline.project.errors import PipelineError
from pipeline.training import loop, models
from pipeline.training.models import Classifier

IMAGES = 16
NOISE = 0.02  # added to all weights, as fresh ones may leave out whole blocks, whose scale is nearly 0, and the head
DIFFERENCE = 1e-3  # of the largest logit, from which on an export is another function


@dataclass(frozen=True)
class Trial:
    """multiply_adds: None, they can't be counted. difference: of ONNX's logits to torch's, by the largest of these."""

    parameters: int
    multiply_adds: int | None
    difference: float

    def __str__(self) -> str:
        counted = "not counted" if self.multiply_adds is None else f"{self.multiply_adds / 1e6:,.1f} M"
        return (
            f"{self.parameters / 1e6:,.2f} M parameters, multiply-adds {counted}; trains, exports (logits differ by "
            f"{100 * self.difference:.1g} % at most), becomes INT8"
        )


def main(*names: str) -> None:
    settings = params.load()
    info, known, failed = _info(settings.data), {**settings.teachers, "student": settings.student}, []
    for name in names or known:
        architecture = known.get(name) or settings.student.model_copy(update=_plain(name))
        try:
            print(f"{name}: {tried(architecture, info)}", flush=True)
        except PipelineError as error:
            failed.append(name)
            print(f"{name}: {error}", flush=True)
    if failed:
        raise PipelineError(f"The pipeline can't use {', '.join(failed)} as it is; choose another `model`.")


def tried(architecture: Architecture, info: Info) -> Trial:
    """What the stages do with a model, one after the other.

    Raises:
        PipelineError: what it can't be, and why.
    """
    torch.manual_seed(0)
    model = models.build(architecture, info)
    name, channels = model.architecture.model, len(info.mean)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, info.image_size, info.image_size, channels), np.uint8)
    with _saying(name, "be trained"):
        _step(model, torch.from_numpy(images))
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(images)).numpy()
    multiply_adds = models.multiply_adds(model)
    with tempfile.TemporaryDirectory() as folder:
        onnx, int8 = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        with _saying(name, "be exported to ONNX"):
            export.to_onnx(model, onnx)
            answers = latency.onnx_logits(onnx, images)
        difference = float(np.abs(answers - expected).max() / np.abs(expected).max())
        if not difference <= DIFFERENCE:
            raise PipelineError(
                f"`{name}` is another function once exported: its logits differ by up to {100 * difference:.2g} %."
            )
        with _saying(name, "become INT8"):
            quantisation.to_int8(onnx, int8, images)
            latency.onnx_logits(int8, images)
    return Trial(models.parameters(model), multiply_adds, difference)


def _step(model: Classifier, images: torch.Tensor) -> None:
    """Learn by the head alone, then by everything."""
    labels = torch.arange(len(images)) % len(model.info.classes)
    for frozen in (True, False):
        loop.freeze_body(model, frozen)
        torch.nn.functional.cross_entropy(model(images), labels).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += NOISE * torch.randn_like(parameter)


@contextmanager
def _saying(name: str, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of torch, timm, ONNX Runtime: whatever they trip over
        reason = " ".join(str(error).split())[:300]
        raise PipelineError(f"`{name}` can't {what}: {type(error).__name__}: {reason}") from None


def _info(asked: Data) -> Info:
    channels = 1 if asked.mode == "gray" or asked.source in ("digits", "fashion_mnist") else 3
    return Info(["first", "second"], asked.image_size, [0.5] * channels, [0.25] * channels, {})


def _plain(name: str) -> dict[str, object]:
    return {"model": name, "kwargs": {}, "backbone": None, "backbone_sha256": None, "input_size": None,
            "stem_stride": None}  # fmt: skip


if __name__ == "__main__":
    errors.run(main)
