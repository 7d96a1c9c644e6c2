from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from pipeline.ensembles import ensemble, fitting
from pipeline.params import Ensemble as Settings
from pipeline.project.errors import PipelineError
from pipeline.scoring import metrics

SETTINGS = Settings(
    methods=["mean_probs", "mean_logits", "vote", "weighted", "greedy", "stacking"], calibrate=["members", "result"],
    folds=3, select="auto", metric="nll", budget_ms=None,
)  # fmt: skip
RAW = SETTINGS.model_copy(update={"calibrate": []})
NAMES = ["a", "b", "c"]


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


def fit(method, names, logits, labels, settings=SETTINGS, seed=0):
    return fitting.fit([method], names, logits, labels, settings, seed)[method]


def cross_fit(method, names, logits, labels, settings=SETTINGS, seed=0):
    return fitting.predict_out_of_fold([method], names, logits, labels, settings, seed)[method]


def test_fitted_weights_recover_a_known_mixture():
    log_probs = log_softmax(np.random.default_rng(1).normal(0, 2, (2, 6000, 3)), axis=-1)
    labels = sampled(0.7 * np.exp(log_probs[0]) + 0.3 * np.exp(log_probs[1]), seed=2)
    assert fitting.fit_weights(log_probs, labels) == pytest.approx([0.7, 0.3], abs=0.05)


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
    weights = fitting.fit_weights(log_probs, labels)
    assert mixture_nll(weights) <= best.fun + 1e-4
    assert weights == pytest.approx(best.x, abs=0.01)


@pytest.mark.parametrize("tempered", [False, True])
@pytest.mark.parametrize("pull", [0.0, 0.05])
def test_fitted_weights_have_no_better_neighbours(tempered, pull):
    """Nelder-Mead, which knows no gradients, finds the same from the same start."""
    logits, labels = members_and_labels(3)
    log_probs = log_softmax(logits, axis=-1)

    def loss(values):
        mixture = np.tensordot(softmax(values[:3]), np.exp(log_probs), axes=1)
        result = log_softmax(np.log(mixture) * (np.exp(values[3]) if tempered else 1), axis=1)
        return metrics.nll(result, labels) + pull / 2 * values[:3] @ values[:3]

    options = {"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-7, "fatol": 1e-12}
    best = minimize(loss, np.zeros(4), method="Nelder-Mead", options=options)
    weights = fitting.fit_weights(log_probs, labels, pull, tempered)
    assert weights == pytest.approx(softmax(best.x[:3]), abs=0.01)


def test_a_pull_brings_weights_towards_uniform():
    logits, labels = members_and_labels()
    log_probs = log_softmax(logits, axis=-1)
    distance = [np.abs(fitting.fit_weights(log_probs, labels, pull) - 1 / 3).sum() for pull in (0, 0.01, 0.1, 1e4)]
    assert distance == sorted(distance, reverse=True) and distance[-1] < 1e-3 < distance[0]


def test_weights_are_fitted_for_what_comes_out_calibrated():
    """A mean of members is unsure of itself until it is calibrated; by its own NLL the best member would win."""
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 4, 600)
    logits = rng.normal(0, 3, (3, 600, 4))
    logits[:, np.arange(600), labels] += np.array([[6.0], [4.0], [4.0]])
    log_probs = np.stack([log_softmax(member / fitting.fit_temperature(member, labels), axis=1) for member in logits])
    assert fitting.fit_weights(log_probs, labels)[0] > 0.6
    fitted = fitting.fit(["weighted", "mean_probs"], NAMES, logits, labels, SETTINGS, 0)
    assert fitted["weighted"].weights[0] < 0.5
    nll = {name: metrics.nll(one.log_probs(logits), labels) for name, one in fitted.items()}
    assert nll["weighted"] < nll["mean_probs"] + 0.003


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_fitted_temperature_recovers_a_known_temperature(temperature):
    logits = np.random.default_rng(3).normal(0, 2, (20_000, 4))
    labels = sampled(softmax(logits / temperature, axis=1), seed=4)
    assert fitting.fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_selection_finds_what_brute_force_finds(seed):
    """Every multiset of up to five of three members: greedy picks, of up to a hundred, are no worse than the best."""
    logits, labels = members_and_labels(seed, samples=80)
    log_probs = log_softmax(logits, axis=-1)
    true = np.exp(log_probs[:, np.arange(len(labels)), labels])
    multisets = [list(picks) for size in range(1, 6) for picks in combinations_with_replacement(range(3), size)]
    best = min(-np.log(true[picks].mean(axis=0)).mean() for picks in multisets)
    weights = fitting.pick_greedily(log_probs, labels)
    assert weights.sum() == pytest.approx(1)
    assert -np.log(weights @ true).mean() <= best + 1e-9


