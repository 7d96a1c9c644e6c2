"""A student, taught or not: every arm starts from the same weights and sees the same looks in the same order."""

import numpy as np
import torch

from pipeline import models, objectives, topk, training
from pipeline.data import Info, Split
from pipeline.errors import PipelineError
from pipeline.models import Classifier
from pipeline.params import Distill, Student, Views
from pipeline.randomness import derive
from pipeline.training import Looks, Trained


def view_seed(seed: int) -> int:
    """The seed of the looks that students see and that teachers' logits are cached for."""
    return derive(seed, "views")


def train_student(
    info: Info,
    train: Split,
    val: Split,
    settings: Student,
    views: Views,
    *,
    seed: int,
    student_seed: int,
    device: torch.device,
    name: str,
    distill: Distill | None = None,
    targets: np.ndarray | None = None,
    compiled: bool = False,
) -> tuple[Classifier, Trained]:
    """Train one student; without `targets` it is the control arm.

    Args:
        targets: (looks, samples, ...) the teacher's log-probabilities of the cached looks, as pipeline.topk encodes.
        student_seed: of the initial weights and the order of samples, whatever the arm.
    """
    alpha, temperature = (distill.alpha, distill.temperature) if distill and targets is not None else (0.0, 1.0)
    if targets is not None:
        shape = targets.shape if targets.dtype.names is None else (*targets.shape, len(info.classes))
        expected = (views.count, len(train), len(info.classes))
        if shape != expected:
            raise PipelineError(f"The targets of `{name}` have shape {shape}; `views` and the data need {expected}.")
    torch.manual_seed(derive(seed, "student", student_seed))
    model = models.build(settings, info)

    def loss(logits: torch.Tensor, labels: torch.Tensor, soft: torch.Tensor | None) -> torch.Tensor:
        return objectives.distillation_loss(logits, labels, soft, alpha, temperature, settings.label_smoothing)

    def teacher_logits(view: int, ids: np.ndarray) -> np.ndarray:
        return topk.decode(targets[view][ids], len(info.classes), temperature)

    trained = training.fit(
        model,
        train,
        val,
        settings,
        Looks(views, view_seed(seed), views.count),
        loss,
        device=device,
        seed=derive(seed, "student", student_seed),
        name=name,
        targets=None if targets is None else teacher_logits,
        compiled=compiled,
    )
    return model, trained
