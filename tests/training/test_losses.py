import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from pipeline.project.data import UNLABELLED
from pipeline.training.losses import class_weights, label_loss, label_loss_alone

LOGITS = torch.tensor([[1.0, 0.0], [-0.5, 1.5]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])


def random_logits(seed):
    return torch.randn(16, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_smoothed_label_loss_is_cross_entropy_with_smoothed_labels():
    right, wrong = -math.log(0.7310585786300049), -math.log(1 - 0.7310585786300049)
    assert label_loss(LOGITS[:1], LABELS[:1], 0.2).item() == pytest.approx(0.9 * right + 0.1 * wrong, rel=1e-12)


@pytest.mark.parametrize("mixed", [False, True])
def test_an_image_without_a_label_adds_nothing_to_the_label_loss(mixed):
    logits, labels = random_logits(1), torch.arange(16) % 5
    shares = torch.nn.functional.one_hot(labels, 5).double()
    known, half = (shares if mixed else labels), torch.arange(16) < 8
    unknown = known.where(half[:, None], 0.0) if mixed else known.where(half, UNLABELLED)
    loss = label_loss(logits, unknown, smoothing=0.1)
    assert loss.item() == pytest.approx(label_loss(logits[:8], known[:8], smoothing=0.1).item() / 2, rel=1e-12)


def test_a_batch_without_any_label_has_a_label_loss_of_zero():
    assert label_loss(random_logits(1), torch.full((16,), UNLABELLED)).item() == 0


def test_balanced_class_weights_are_inverse_frequencies_with_mean_one_over_samples():
    labels = np.array([0] * 6 + [1] * 3 + [2] + [UNLABELLED] * 5)
    weights = class_weights("balanced", labels, 3)
    assert weights.tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert weights[torch.from_numpy(labels[:10])].mean().item() == pytest.approx(1)
    assert weights.tolist() == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=labels[:10]))


def test_no_class_weights_are_no_weights_and_leave_the_loss_to_the_bit():
    assert class_weights("none", LABELS.numpy(), 3) is None
    expected = F.cross_entropy(LOGITS, LABELS, reduction="sum", label_smoothing=0.1) / len(LABELS)
    assert torch.equal(label_loss(LOGITS, LABELS, 0.1, None), expected)


def test_a_class_weight_multiplies_the_loss_of_its_samples():
    weights = torch.arange(1.0, LOGITS.shape[1] + 1)
    each = F.cross_entropy(LOGITS, LABELS, reduction="none") * weights[LABELS]
    assert label_loss(LOGITS, LABELS, 0.0, weights).item() == pytest.approx(each.mean().item())
    shares = F.one_hot(LABELS, LOGITS.shape[1]).float()
    assert label_loss(LOGITS, shares, 0.0, weights).item() == pytest.approx(each.mean().item())


def test_weights_of_equal_classes_are_all_one():
    assert class_weights("balanced", np.arange(12) % 4, 4).tolist() == [1, 1, 1, 1]


def test_teachers_and_the_baseline_learn_by_that_loss_whatever_a_teacher_says():
    weights = torch.tensor([0.5, 2.0])
    expected = label_loss(LOGITS, LABELS, 0.1, weights)
    assert torch.equal(label_loss_alone(0.1, weights)(LOGITS, LABELS, None, 0.0), expected)
    assert torch.equal(label_loss_alone(0.1, weights)(LOGITS, LABELS, -LOGITS, 1.0), expected)
