import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp

from pipeline.distillation.objectives import kd
from pipeline.logits import topk
from pipeline.project.errors import PipelineError


def peaked(samples: int, classes: int, tail: float, temperature: float = 1.0, spread: float = 0.5) -> np.ndarray:
    """Logits whose ten largest hold all but `tail` of the mass at `temperature`; the rest is normal."""
    random = np.random.default_rng(0)
    logits = random.normal(0, spread, (samples, classes))
    rest = logsumexp(logits[:, 10:] / temperature, axis=1)
    top = random.normal(0, 2, (samples, 10))
    top -= temperature * logsumexp(top / temperature, axis=1)[:, None]
    logits[:, :10] = top + temperature * (rest - np.log(tail / (1 - tail)))[:, None]
    return logits


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 40), st.data(), st.integers(0, 99))
def test_the_softmax_of_the_k_largest_is_exact(classes, data, seed):
    k = data.draw(st.integers(1, classes - 1))
    logits = np.random.default_rng(seed).normal(0, 3, (5, classes)).astype(np.float16).astype(np.float32)
    decoded = topk.decode(topk.encode(logits, k), classes)
    top = np.argsort(-logits, axis=1)[:, :k]
    expected = np.take_along_axis(log_softmax(logits, axis=1), top, axis=1)
    given_back = np.take_along_axis(log_softmax(decoded, axis=1), top, axis=1)
    np.testing.assert_allclose(given_back, expected, atol=2e-2 if k == classes - 1 else 5e-3)


def test_a_row_by_hand():
    rows = topk.encode(np.log(np.array([[0.5, 0.1, 0.3, 0.1]])), 2)
    assert set(rows["classes"][0]) == {0, 2}
    assert rows["rest"][0] == pytest.approx(np.log(0.2))
    np.testing.assert_allclose(np.exp(topk.decode(rows, 4)), [[0.5, 0.1, 0.3, 0.1]], rtol=2e-3)


def test_at_1000_classes_ten_of_them_take_at_most_48_bytes():
    rows = topk.encode(peaked(3, 1000, 0.01), 10)
    assert rows.nbytes / len(rows) <= 48


def test_without_top_k_rows_are_all_logits_in_float16():
    logits = np.array([[1.0, -2.5]])
    rows = topk.encode(logits, None)
    assert (rows.dtype, rows.shape) == (np.float16, (1, 2))
    assert topk.decode(rows, 2).dtype == np.float32
    np.testing.assert_array_equal(topk.decode(rows, 2), logits)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_distillation_agrees_with_full_logits_where_the_rest_is_small(temperature):
    teacher = peaked(500, 1000, 0.008, temperature)
    student = torch.from_numpy(0.7 * teacher + np.random.default_rng(1).normal(0, 0.5, teacher.shape)).float()
    decoded = topk.decode(topk.encode(teacher, 10), 1000, temperature)
    full = kd(student, torch.from_numpy(teacher).float(), temperature)
    assert float(kd(student, torch.from_numpy(decoded), temperature)) == pytest.approx(float(full), abs=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_so_do_its_gradients(temperature):
    teacher = peaked(500, 1000, 0.008, temperature)
    student = torch.zeros(teacher.shape, requires_grad=True)
    decoded = topk.decode(topk.encode(teacher, 10), 1000, temperature)
    gradients = [
        torch.autograd.grad(kd(student, torch.from_numpy(target).float(), temperature), student)[0]
        for target in (teacher, decoded)
    ]
    assert (gradients[0] - gradients[1]).norm() < 1e-2 * gradients[0].norm()


@pytest.mark.parametrize("top_k", [3, 4])
def test_as_many_as_there_are_classes_is_refused(top_k):
    with pytest.raises(PipelineError, match=f"`logits.top_k` is {top_k}, but there are only 3 classes"):
        topk.encode(np.zeros((1, 3)), top_k)


@pytest.mark.parametrize("value", [1e6, -1e6, np.inf, np.nan])
@pytest.mark.parametrize("top_k", [None, 1])
def test_what_does_not_fit_into_float16_is_refused(value, top_k):
    with pytest.raises(PipelineError, match="float16"):
        topk.encode(np.array([[0.0, value, 1.0]]), top_k)


def test_many_classes_keep_their_numbers():
    logits = np.zeros((1, 70_000), np.float32)
    logits[0, 69_999] = 9
    assert topk.decode(topk.encode(logits, 1), 70_000).argmax() == 69_999
