import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import pearsonr, zscore

from pipeline.distillation.objectives import dist, dkd, kd, logit_dist, mse, soft_ce, soft_term, standardised_kd
from pipeline.params import Distill
from pipeline.project.data import UNLABELLED
from pipeline.project.errors import PipelineError

STUDENT = torch.tensor([[1.0, 0.0], [-0.5, 1.5]], dtype=torch.float64)
TEACHER = torch.tensor([[2.0, -1.0], [0.5, 0.0]], dtype=torch.float64)


def random_logits(seed, scale=1.0, batch=16, classes=5):
    return scale * torch.randn(batch, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kd_vanishes_with_its_gradient_at_equality(temperature):
    logits = random_logits(0).requires_grad_()
    loss = kd(logits, logits.detach().clone(), temperature)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert logits.grad.abs().max() < 1e-12


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_gradient_is_the_softened_difference_of_probabilities(temperature):
    logits, teacher = random_logits(1).requires_grad_(), random_logits(2)
    kd(logits, teacher, temperature).backward()
    difference = torch.softmax(logits / temperature, 1) - torch.softmax(teacher / temperature, 1)
    torch.testing.assert_close(logits.grad, temperature * difference / len(logits))


def test_gradient_scale_is_nearly_free_of_temperature_for_small_logits():
    norms = []
    for temperature in (1.0, 4.0, 20.0):
        logits = random_logits(3, scale=0.02).requires_grad_()
        kd(logits, random_logits(4, scale=0.02), temperature).backward()
        norms.append(logits.grad.norm().item())
    assert norms == pytest.approx([norms[0]] * 3, rel=0.02)


def test_a_shift_of_the_logits_changes_nothing_so_log_probabilities_serve_as_the_teachers():
    as_log_probs = kd(STUDENT + 7.0, torch.log_softmax(TEACHER, 1), 2.0)
    assert as_log_probs.item() == pytest.approx(kd(STUDENT, TEACHER, 2.0).item(), rel=1e-12)


SOFT_TERMS = {
    "kd": lambda student, teacher, labels: kd(student, teacher, 3.0),
    "standardised_kd": lambda student, teacher, labels: standardised_kd(student, teacher, 3.0),
    "dkd": lambda student, teacher, labels: dkd(student, labels, teacher, 3.0, 1.0, 8.0),
    "dist": lambda student, teacher, labels: dist(student, teacher, 3.0, 1.0, 1.0),
    "logit_dist": lambda student, teacher, labels: logit_dist(student, teacher, 1.0, 1.0),
    "mse": lambda student, teacher, labels: mse(student, teacher),
    "soft_ce": lambda student, teacher, labels: soft_ce(student, teacher),
}


@pytest.mark.parametrize("name", SOFT_TERMS)
def test_every_soft_term_has_no_gradient_at_equality(name):
    logits, labels = random_logits(0).requires_grad_(), torch.arange(16) % 5
    SOFT_TERMS[name](logits, logits.detach().clone(), labels).backward()
    assert logits.grad.abs().max() < 1e-9


@pytest.mark.parametrize("name", SOFT_TERMS)
def test_every_soft_term_is_lowest_at_equality(name):
    teacher, labels = random_logits(1), torch.arange(16) % 5
    best = SOFT_TERMS[name](teacher, teacher, labels)
    for seed in range(2, 6):
        assert SOFT_TERMS[name](teacher + 0.3 * random_logits(seed), teacher, labels) > best


@pytest.mark.parametrize("name", SOFT_TERMS)
def test_every_soft_term_is_found_by_its_name(name):
    student, teacher, labels = random_logits(1), random_logits(2), torch.arange(16) % 5
    loss = soft_term(name, student, labels, teacher, 3.0, {})
    assert loss.item() == pytest.approx(SOFT_TERMS[name](student, teacher, labels).item(), rel=1e-12)


def test_weights_reach_their_objective():
    student, teacher, labels = random_logits(1), random_logits(2), torch.arange(16) % 5
    loss = soft_term("dkd", student, labels, teacher, 2.0, {"others": 0.5})
    assert loss.item() == pytest.approx(dkd(student, labels, teacher, 2.0, 1.0, 0.5).item(), rel=1e-12)


def test_an_unknown_objective_is_refused():
    with pytest.raises(PipelineError, match="`magic`"):
        soft_term("magic", STUDENT, torch.tensor([0, 1]), TEACHER, 2.0, {})


def test_dkd_with_the_teachers_own_weights_is_kd():
    """KD = TCKD + (1 - p_label) NCKD, sample by sample (Zhao et al. 2022, eq. 6)."""
    student, teacher, labels, temperature = random_logits(3), random_logits(4, scale=2.0), torch.arange(16) % 5, 2.0
    others = 1 - (teacher / temperature).softmax(dim=1)[torch.arange(16), labels]
    singles = [
        dkd(student[[i]], labels[[i]], teacher[[i]], temperature, 1.0, float(others[i])).item() for i in range(16)
    ]
    assert sum(singles) / 16 == pytest.approx(kd(student, teacher, temperature).item(), rel=1e-9)


def test_dkd_by_hand():
    # Teacher (0.5, 0.3, 0.2) and student (0.4, 0.4, 0.2), the label is the first.
    teacher, student = (torch.tensor([row], dtype=torch.float64).log() for row in ([0.5, 0.3, 0.2], [0.4, 0.4, 0.2]))
    target = 0.5 * math.log(0.5 / 0.4) + 0.5 * math.log(0.5 / 0.6)
    others = 0.6 * math.log(0.6 / (2 / 3)) + 0.4 * math.log(0.4 / (1 / 3))
    loss = dkd(student, torch.tensor([0]), teacher, 1.0, 1.5, 4.0)
    assert loss.item() == pytest.approx(1.5 * target + 4.0 * others, rel=1e-12)


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (1.0, 5.0), (0.2, -7.0)])
def test_logit_dist_does_not_see_scale_and_shift_of_the_logits(scale, shift):
    student, teacher = random_logits(5), random_logits(6)
    moved = logit_dist(scale * student + shift, teacher, 1.0, 2.0)
    assert moved.item() == pytest.approx(logit_dist(student, teacher, 1.0, 2.0).item(), rel=1e-9)


