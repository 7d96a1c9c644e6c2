"""The fixed models with random weights, on images of noise: speed depends on neither."""

import contextlib
import io
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks import fixed
from pipeline import params
from pipeline.distillation import students
from pipeline.logits import targets
from pipeline.params import Params
from pipeline.project.data import Info, Split
from pipeline.training import devices, loop, models
from pipeline.training.loop import Targets
from pipeline.training.models import Classifier
from pipeline.training.views import Looks

SIDE, CLASSES = 28, 10
INFO = Info([str(label) for label in range(CLASSES)], SIDE, [0.3], [0.3], {})


def noise(samples: int) -> Split:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (samples, SIDE, SIDE, 1), np.uint8)
    return Split(images, random.integers(0, CLASSES, samples))


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
        groups = loop.decayed_groups(model, settings.student.weight_decay)
        return cls(settings, device, model, torch.optim.AdamW(groups, lr=1e-4, fused=True))

    def loss(self, logits: Tensor, labels: Tensor, soft: Tensor | None, progress: float = 0.0) -> Tensor:
        return students.loss_of(self.settings.distill, smoothing=0.0)(logits, labels, soft, progress)

    def step(self, images: Tensor, labels: Tensor, soft: Tensor | None) -> None:
        with loop.precision(self.model, self.device):
            logits = self.model(images)
        loss = self.loss(logits, labels, soft)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def train(
        self, split: Split, seed: int = 0, epochs: int = 1, taught_by: Targets | None = None, compiled: bool = False
    ) -> None:
        """The pipeline's own training loop, its val split a single batch."""
        with contextlib.redirect_stdout(io.StringIO()):
            loop.fit(
                self.model,
                split,
                Split(split.images[:128], split.labels[:128]),
                self.settings.student.model_copy(update={"epochs": epochs, "lr": 1e-4}),
                looks(self.settings),
                self.loss,
                device=self.device,
                seed=seed,
                name="student",
                targets=taught_by,
                compiled=compiled,
            )


def start() -> tuple[Params, torch.device]:
    settings = params.load()
    return settings, devices.device(settings.compute)


def teachers(device: torch.device) -> list[Classifier]:
    torch.manual_seed(1)
    return [models.build(teacher, INFO).to(device).eval() for teacher in fixed.TEACHERS.values()]


def looks(settings: Params) -> Looks:
    return Looks(settings.views, 0, settings.views.count)


def batches(samples: int, size: int, seed: int = 0) -> list[np.ndarray]:
    return np.array_split(np.random.default_rng(seed).permutation(samples), -(-samples // size))


def taught(rows: np.ndarray, settings: Params) -> Targets:
    return targets.reader(rows, (*rows.shape[:2], CLASSES), settings.distill.temperature)