def test_greedy_selection_starts_with_the_best_and_adds_nothing_that_harms():
    right, wrong = np.log([[0.9, 0.1]] * 4), np.log([[0.2, 0.8]] * 4)
    assert fitting.pick_greedily(np.stack([wrong, right]), np.zeros(4, int)).tolist() == [0, 1]


@pytest.mark.parametrize("classes", [2, 4])
def test_stacking_is_scikit_learns_regression_on_log_probabilities(monkeypatch, classes):
    """Without a penalty, scaling the inputs changes nothing."""
    monkeypatch.setitem(fitting.STRENGTHS, "stacking", (1e6,))
    logits, labels = members_and_labels(classes=classes)
    inputs = np.hstack([log_softmax(member, axis=1) for member in logits])
    assert inputs.min() > ensemble.FLOOR
    expected = LogisticRegression(C=1e6, max_iter=5000, tol=1e-8).fit(inputs, labels).predict_log_proba(inputs)
    log_probs = fit("stacking", NAMES, logits, labels, RAW).log_probs(logits)
    assert metrics.nll(log_probs, labels) == pytest.approx(metrics.nll(expected, labels), abs=2e-3)
    np.testing.assert_allclose(np.exp(log_probs), np.exp(expected), atol=0.05)


@pytest.mark.parametrize("method", ["weighted", "greedy"])
def test_permuting_members_permutes_weights_and_temperatures(method):
    logits, labels = members_and_labels()
    order = [2, 0, 1]
    straight = fit(method, NAMES, logits, labels)
    permuted = fit(method, ["c", "a", "b"], logits[order], labels)
    assert permuted.weights == pytest.approx([straight.weights[i] for i in order], abs=1e-3)
    assert permuted.temperatures == pytest.approx([straight.temperatures[i] for i in order], rel=1e-6)


def test_simple_has_nothing_fitted():
    logits, labels = members_and_labels()
    log_probs = fit("simple", NAMES, logits, labels).log_probs(logits)
    np.testing.assert_allclose(np.exp(log_probs), softmax(logits, axis=-1).mean(axis=0), rtol=1e-10)


@pytest.mark.parametrize("method", fitting.METHODS)
def test_one_member_gives_that_member_back(method):
    logits, labels = members_and_labels(members=1)
    fitted = fit(method, ["a"], logits, labels)
    temperature = 1.0 if method == "simple" else fitting.fit_temperature(logits[0], labels)
    np.testing.assert_allclose(fitted.log_probs(logits), log_softmax(logits[0] / temperature, axis=-1), rtol=1e-9)


@pytest.mark.parametrize("method", ["mean_probs", "mean_logits", "vote", "weighted", "greedy"])
def test_calibration_recovers_a_temperature_before_or_after(method):
    """Members that are sure of themselves three times too much give honest probabilities, wherever that is mended."""
    honest = np.random.default_rng(5).normal(0, 2, (4000, 4))
    labels = sampled(softmax(honest, axis=1), seed=6)
    logits = 3 * np.stack([honest, honest])
    for where in (["members"], ["result"], ["members", "result"]):
        fitted = fit(method, ["a", "b"], logits, labels, SETTINGS.model_copy(update={"calibrate": where}))
        after = metrics.nll(fitted.log_probs(logits), labels)
        before = metrics.nll(fit(method, ["a", "b"], logits, labels, RAW).log_probs(logits), labels)
        assert after < before
    if method != "vote":
        np.testing.assert_allclose(fitted.log_probs(logits), log_softmax(honest, axis=1), rtol=0.1, atol=0.05)


