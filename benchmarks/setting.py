"""What is measured: the fixed models on noise, whose speed depends on neither, and students on the prepared data."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import fixed
from pipeline import params
from pipeline.distillation.students import taught_loss
from pipeline.logits import targets
from pipeline.params import Distill, Model, Params
from pipeline.project import data, paths
from pipeline.project.data import Info, Split
from pipeline.project.randomness import derive
from pipeline.scoring import metrics
from pipeline.training import devices, losses, models
from pipeline.training.inference import precision, predict
from pipeline.training.loop import Lesson, Loss, Targets, Trainer, adamw
from pipeline.training.models import Classifier
from pipeline.training.views import Views

SIDE, CLASSES = 28, 10
INFO = Info([str(label) for label in range(CLASSES)], SIDE, [0.3], [0.3], {})


def start() -> tuple[Params, torch.device]:
    settings = params.load()
    return settings, devices.device(settings.compute)


def noise(samples: int) -> Split:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (samples, SIDE, SIDE, 1), np.uint8)
    return Split(images, random.integers(0, CLASSES, samples))


def teachers(device: torch.device) -> list[Classifier]:
    torch.manual_seed(1)
    return [models.build(teacher, INFO).to(device).eval() for teacher in fixed.TEACHERS.values()]


def views(settings: Params, count: int | None = None) -> Views:
    """Those that students see, or so many."""
    student_views = settings.student_views
    if count is not None:
        student_views = student_views.model_copy(update={"count": count})
    return Views.replayed(settings.views, student_views, 0)


def batches(samples: int, size: int, seed: int = 0) -> list[np.ndarray]:
    return np.array_split(np.random.default_rng(seed).permutation(samples), -(-samples // size))


def taught(rows: np.ndarray, settings: Params) -> Targets:
    return targets.reader(rows, (*rows.shape[:2], CLASSES), settings.distill.target_temperature)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Without what is printed."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@dataclass
class Stepper:
    """A student and its optimizer, as pipeline.training.loop has them: one step at a time, or its whole loop."""

    settings: Params
    device: torch.device
    model: Classifier
    optimizer: torch.optim.Optimizer

    @classmethod
    def of(cls, settings: Params, device: torch.device) -> "Stepper":
        torch.manual_seed(0)
        model = models.build(fixed.student(settings), INFO).to(device).train()
        student = settings.student.model_copy(update={"lr": 1e-4, "layer_decay": 1.0})
        return cls(settings, device, model, adamw(model, student))

    def step(self, images: Tensor, labels: Tensor, soft: Tensor) -> None:
        with precision(self.model, self.device):
            logits = self.model(images)
        loss = loss_of(self.settings.distill)(logits, labels, soft, 0.0)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def train(
        self, split: Split, seed: int = 0, epochs: int = 1, taught_by: Targets | None = None, compiled: bool = False
    ) -> None:
        """The pipeline's own training loop, its val split a single batch."""
        loss = loss_of(self.settings.distill if taught_by else None)
        lesson = Lesson(split, split.labelled, views(self.settings), loss, taught_by)
        brief = self.settings.student.model_copy(update={"epochs": epochs, "lr": 1e-4})
        trainer = Trainer(self.model, brief, lesson, self.device, seed=seed, name="student")
        with silence():
            trainer.fit(Split(split.images[:128], split.labels[:128]), compiled=compiled)


def loss_of(distill: Distill | None, smoothing: float = 0.0, class_weights: Tensor | None = None) -> Loss:
    """Of a taught student, or of one alone."""
    if distill is None:
        return losses.label_loss_alone(smoothing, class_weights)
    return taught_loss(distill, smoothing, class_weights)


@dataclass(frozen=True)
class Prepared:
    """The prepared data of the last `make repro`, and the device."""

    settings: Params
    info: Info
    train: Split
    val: Split
    device: torch.device

    @classmethod
    def open(cls, settings: Params, device: torch.device) -> "Prepared":
        train, val = (data.open_split(paths.PREPARED, split) for split in ("train", "val"))
        return cls(settings, data.open_info(paths.PREPARED), train, val, device)

    def train_student(
        self,
        student: Model,
        student_seed: int,
        name: str,
        views: Views,
        distill: Distill | None = None,
        taught_by: Targets | None = None,
    ) -> np.ndarray:
        """(samples, classes) log-probabilities on val of a student that is trained as stages.distill trains one.

        Args:
            distill, taught_by: None trains it as stages.train_baseline does.
        """
        seed = derive(self.settings.seed, "student", student_seed)
        weights = losses.class_weights(self.settings.loss.class_weights, self.train.labels, len(self.info.classes))
        ids = np.arange(len(self.train), dtype=np.int32) if distill and distill.teaches else self.train.labelled
        lesson = Lesson(self.train, ids, views, loss_of(distill, student.label_smoothing, weights), taught_by)
        torch.manual_seed(seed)
        model = models.build(student, self.info)
        Trainer(model, student, lesson, self.device, seed=seed, name=name).fit(self.val)
        return metrics.log_softmax(predict(model, self.val.images, self.device, exact=True))
