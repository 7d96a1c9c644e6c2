"""What a student minimises. Every objective takes logits and returns a scalar, the mean over the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.params import OBJECTIVE_WEIGHTS
from pipeline.project.data import UNLABELLED
from pipeline.project.errors import PipelineError


def soft_term(
    objective: str,
    logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    weights: dict[str, float],
) -> Tensor:
    """The term that a teacher adds, by its name and with its weights as params.yaml has them."""
    weights = OBJECTIVE_WEIGHTS.get(objective, {}) | weights
    match objective:
        case "kd":
            return kd(logits, teacher_logits, temperature)
        case "standardised_kd":
            return standardised_kd(logits, teacher_logits, temperature)
        case "dkd":
            return dkd(logits, labels, teacher_logits, temperature, **weights)
        case "dist":
            return dist(logits, teacher_logits, temperature, **weights)
        case "logit_dist":
            return logit_dist(logits, teacher_logits, **weights)
        case "mse":
            return mse(logits, teacher_logits)
        case "soft_ce":
            return soft_ce(logits, teacher_logits)
    raise PipelineError(f"`{objective}` is no objective of distillation.")


def kd(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher_T ‖ student_T): Hinton et al. 2015, "Distilling the knowledge in a neural network".

    T² keeps the gradient's scale nearly free of T.
    """
    student = F.log_softmax(logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def standardised_kd(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """kd on logits that have mean 0 and standard deviation 1 in each sample, the student's as the teacher's.

    Sun et al. 2024, "Logit standardization in knowledge distillation": the student need not match the teacher's scale.
    """
    return kd(_standardised(logits), _standardised(teacher_logits), temperature)


def dkd(
    logits: Tensor, labels: Tensor, teacher_logits: Tensor, temperature: float, target: float, others: float
) -> Tensor:
    """T² · (target · TCKD + others · NCKD): Zhao et al. 2022, "Decoupled knowledge distillation", eq. 7.

    TCKD compares how probable the label is, NCKD how the other classes share the rest. kd is the two with
    target = 1 and others = the teacher's probability that it is not the label, sample by sample.

    An image without a label has the teacher's first choice in its place.
    """
    if labels.ndim == 2:
        labels = labels.argmax(dim=1).where(labels.sum(dim=1) > 0, UNLABELLED)
    labels = labels.where(labels != UNLABELLED, teacher_logits.argmax(dim=1))
    ours, theirs = (F.log_softmax(each / temperature, dim=1) for each in (logits, teacher_logits))
    label = F.one_hot(labels, logits.shape[1]).bool()

    def binary(log_probs: Tensor) -> Tensor:
        rest = torch.logsumexp(log_probs.masked_fill(label, -torch.inf), dim=1)
        return torch.stack([log_probs[label], rest], dim=1)

    def shared(log_probs: Tensor) -> Tensor:
        return F.log_softmax(log_probs[~label].view(len(labels), -1), dim=1)

    def divergence(ours: Tensor, theirs: Tensor) -> Tensor:
        return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)

    tckd = divergence(binary(ours), binary(theirs))
    nckd = divergence(shared(ours), shared(theirs))
    return temperature**2 * (target * tckd + others * nckd)


def dist(logits: Tensor, teacher_logits: Tensor, temperature: float, inter: float, intra: float) -> Tensor:
    """T² · (inter · d(rows) + intra · d(columns)) of softmax(logits / T), d being one minus the mean correlation.

    Huang et al. 2022, "Knowledge distillation from a stronger teacher", eqs. 9 to 11, with Pearson's correlation: the
    student learns how classes relate within a sample, and samples of the batch within a class.
    """
    ours, theirs = ((each / temperature).softmax(dim=1) for each in (logits, teacher_logits))
    return temperature**2 * _unrelated(ours, theirs, inter, intra)


def logit_dist(logits: Tensor, teacher_logits: Tensor, inter: float, intra: float) -> Tensor:
    """`dist` of logits, centred in each sample, in place of softened probabilities.

    Neither their scale nor their shift costs anything, and there is no temperature.
    """
    ours, theirs = (each - each.mean(dim=1, keepdim=True) for each in (logits, teacher_logits))
    return _unrelated(ours, theirs, inter, intra)


def mse(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Half the squared distance of the logits: Ba and Caruana 2014, "Do deep nets really need to be deep?", eq. 1.

    Softmax does not see a shift, so both are centred first; an ensemble's log-probabilities so serve as logits.
    """
    difference = logits - teacher_logits
    difference = difference - difference.mean(dim=1, keepdim=True)
    return (difference**2).sum(dim=1).mean() / 2


def soft_ce(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross entropy against the teacher's probabilities at T = 1: Beyer et al. 2022, "A good teacher is patient"."""
    return F.cross_entropy(logits, teacher_logits.softmax(dim=1))


def _standardised(logits: Tensor) -> Tensor:
    centred = logits - logits.mean(dim=1, keepdim=True)
    return centred / (logits.std(dim=1, keepdim=True) + 1e-7)


def _unrelated(ours: Tensor, theirs: Tensor, inter: float, intra: float) -> Tensor:
    rows, columns = 1 - _correlation(ours, theirs).mean(), 1 - _correlation(ours.T, theirs.T).mean()
    return inter * rows + intra * columns


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """(rows,) Pearson correlations of the rows of two matrices."""
    first, second = (each - each.mean(dim=1, keepdim=True) for each in (first, second))
    return F.cosine_similarity(first, second, dim=1)
