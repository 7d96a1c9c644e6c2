"""A student, taught or not: every arm starts from the same weights and sees the same looks in the same order."""

from typing import Literal

import torch

from pipeline.distillation import objectives
from pipeline.params import Distill, Student, Views
from pipeline.project.data import Info, Split
from pipeline.project.randomness import derive
from pipeline.training import loop, models
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.loop import Loss, Targets, Trained
from pipeline.training.models import Classifier
from pipeline.training.ranks import ALONE, Ranks
from pipeline.training.views import Looks


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
    ranks: Ranks = ALONE,
    distill: Distill | None = None,
    targets: Targets | None = None,
    class_weights: Literal["none", "balanced"] = "none",
    compiled: bool = False,
    checkpoint: Checkpoint | None = None,
) -> tuple[Classifier, Trained]:
    """Train one student; without `targets` it is the control arm.

    Args:
        targets: the teacher's logits of the looks; see pipeline.logits.targets.reader.
        student_seed: of the initial weights and the order of samples, whatever the arm.
        class_weights: as `data.class_weights` in params.yaml.
    """
    torch.manual_seed(derive(seed, "student", student_seed))
    model = models.build(settings, info)
    weights = objectives.class_weights(class_weights, train.labels, len(info.classes))
    trained = loop.fit(
        model,
        train,
        val,
        settings,
        Looks.cached(views, seed),
        loss_of(distill, settings.label_smoothing, weights),
        device=device,
        seed=derive(seed, "student", student_seed),
        name=name,
        ranks=ranks,
        targets=targets,
        ids=None if distill and distill.teaches else train.labelled,
        compiled=compiled,
        checkpoint=checkpoint,
    )
    return model, trained


def loss_of(distill: Distill | None, smoothing: float, class_weights: torch.Tensor | None = None) -> Loss:
    """The labels' loss, joined by the teacher's term wherever there are targets and `distill` says how."""

    def loss(logits: torch.Tensor, labels: torch.Tensor, soft: torch.Tensor | None, progress: float) -> torch.Tensor:
        if distill is None or soft is None:
            return objectives.label_loss(logits, labels, smoothing, class_weights)
        return objectives.distillation_loss(
            logits, labels, soft, *distill.at(progress), smoothing, distill.objective, distill.weights, class_weights
        )

    return loss