def unrelated(ours, theirs):
    """One minus the mean Pearson correlation of the rows."""
    return 1 - np.mean([pearsonr(a, b).statistic for a, b in zip(ours, theirs, strict=True)])


def by_dist(student, teacher, labels, temperature):
    ours, theirs = (softmax(each / temperature, axis=1) for each in (student, teacher))
    return temperature**2 * (2 * unrelated(ours, theirs) + 3 * unrelated(ours.T, theirs.T))


def by_logit_dist(student, teacher, labels, temperature):
    ours, theirs = (each - each.mean(axis=1, keepdims=True) for each in (student, teacher))
    return 2 * unrelated(ours, theirs) + 3 * unrelated(ours.T, theirs.T)


def by_kd(student, teacher, labels, temperature):
    ours, theirs = (softmax(each / temperature, axis=1) for each in (student, teacher))
    return temperature**2 * rel_entr(theirs, ours).sum(axis=1).mean()


def by_standardised_kd(student, teacher, labels, temperature):
    return by_kd(*(zscore(each, axis=1, ddof=1) for each in (student, teacher)), labels, temperature)


def by_dkd(student, teacher, labels, temperature):
    total = 0.0
    for ours, theirs, label in zip(student / temperature, teacher / temperature, labels, strict=True):
        p, q = softmax(theirs), softmax(ours)
        target = rel_entr([p[label], 1 - p[label]], [q[label], 1 - q[label]]).sum()
        p, q = np.delete(p, label), np.delete(q, label)
        total += 2 * target + 3 * rel_entr(p / p.sum(), q / q.sum()).sum()
    return temperature**2 * total / len(labels)


def by_mse(student, teacher, labels, temperature):
    """The least over all shifts: what is left is the variance of the difference."""
    return student.shape[1] * np.var(student - teacher, axis=1).mean() / 2


def by_soft_ce(student, teacher, labels, temperature):
    return -(softmax(teacher, axis=1) * log_softmax(student, axis=1)).sum(axis=1).mean()


