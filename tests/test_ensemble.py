import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.model_selection import StratifiedKFold

from pipeline import ensemble
from pipeline.ensemble import Ensemble
from pipeline.errors import PipelineError


def sampled(probabilities, seed):
    """One label a sample, drawn from its row of probabilities."""
    uniform = np.random.default_rng(seed).random((len(probabilities), 1))
    return np.minimum((uniform > probabilities.cumsum(axis=1)).sum(axis=1), probabilities.shape[1] - 1)


def members_and_labels(seed=0, members=3, samples=300, classes=4):
    """Members that are right more often than not, by different margins."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(samples) % classes)
    logits = rng.normal(0, 1.5, (members, samples, classes))
    logits[:, np.arange(samples), labels] += rng.uniform(0.5, 2.5, (members, 1))
    return logits, labels


def test_fitted_weights_recover_a_known_mixture():
    log_probs = log_softmax(np.random.default_rng(1).normal(0, 2, (2, 6000, 3)), axis=-1)
    labels = sampled(0.7 * np.exp(log_probs[0]) + 0.3 * np.exp(log_probs[1]), seed=2)
    assert ensemble.fit_weights(log_probs, labels) == pytest.approx([0.7, 0.3], abs=0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fitted_weights_are_the_constrained_optimum(seed):
    logits, labels = members_and_labels(seed)
    log_probs = log_softmax(logits, axis=-1)
    true = np.exp(log_probs[:, np.arange(len(labels)), labels])

    def mixture_nll(weights):
        return -np.log(weights @ true).mean()

    constraint = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    best = minimize(mixture_nll, np.full(3, 1 / 3), method="SLSQP", bounds=[(1e-9, 1)] * 3, constraints=constraint,
                    options={"ftol": 1e-12})  # fmt: skip
    weights = ensemble.fit_weights(log_probs, labels)
    assert mixture_nll(weights) <= best.fun + 1e-4
    assert weights == pytest.approx(best.x, abs=0.01)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_fitted_temperature_recovers_a_known_temperature(temperature):
    logits = np.random.default_rng(3).normal(0, 2, (20_000, 4))
    labels = sampled(softmax(logits / temperature, axis=1), seed=4)
    assert ensemble.fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.06)


def test_permuting_members_permutes_weights_and_temperatures():
    logits, labels = members_and_labels()
    order = [2, 0, 1]
    straight = ensemble.fit("weighted", ["a", "b", "c"], logits, labels)
    permuted = ensemble.fit("weighted", ["c", "a", "b"], logits[order], labels)
    assert permuted.weights == pytest.approx([straight.weights[i] for i in order], abs=1e-3)
    assert permuted.temperatures == pytest.approx([straight.temperatures[i] for i in order], rel=1e-6)


def test_weighted_ensemble_is_no_worse_on_its_fitting_data_than_its_best_member():
    logits, labels = members_and_labels()
    together = ensemble.fit("weighted", ["a", "b", "c"], logits, labels).log_probs(logits)
    alone = [ensemble.fit("weighted", ["a"], logits[[i]], labels).log_probs(logits[[i]]) for i in range(3)]
    best = min(-log_probs[np.arange(len(labels)), labels].mean() for log_probs in alone)
    assert -together[np.arange(len(labels)), labels].mean() <= best + 1e-6


def test_simple_ensemble_is_the_mean_of_probabilities():
    logits, labels = members_and_labels()
    log_probs = ensemble.fit("simple", ["a", "b", "c"], logits, labels).log_probs(logits)
    np.testing.assert_allclose(np.exp(log_probs), softmax(logits, axis=-1).mean(axis=0), rtol=1e-10)


def test_simple_ensemble_of_one_gives_the_member_back():
    logits, labels = members_and_labels(members=1)
    log_probs = ensemble.fit("simple", ["a"], logits, labels).log_probs(logits)
    np.testing.assert_allclose(log_probs, log_softmax(logits[0], axis=-1), rtol=1e-12)


def test_weighted_ensemble_of_one_gives_the_member_at_its_temperature():
    logits, labels = members_and_labels(members=1)
    fitted = ensemble.fit("weighted", ["a"], logits, labels)
    assert fitted.weights == [1.0]
    expected = log_softmax(logits[0] / fitted.temperatures[0], axis=-1)
    np.testing.assert_allclose(fitted.log_probs(logits), expected, rtol=1e-12)


def test_a_member_of_weight_zero_is_left_out():
    logits, _ = members_and_labels(members=2)
    log_probs = Ensemble("weighted", ["a", "b"], [1.0, 0.0], [1.0, 1.0]).log_probs(logits)
    np.testing.assert_allclose(log_probs, log_softmax(logits[0], axis=-1), rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(arrays(np.float64, (2, 6, 3), elements=st.floats(-1e4, 1e4)), st.floats(0, 1), st.floats(0.05, 20))
def test_probabilities_sum_to_one(logits, weight, temperature):
    mixed = Ensemble("weighted", ["a", "b"], [weight, 1 - weight], [temperature, 1.0]).log_probs(logits)
    np.testing.assert_allclose(np.exp(mixed).sum(axis=1), 1, rtol=1e-9)


@pytest.mark.parametrize("method", ensemble.METHODS)
def test_extreme_logits_stay_finite(method):
    logits, labels = members_and_labels(members=2, samples=40)
    logits[:, ::3] = np.where(logits[:, ::3] > 0, 1e4, -1e4)
    fitted = ensemble.fit(method, ["a", "b"], logits, labels)
    assert np.isfinite([*fitted.weights, *fitted.temperatures]).all()
    assert np.isfinite(fitted.log_probs(logits)).all()


def test_wrong_number_of_members_is_refused():
    with pytest.raises(PipelineError, match=r"2 members.*3"):
        Ensemble("simple", ["a", "b"], [0.5, 0.5], [1.0, 1.0]).log_probs(np.zeros((3, 4, 2)))


def test_unknown_method_is_refused_by_name():
    with pytest.raises(PipelineError, match=r"`median`.*simple, weighted"):
        ensemble.fit("median", ["a"], np.zeros((1, 4, 2)), np.array([0, 1, 0, 1]))


def test_too_few_validation_images_for_the_folds_are_refused():
    labels = np.array([0] * 10 + [1] * 3)
    with pytest.raises(PipelineError, match=r"`ensemble\.folds` is 4.*only 3"):
        ensemble.cross_fit("simple", ["a"], np.zeros((1, 13, 2)), labels, folds=4, seed=0)


def test_cross_fit_of_a_method_without_parameters_is_the_method():
    logits, labels = members_and_labels(samples=40)
    held_out = ensemble.cross_fit("simple", ["a", "b", "c"], logits, labels, folds=4, seed=0)
    expected = ensemble.fit("simple", ["a", "b", "c"], logits, labels).log_probs(logits)
    np.testing.assert_allclose(held_out, expected, rtol=1e-12)


def test_cross_fit_never_uses_the_label_of_the_sample_itself():
    """Swapping the labels of two neighbours in one fold leaves every fold as it is, so only the others may notice."""
    logits, labels = members_and_labels(members=2, samples=60, classes=2)
    fold = np.empty(60, int)
    for number, (_, left) in enumerate(StratifiedKFold(3, shuffle=True, random_state=5).split(labels, labels)):
        fold[left] = number
    pairs = [i for i in range(20, 59) if labels[i] != labels[i + 1] and fold[i] == fold[i + 1]]
    before = ensemble.cross_fit("weighted", ["a", "b"], logits, labels, folds=3, seed=5)
    for i in pairs:
        swapped = labels.copy()
        swapped[[i, i + 1]] = labels[[i + 1, i]]
        after = ensemble.cross_fit("weighted", ["a", "b"], logits, swapped, folds=3, seed=5)
        same = fold == fold[i]
        assert np.array_equal(after[same], before[same])
        assert not np.allclose(after[~same], before[~same], rtol=1e-9)
    assert pairs


def test_cross_fit_is_the_same_for_the_same_seed():
    logits, labels = members_and_labels(samples=60)
    first, second = (ensemble.cross_fit("weighted", ["a", "b", "c"], logits, labels, 3, seed=1) for _ in range(2))
    assert np.array_equal(first, second)


def test_an_ensemble_survives_its_dictionary():
    logits, labels = members_and_labels(samples=40)
    fitted = ensemble.fit("weighted", ["a", "b", "c"], logits, labels)
    assert Ensemble(**fitted.as_dict()) == fitted
