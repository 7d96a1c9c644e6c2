import math

import pytest
import torch

from pipeline.objectives import distillation_loss, label_loss, soft_loss

STUDENT = torch.tensor([[1.0, 0.0], [-0.5, 1.5]], dtype=torch.float64)
TEACHER = torch.tensor([[2.0, -1.0], [0.5, 0.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])


def random_logits(seed, scale=1.0, batch=16, classes=5):
    return scale * torch.randn(batch, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_distillation_loss_is_the_value_computed_by_hand():
    # One sample: softened probabilities sigmoid(0.5) and sigmoid(1.5) at T = 2, label probability sigmoid(1).
    student, teacher = 0.6224593312018546, 0.8175744761936437
    divergence = teacher * math.log(teacher / student) + (1 - teacher) * math.log((1 - teacher) / (1 - student))
    expected = 0.7 * 4 * divergence + 0.3 * -math.log(0.7310585786300049)
    loss = distillation_loss(STUDENT[:1], LABELS[:1], TEACHER[:1], alpha=0.7, temperature=2.0)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_loss_is_the_mean_over_the_batch():
    singles = [distillation_loss(STUDENT[[i]], LABELS[[i]], TEACHER[[i]], 0.7, 2.0).item() for i in range(2)]
    assert distillation_loss(STUDENT, LABELS, TEACHER, 0.7, 2.0).item() == pytest.approx(sum(singles) / 2, rel=1e-12)


def test_alpha_one_is_the_soft_term_alone():
    assert distillation_loss(STUDENT, LABELS, TEACHER, 1.0, 3.0).item() == soft_loss(STUDENT, TEACHER, 3.0).item()


def test_alpha_zero_is_the_label_loss_to_the_bit():
    assert torch.equal(distillation_loss(STUDENT, LABELS, TEACHER, 0.0, 3.0), label_loss(STUDENT, LABELS))


def test_alpha_zero_needs_no_teacher():
    assert torch.equal(distillation_loss(STUDENT, LABELS, None, 0.0, 3.0), label_loss(STUDENT, LABELS))


def test_smoothing_reaches_the_label_term():
    loss = distillation_loss(STUDENT, LABELS, TEACHER, 0.25, 3.0, smoothing=0.2)
    expected = 0.25 * soft_loss(STUDENT, TEACHER, 3.0) + 0.75 * label_loss(STUDENT, LABELS, 0.2)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


def test_smoothed_label_loss_is_cross_entropy_with_smoothed_labels():
    right, wrong = -math.log(0.7310585786300049), -math.log(1 - 0.7310585786300049)
    assert label_loss(STUDENT[:1], LABELS[:1], 0.2).item() == pytest.approx(0.9 * right + 0.1 * wrong, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_loss_vanishes_with_its_gradient_at_equality(temperature):
    logits = random_logits(0).requires_grad_()
    loss = soft_loss(logits, logits.detach().clone(), temperature)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert logits.grad.abs().max() < 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_soft_loss_is_positive_where_they_differ(seed):
    assert soft_loss(random_logits(seed), random_logits(seed + 100), 2.0) > 0


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_gradient_is_the_softened_difference_of_probabilities(temperature):
    logits, teacher = random_logits(1).requires_grad_(), random_logits(2)
    soft_loss(logits, teacher, temperature).backward()
    difference = torch.softmax(logits / temperature, 1) - torch.softmax(teacher / temperature, 1)
    torch.testing.assert_close(logits.grad, temperature * difference / len(logits))


def test_gradient_scale_is_nearly_free_of_temperature_for_small_logits():
    norms = []
    for temperature in (1.0, 4.0, 20.0):
        logits = random_logits(3, scale=0.02).requires_grad_()
        soft_loss(logits, random_logits(4, scale=0.02), temperature).backward()
        norms.append(logits.grad.norm().item())
    assert norms == pytest.approx([norms[0]] * 3, rel=0.02)


def test_a_shift_of_the_logits_changes_nothing():
    shifted = distillation_loss(STUDENT + 7.0, LABELS, TEACHER - 3.0, 0.6, 2.0)
    assert shifted.item() == pytest.approx(distillation_loss(STUDENT, LABELS, TEACHER, 0.6, 2.0).item(), rel=1e-12)


def test_log_probabilities_serve_as_teacher_logits():
    as_log_probs = soft_loss(STUDENT, torch.log_softmax(TEACHER, 1), 2.0)
    assert as_log_probs.item() == pytest.approx(soft_loss(STUDENT, TEACHER, 2.0).item(), rel=1e-12)