@pytest.mark.parametrize("method", fitting.METHODS)
def test_extreme_logits_stay_finite(method):
    logits, labels = members_and_labels(members=2, samples=40)
    logits[:, ::3] = np.where(logits[:, ::3] > 0, 1e4, -1e4)
    fitted = fit(method, ["a", "b"], logits, labels)
    assert np.isfinite([*fitted.weights, *fitted.temperatures, fitted.temperature]).all()
    assert np.isfinite(fitted.log_probs(logits)).all()


@pytest.mark.parametrize("method", fitting.METHODS)
@examples(max_examples=5, deadline=None)
@given(arrays(np.float64, (2, 24, 3), elements=st.sampled_from([-1e4, -1.0, 0.0, 1.0, 30.0])))
def test_ties_and_constants_give_probabilities(method, logits):
    labels = np.arange(24) % 3
    held_out = cross_fit(method, ["a", "b"], logits, labels)
    assert not np.isnan(held_out).any()
    np.testing.assert_allclose(np.exp(held_out).sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("method", fitting.METHODS)
def test_one_class_is_certain(method):
    held_out = cross_fit(method, ["a", "b"], np.random.default_rng(0).normal(size=(2, 12, 1)), np.zeros(12, int))
    np.testing.assert_allclose(held_out, 0, atol=1e-12)


@pytest.mark.parametrize("method", [method for method in fitting.METHODS if method != "stacking"])
@pytest.mark.parametrize(
    "labels", [[0] * 10 + [1] * 3, [0] * 10 + [1], [0, 0, 1, 1], [0, 1, 2, 2], [0, 0, 1, 2], [0] * 5]
)
def test_every_sample_of_the_rarest_classes_is_answered_without_it(method, labels):
    labels = np.array(labels)
    logits = np.random.default_rng(0).normal(size=(2, len(labels), 3))
    held_out = cross_fit(method, ["a", "b"], logits, labels)
    assert np.isfinite(held_out).all()
    np.testing.assert_allclose(np.exp(held_out).sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(("fewest", "folds", "is_fitted"), [(4, 3, True), (3, 3, False), (5, 6, False), (0, 3, False)])
def test_stacking_is_for_classes_that_each_fold_leaves_samples_of(fewest, folds, is_fitted):
    labels = np.array([0] * 10 + [1] * fewest)
    assert fitting.regressible(labels, 2, folds) == is_fitted


@pytest.mark.parametrize(
    ("logits", "sentence"),
    [
        ({"a": np.zeros((4, 3)), "b": np.zeros((4, 2))}, r"`b` have shape \(4, 2\), but \(4, 3\)"),
        ({"a": np.zeros((4, 3)), "b": np.zeros((5, 3))}, r"`b` have shape \(5, 3\)"),
        ({"a": np.zeros((3, 3))}, r"`a` have shape \(3, 3\).*4 labels"),
        ({"a": np.zeros((4, 3)), "b": np.full((4, 3), np.nan)}, r"`b` hold NaN or infinity"),
        ({"a": np.full((4, 3), np.inf)}, r"`a` hold NaN or infinity"),
    ],
)
def test_members_that_cannot_be_combined_are_refused(logits, sentence):
    with pytest.raises(PipelineError, match=sentence):
        fitting.stack(logits, np.array([0, 1, 2, 0]))


def test_cross_fit_of_a_method_without_parameters_is_the_method():
    logits, labels = members_and_labels(samples=40)
    expected = fit("simple", NAMES, logits, labels).log_probs(logits)
    np.testing.assert_allclose(cross_fit("simple", NAMES, logits, labels), expected, rtol=1e-12)


@pytest.mark.parametrize("method", ["mean_probs", "weighted", "stacking"])
def test_cross_fit_never_uses_the_label_of_the_sample_itself(method):
    """Swapping the labels of two neighbours in one fold leaves every fold as it is, so only the others may notice."""
    logits, labels = members_and_labels(members=2, samples=60, classes=2)
    fold = np.empty(60, int)
    for number, (_, left) in enumerate(fitting.folds(labels, 3, seed=5)):
        fold[left] = number
    pairs = [i for i in range(20, 59) if labels[i] != labels[i + 1] and fold[i] == fold[i + 1]]
    before = cross_fit(method, ["a", "b"], logits, labels, seed=5)
    for i in pairs[:3]:
        swapped = labels.copy()
        swapped[[i, i + 1]] = labels[[i + 1, i]]
        after = cross_fit(method, ["a", "b"], logits, swapped, seed=5)
        same = fold == fold[i]
        assert np.array_equal(after[same], before[same])
        assert not np.allclose(after[~same], before[~same], rtol=1e-9)
    assert pairs


def test_cross_fitted_stacking_of_noise_is_not_better_than_chance():
    """Thirty-six coefficients learn noise by heart; fitted and read on the same samples it would look like skill."""
    rng = np.random.default_rng(7)
    logits, labels = rng.normal(0, 2, (3, 240, 4)), rng.permutation(np.arange(240) % 4)
    assert metrics.nll(cross_fit("stacking", NAMES, logits, labels), labels) > np.log(4) - 0.01


def test_cross_fit_is_the_same_for_the_same_seed():
    logits, labels = members_and_labels(samples=60)
    first, second = (cross_fit("weighted", NAMES, logits, labels, seed=1) for _ in range(2))
    assert np.array_equal(first, second)


SHARPNESS = np.array([0.5, 1.0, 3.0])[:, None, None]


@pytest.mark.parametrize("method", ["mean_probs", "mean_logits", "vote", "weighted", "greedy", "stacking"])
def test_an_ensemble_of_models_of_another_sharpness_gives_the_same_with_temperatures_of_their_own(method):
    """Fold teachers that differ from their teachers by a scale of the logits alone."""
    logits, labels = members_and_labels(samples=900)
    fitted = fit(method, NAMES, logits, labels)
    again = fitting.recalibrated(fitted, SHARPNESS * logits, labels, SETTINGS)
    assert again.temperatures == pytest.approx((SHARPNESS.ravel() * fitted.temperatures).tolist(), rel=1e-3)
    assert again.weights == fitted.weights and again.coefficients == fitted.coefficients
    given = again.log_probs(SHARPNESS * logits)
    best = replace(fitted, temperature=again.temperature)
    np.testing.assert_allclose(given, best.log_probs(logits), atol=2e-2)
    assert metrics.nll(given, labels) <= metrics.nll(fitted.log_probs(SHARPNESS * logits), labels) + 1e-6


def test_a_single_model_has_the_temperature_of_its_fold_teachers():
    logits, labels = members_and_labels(members=1, samples=900)
    fitted = fit("mean_probs", ["a"], logits, labels)
    again = fitting.recalibrated(fitted, 3 * logits, labels, SETTINGS)
    assert again.temperatures[0] == pytest.approx(3 * fitted.temperatures[0], rel=1e-3)


def test_what_is_not_calibrated_stays():
    logits, labels = members_and_labels()
    for method, settings in (("simple", SETTINGS), ("mean_probs", RAW)):
        fitted = fit(method, NAMES, logits, labels, settings)
        assert fitting.recalibrated(fitted, 3 * logits, labels, settings) == fitted


def test_shares_of_mixed_images_calibrate_as_labels_do_and_those_without_a_label_are_left_out():
    logits, labels = members_and_labels()
    fitted = fit("weighted", NAMES, logits, labels)
    shares = np.eye(4)[labels]
    expected = fitting.recalibrated(fitted, logits, labels, SETTINGS)
    assert fitting.recalibrated(fitted, logits, shares, SETTINGS) == expected
    more = np.concatenate([logits, 9 * logits[:, :50]], axis=1)
    assert fitting.recalibrated(fitted, more, np.concatenate([shares, 0.4 * shares[:50]]), SETTINGS) == expected
