"""What a taught student minimises, step by step."""

import torch
from torch import Tensor

from pipeline.distillation import objectives
from pipeline.params import Distill
from pipeline.training.loop import Loss
from pipeline.training.losses import label_loss


def taught_loss(distill: Distill, smoothing: float, class_weights: torch.Tensor | None) -> Loss:
    """The teacher's term and the labels' loss, weighted as `distill` says at each share of training.

    Args:
        smoothing, class_weights: of pipeline.training.losses.label_loss.
    """

    def loss(logits: Tensor, labels: Tensor, soft: Tensor | None, done: float) -> Tensor:
        alpha, temperature = distill.at(done)
        if alpha == 0:
            return label_loss(logits, labels, smoothing, class_weights)
        term = objectives.soft_term(distill.objective, logits, labels, soft, temperature, distill.weights)
        return term if alpha == 1 else alpha * term + (1 - alpha) * label_loss(logits, labels, smoothing, class_weights)

    return loss
