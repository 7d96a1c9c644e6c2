import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, balanced_accuracy_score, brier_score_loss, confusion_matrix, log_loss

from pipeline.scoring import metrics

seeds = st.integers(0, 2**32 - 1)


def scored(seed, samples=200, classes=5, scale=2.0):
    rng = np.random.default_rng(seed)
    log_probs = scipy.special.log_softmax(rng.normal(0, scale, (samples, classes)), axis=1)
    return log_probs, rng.integers(0, classes, samples)


def naive_ece(log_probs, labels, bins):
    confidence, hit = np.exp(log_probs).max(axis=1), log_probs.argmax(axis=1) == labels
    total = 0.0
    for index in range(bins):
        inside = [i for i, value in enumerate(confidence) if index / bins < value <= (index + 1) / bins]
        if inside:
            total += len(inside) / len(labels) * abs(np.mean(hit[inside]) - np.mean(confidence[inside]))
    return total


@settings(max_examples=30, deadline=None)
@given(arrays(np.float64, (4, 3), elements=st.floats(-1e5, 1e5)))
def test_log_softmax_agrees_with_scipy(logits):
    np.testing.assert_allclose(metrics.log_softmax(logits), scipy.special.log_softmax(logits, axis=-1), atol=1e-9)


def test_log_softmax_of_half_precision_is_computed_in_float64():
    logits = np.array([[0.5, 60_000, -60_000]], np.float16)
    log_probs = metrics.log_softmax(logits)
    assert log_probs.dtype == np.float64
    np.testing.assert_allclose(log_probs, scipy.special.log_softmax(logits.astype(np.float64), axis=-1))


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_nll_agrees_with_sklearn(seed):
    log_probs, labels = scored(seed)
    expected = log_loss(labels, np.exp(log_probs), labels=range(5))
    assert metrics.nll(log_probs, labels) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 20), st.floats(0.1, 8))
def test_ece_agrees_with_a_naive_loop(seed, bins, scale):
    log_probs, labels = scored(seed, scale=scale)
    assert metrics.ece(log_probs, labels, bins) == pytest.approx(naive_ece(log_probs, labels, bins), abs=1e-9)


def test_a_bin_holds_its_upper_edge():
    rows = metrics.reliability(np.log([[0.5, 0.5], [0.75, 0.25]]), np.array([0, 0]), bins=2)
    assert [row["confidence"] for row in rows] == pytest.approx([0.5, 0.75])


def test_ece_is_zero_where_confidence_is_accuracy():
    log_probs = np.log(np.tile([0.75, 0.25], (8, 1)))
    assert metrics.ece(log_probs, np.array([0, 0, 0, 1] * 2)) == pytest.approx(0, abs=1e-12)


def test_ece_is_one_where_certainty_is_always_wrong():
    log_probs = metrics.log_softmax(np.tile([1000.0, 0.0], (6, 1)))
    assert metrics.ece(log_probs, np.ones(6, int)) == 1


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_reliability_bins_add_up_to_the_whole(seed):
    log_probs, labels = scored(seed)
    rows = metrics.reliability(log_probs, labels)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    accuracy = sum(row["share"] * row["accuracy"] for row in rows)
    assert accuracy == pytest.approx(accuracy_score(labels, log_probs.argmax(axis=1)))
    assert [row["confidence"] for row in rows] == sorted(row["confidence"] for row in rows)


def test_scores_of_logits_are_the_scores_of_their_log_probabilities():
    log_probs, labels = scored(0)
    shifted = log_probs + np.random.default_rng(1).normal(0, 5, (len(labels), 1))
    assert metrics.scores(shifted, labels) == pytest.approx(metrics.scores(log_probs, labels))


def test_scores_are_the_values_counted_by_hand():
    logits = np.log(np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]]))
    expected = {
        "accuracy": 2 / 3,
        "balanced_accuracy": (1 + 1 / 2) / 2,
        "nll": -np.log([0.8, 0.4, 0.9]).mean(),
        "brier": 2 * (0.2**2 + 0.6**2 + 0.1**2) / 3,
        "ece": (0.2 + 0.6 + 0.1) / 3,
    }
    assert metrics.scores(logits, np.array([0, 1, 1])) == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 5])
def test_brier_agrees_with_sklearn(classes):
    log_probs, labels = scored(0, classes=classes)
    expected = brier_score_loss(np.eye(classes)[labels], np.exp(log_probs), scale_by_half=False)
    assert metrics.brier(log_probs, labels) == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 12))
def test_confusion_agrees_with_sklearn(seed, classes):
    predicted, labels = np.random.default_rng(seed).integers(0, classes, (2, 30))
    expected = confusion_matrix(labels, predicted, labels=range(classes))
    assert np.array_equal(metrics.confusion(predicted, labels, classes), expected)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(2, 6))
def test_balanced_accuracy_agrees_with_sklearn(seed, classes):
    random = np.random.default_rng(seed)
    labels, scores = random.integers(0, classes, 30), random.normal(size=(30, classes))
    expected = balanced_accuracy_score(labels, scores.argmax(axis=1))
    assert metrics.balanced_accuracy(scores, labels) == pytest.approx(expected)


def test_balanced_accuracy_gives_a_rare_class_the_weight_of_any_other():
    logits = np.tile([1.0, 0.0], (10, 1))  # always the first class
    assert metrics.scores(logits, np.array([0] * 9 + [1]))["balanced_accuracy"] == 0.5


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 0, 2, 2], [1]])
def test_balanced_accuracy_is_left_out_where_it_is_accuracy(labels):
    logits = np.random.default_rng(0).normal(size=(len(labels), 3))
    assert "balanced_accuracy" not in metrics.scores(logits, np.array(labels))
    assert metrics.balanced_accuracy(logits, np.array(labels)) == metrics.scores(logits, np.array(labels))["accuracy"]


def test_the_loss_of_certain_answers_is_zero_and_not_minus_zero():
    assert str(metrics.nll(np.array([[0.0, -np.inf]]), np.array([0]))) == "0.0"
