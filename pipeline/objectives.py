"""What a student minimises. Every objective takes logits and returns a scalar, the mean over the batch."""

import torch.nn.functional as F
from torch import Tensor


def label_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross entropy against labels, smoothed as in Szegedy et al. 2016.

    Args:
        logits: (batch, classes) float. labels: (batch,) int64.
    """
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def soft_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher_T ‖ student_T), the soft term of Hinton et al. 2015, "Distilling the knowledge in a network".

    T² keeps the gradient's scale nearly free of T.

    Args:
        logits, teacher_logits: (batch, classes) float; log-probabilities serve as logits.
    """
    student = F.log_softmax(logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def distillation_loss(
    logits: Tensor, labels: Tensor, teacher_logits: Tensor, alpha: float, temperature: float, smoothing: float = 0.0
) -> Tensor:
    """alpha · soft_loss + (1 - alpha) · label_loss; alpha = 0 is the label loss itself."""
    if alpha == 0:
        return label_loss(logits, labels, smoothing)
    soft = soft_loss(logits, teacher_logits, temperature)
    return alpha * soft + (1 - alpha) * label_loss(logits, labels, smoothing)