BY_SCIPY = {
    "kd": (by_kd, {}),
    "standardised_kd": (by_standardised_kd, {}),
    "dkd": (by_dkd, {"target": 2.0, "others": 3.0}),
    "dist": (by_dist, {"inter": 2.0, "intra": 3.0}),
    "logit_dist": (by_logit_dist, {"inter": 2.0, "intra": 3.0}),
    "mse": (by_mse, {}),
    "soft_ce": (by_soft_ce, {}),
}


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("name", get_args(Distill.model_fields["objective"].annotation))
def test_every_objective_is_its_papers_as_scipy_computes_it(name, temperature):
    student, teacher = (random_logits(seed, scale=2.0, batch=64, classes=10) for seed in (7, 8))
    expected, weights = BY_SCIPY[name]
    labels = torch.arange(64) % 10
    loss = soft_term(name, student, labels, teacher, temperature, weights)
    assert loss.item() == pytest.approx(
        expected(student.numpy(), teacher.numpy(), labels.numpy(), temperature), rel=1e-5
    )


def test_dist_by_hand():
    """Rows (0.5, 0.3, 0.2) and (0.2, 0.3, 0.5) against (0.2, 0.3, 0.5) twice, at temperature 2."""
    rows = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]], dtype=torch.float64)
    student, teacher = 2 * rows.log(), 2 * rows[[1, 1]].log()
    # centred: (1, -0.2, -0.8) / 6 and (-0.8, -0.2, 1) / 6, whose correlation is (-0.8 + 0.04 - 0.8) / 1.68
    first = (-0.8 + 0.04 - 0.8) / 1.68
    assert dist(student, teacher, 2.0, 1.0, 0.0).item() == pytest.approx(4 * (1 - (first + 1) / 2), rel=1e-9)
    # the first class grows by 0.3 where the other teacher's falls by 0.3; the middle one is constant: no correlation
    crossed = dist(student, 2 * rows[[1, 0]].log(), 2.0, 0.0, 1.0)
    assert crossed.item() == pytest.approx(4 * (1 - (-1 + 0 - 1) / 3), rel=1e-9)


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (1.0, 5.0), (0.2, -7.0)])
def test_standardised_kd_does_not_see_scale_and_shift_of_the_logits(scale, shift):
    student, teacher = random_logits(5), random_logits(6)
    moved = standardised_kd(scale * student + shift, teacher, 2.0)
    assert moved.item() == pytest.approx(standardised_kd(student, teacher, 2.0).item(), rel=1e-5)


def test_standardised_kd_is_kd_of_z_scores():
    student, teacher = random_logits(5), random_logits(6)
    z_scores = [torch.from_numpy(zscore(each.numpy(), axis=1, ddof=1)) for each in (student, teacher)]
    assert standardised_kd(student, teacher, 2.0).item() == pytest.approx(kd(*z_scores, 2.0).item(), rel=1e-5)


def test_mse_by_hand_and_free_of_shifts():
    # centred: (0.5, -0.5) against (1.5, -1.5), and (-1, 1) against (0.25, -0.25)
    expected = ((1.0 + 1.0) + (1.25**2 + 1.25**2)) / 2 / 2
    assert mse(STUDENT, TEACHER).item() == pytest.approx(expected, rel=1e-12)
    assert mse(STUDENT + 4.0, torch.log_softmax(TEACHER, 1)).item() == pytest.approx(expected, rel=1e-12)


def test_soft_ce_is_kd_at_temperature_one_plus_the_teachers_entropy():
    student, teacher = random_logits(1), random_logits(2)
    entropy = torch.distributions.Categorical(logits=teacher).entropy().mean()
    assert soft_ce(student, teacher).item() == pytest.approx((kd(student, teacher, 1.0) + entropy).item(), rel=1e-12)


def test_dkd_takes_the_teachers_first_choice_where_there_is_no_label():
    student, teacher = random_logits(1), random_logits(2)
    unknown, chosen = torch.full((16,), UNLABELLED), teacher.argmax(dim=1)
    expected = dkd(student, chosen, teacher, 2.0, 1.0, 8.0)
    assert torch.equal(dkd(student, unknown, teacher, 2.0, 1.0, 8.0), expected)
    assert torch.equal(dkd(student, torch.zeros(16, 5), teacher, 2.0, 1.0, 8.0), expected)
