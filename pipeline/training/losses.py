"""The labels' loss, which teachers and students share."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.project.data import UNLABELLED


def class_weights(kind: Literal["none", "balanced"], labels: np.ndarray, classes: int) -> Tensor | None:
    """(classes,) float32: each class's weight in `label_loss`, by how rare it is; its mean over the samples is 1.

    Args:
        kind: as `loss.class_weights` in params.yaml. labels: (samples,) int64, of all training images, or UNLABELLED.
    """
    if kind == "none":
        return None
    counts = np.bincount(labels[labels != UNLABELLED], minlength=classes)
    return torch.from_numpy((counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32))


def label_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0, class_weights: Tensor | None = None) -> Tensor:
    """Cross entropy against labels, smoothed as in Szegedy et al. 2016; an image without a label adds nothing.

    Args:
        logits: (batch, classes) float. labels: (batch,) int64, or (batch, classes) float shares of mixed images.
        class_weights: (classes,) float, what each class's term is multiplied by; None: nothing.
    """
    if class_weights is not None:
        class_weights = class_weights.to(logits.device, logits.dtype)
    if labels.ndim == 2:
        labels = (1 - smoothing) * labels + smoothing * labels.mean(dim=1, keepdim=True)
        return F.cross_entropy(logits, labels, weight=class_weights)
    total = F.cross_entropy(
        logits, labels, class_weights, ignore_index=UNLABELLED, reduction="sum", label_smoothing=smoothing
    )
    return total / len(labels)


def label_loss_alone(
    smoothing: float, class_weights: Tensor | None
) -> Callable[[Tensor, Tensor, Tensor | None, float], Tensor]:
    """`label_loss` as pipeline.training.loop wants it: of teachers and of the baseline."""
    return lambda logits, labels, soft, done: label_loss(logits, labels, smoothing, class_weights)
