"""The small data and the tiny model that the test files share."""

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from pipeline import params
from pipeline.params import Architecture, Block, Compute, Data, Model, Params, Training
from pipeline.project.data import Info, Split
from pipeline.training import models
from pipeline.training.models import Classifier
from pipeline.training.views import Views, render

torch.set_num_threads(1)  # more of them only wait for one another on tensors this small

Kind = TypeVar("Kind", bound=Block)
DEFAULTS = params.read(params.DEFAULTS)


def block(kind: type[Kind], section: str, **changes: Any) -> Kind:
    """A block of the schema from that section of pipeline/defaults.yaml, with these keys of its own."""
    return kind(**{key: value for key, value in DEFAULTS[section].items() if key in kind.model_fields} | changes)


def settings(**changes: Any) -> Params:
    """All params: those of the profile `smoke`, with these sections in place of its own, laid over the defaults."""
    smoke = params.read(Path(__file__).parents[1] / "profiles/smoke.yaml")
    return Params.model_validate(params.overlay(DEFAULTS, smoke | changes))


def architecture(**changes: Any) -> Architecture:
    """In fp32, so that every processor computes alike."""
    return block(Architecture, "teacher", **{"model": "test_resnet", "kwargs": KWARGS, "precision": "fp32"} | changes)


def training(**changes: Any) -> Training:
    return block(Training, "teacher", **{"epochs": 2, "batch_size": 8, "lr": 0.01, "weight_decay": 0.01} | changes)


def compute(**changes: Any) -> Compute:
    """On the CPU, whatever else the machine has."""
    return block(Compute, "compute", **{"accelerator": "cpu"} | changes)


EMPTY = Path(__file__).parents[1] / "data/none/unlabelled"  # holds no image
CPU = torch.device("cpu")
KWARGS = {"channels": [4, 8, 8, 16]}
ARCHITECTURE = architecture()
INFO = Info(classes=["dark", "bright"], image_size=8, mean=[0.4], std=[0.2], sha256={"train_images.npy": "0" * 64})
VIEWS = Views(seed=3, count=2, shift=1, flip=True, erase=0.0)
TRAINING = training()
STUDENT = block(Model, "student", **vars(ARCHITECTURE), epochs=2, batch_size=8, lr=0.01, weight_decay=0.0)


def images(count: int, size: int = 8, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), np.uint8)


def split(count: int, seed: int = 0) -> Split:
    """Two classes told apart by their brightness alone."""
    labels = np.arange(count, dtype=np.int64) % 2
    dark = images(count, seed=seed) // 3
    return Split(dark + (150 * labels).astype(np.uint8)[:, None, None, None], labels)


def rendered(images: np.ndarray, ids: np.ndarray, view: int, views: Views) -> np.ndarray:
    """Views of images that are stored as large as they are seen, on the CPU."""
    return render(Split(images, np.zeros(len(images), np.int64)), ids, view, views, images.shape[1]).numpy()


def classifier(seed: int = 0, architecture: Architecture = ARCHITECTURE, info: Info = INFO) -> Classifier:
    torch.manual_seed(seed)
    return models.build(architecture, info).eval()


def data_params(**changes: Any) -> Data:
    defaults = {"source": "digits", "path": "images", "unlabelled": str(EMPTY), "image_size": 8,
                "val_fraction": 0.2, "test_fraction": 0.2}  # fmt: skip
    return block(Data, "data", **defaults | changes)
