"""What a taught student minimises, step by step."""

import torch
from torch import Tensor

from pipeline.distillation import objectives
from pipeline.params import OBJECTIVE_WEIGHTS, Distill
from pipeline.project.errors import PipelineError
from pipeline.training.loop import Loss
from pipeline.training.losses import label_loss

LEFT_OF_TWO = {"standardised_kd": None, "dkd": "target", "dist": "intra", "logit_dist": "intra"}


def check_classes(distill: Distill, classes: int) -> None:
    """Refuse what has no gradient with so few classes.

    Two logits are the same two numbers once they are standardised; two numbers always correlate; one other class has
    all of the rest. LEFT_OF_TWO has the objectives with such terms, and the weight of the term that two classes leave.

    Raises:
        PipelineError: with two classes, nothing of the objective is left.
    """
    if classes > 2 or distill.objective not in LEFT_OF_TWO:
        return
    left = LEFT_OF_TWO[distill.objective]
    if not (OBJECTIVE_WEIGHTS.get(distill.objective, {}) | distill.weights).get(left):
        raise PipelineError(
            f"`distill.objective` is {distill.objective}, which has no gradient with two classes"
            f"{f' where `distill.weights.{left}` is 0' if left else ''}; choose another one, such as kd."
        )


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
