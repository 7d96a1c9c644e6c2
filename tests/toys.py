"""The small data and the tiny model that the test files share."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.params import Architecture, Data, Student, Training, Views
from pipeline.project.data import Info, Split
from pipeline.training import models
from pipeline.training.models import Classifier

torch.set_num_threads(1)  # more of them only wait for one another on tensors this small

EMPTY = Path(__file__).parents[1] / "data/unlabelled"  # holds no image
CPU = torch.device("cpu")
KWARGS = {"channels": [4, 8, 8, 16]}
ARCHITECTURE = Architecture(model="test_resnet", kwargs=KWARGS)
INFO = Info(classes=["dark", "bright"], image_size=8, mean=[0.4], std=[0.2], sha256={"train_images.npy": "0" * 64})
VIEWS = Views(count=2, shift=1, flip=True, erase=0.0, mixup=0.0, cutmix=0.0)
TRAINING = Training(epochs=2, batch_size=8, lr=0.01, weight_decay=0.01)
STUDENT = Student(model="test_resnet", kwargs=KWARGS, epochs=2, batch_size=8, lr=0.01)


def images(count: int, size: int = 8, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), np.uint8)


def split(count: int, seed: int = 0) -> Split:
    """Two classes told apart by their brightness alone."""
    labels = np.arange(count, dtype=np.int64) % 2
    dark = images(count, seed=seed) // 3
    return Split(dark + (150 * labels).astype(np.uint8)[:, None, None, None], labels)


def classifier(seed: int = 0, architecture: Architecture = ARCHITECTURE, info: Info = INFO) -> Classifier:
    torch.manual_seed(seed)
    return models.build(architecture, info).eval()


def data_params(**changes: Any) -> Data:
    defaults = {
        "source": "digits",
        "path": "images",
        "csv": "labels.csv",
        "unlabelled": str(EMPTY),
        "image_size": 8,
        "mode": "auto",
        "on_error": "fail",
        "val_fraction": 0.2,
        "test_fraction": 0.2,
    }
    return Data(**{**defaults, "train_samples": None, "class_weights": "none", **changes})
