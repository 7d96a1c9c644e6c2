import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax

from pipeline.ensembles import ensemble
from pipeline.ensembles.ensemble import Ensemble
from pipeline.project.errors import PipelineError

logits_of_two = arrays(np.float64, (2, 6, 3), elements=st.floats(-1e4, 1e4))


def pair(method, weights=(0.5, 0.5), **more):
    return Ensemble(method, ["a", "b"], list(weights), [1.0, 1.0], **more)


def random_logits(members=2, samples=50, classes=4, seed=0):
    return np.random.default_rng(seed).normal(0, 2, (members, samples, classes))


def test_mean_of_probabilities_is_their_weighted_mean():
    logits = random_logits()
    log_probs = pair("weighted", (0.3, 0.7)).log_probs(logits)
    expected = 0.3 * softmax(logits[0], axis=1) + 0.7 * softmax(logits[1], axis=1)
    np.testing.assert_allclose(np.exp(log_probs), expected, rtol=1e-10)


def test_mean_of_logits_is_the_softmax_of_their_mean():
    logits = random_logits()
    expected = log_softmax(logits.mean(axis=0), axis=1)
    np.testing.assert_allclose(pair("mean_logits").log_probs(logits), expected, rtol=1e-9, atol=1e-12)


def test_a_majority_wins_whatever_the_probabilities():
    sure, unsure = [9.0, 0.0, 0.0], [0.0, 0.1, 0.0]
    three = Ensemble("vote", ["a", "b", "c"], [1 / 3] * 3, [1.0] * 3)
    shares = np.exp(three.log_probs(np.array([[sure], [unsure], [unsure]]))[0])
    assert shares.argmax() == 1
    mean = softmax([sure, unsure, unsure], axis=1).mean(axis=0)
    np.testing.assert_allclose(shares, (np.array([1, 2, 0]) + mean) / 4, rtol=1e-12)


def test_a_tie_of_votes_goes_to_the_more_probable_class():
    logits = np.array([[[2.0, 0.0]], [[0.0, 1.0]]])
    assert pair("vote").log_probs(logits).argmax(axis=1).tolist() == [0]
    assert pair("vote").log_probs(logits[..., ::-1]).argmax(axis=1).tolist() == [1]


@pytest.mark.parametrize("method", ["mean_probs", "mean_logits", "vote"])
def test_temperatures_divide_members_before_and_the_result_after(method):
    logits = random_logits()
    direct = Ensemble(method, ["a", "b"], [0.5, 0.5], [2.0, 0.5], temperature=3.0).log_probs(logits)
    by_hand = pair(method).log_probs(logits / np.array([2.0, 0.5])[:, None, None])
    np.testing.assert_allclose(direct, log_softmax(by_hand / 3, axis=1), rtol=1e-9)


def test_stacking_is_the_logistic_regression_that_it_holds():
    logits, rng = random_logits(), np.random.default_rng(1)
    coefficients, intercept = rng.normal(size=(8, 4)), rng.normal(size=4)
    stacked = pair("stacking", coefficients=coefficients.tolist(), intercept=intercept.tolist())
    log_probs = log_softmax(logits, axis=-1)
    assert log_probs.min() > ensemble.FLOOR
    inputs = np.hstack(list(log_probs / -ensemble.FLOOR))
    expected = log_softmax(inputs @ coefficients + intercept, axis=1)
    np.testing.assert_allclose(stacked.log_probs(logits), expected, rtol=1e-9)


def test_a_member_of_weight_zero_is_left_out():
    logits = random_logits()
    log_probs = pair("weighted", (1.0, 0.0)).log_probs(logits)
    np.testing.assert_allclose(log_probs, log_softmax(logits[0], axis=-1), rtol=1e-12)


def test_pruning_leaves_out_members_of_weight_zero_and_changes_nothing():
    logits = random_logits(members=3)
    whole = Ensemble("weighted", ["a", "b", "c"], [0.4, 0.0, 0.6], [1.0, 2.0, 3.0], temperature=1.5)
    assert whole.pruned() == Ensemble("weighted", ["a", "c"], [0.4, 0.6], [1.0, 3.0], temperature=1.5)
    np.testing.assert_allclose(whole.pruned().log_probs(logits[[0, 2]]), whole.log_probs(logits), rtol=1e-12)


def test_a_single_model_is_itself():
    logits = random_logits(members=1)
    np.testing.assert_allclose(ensemble.alone("a").log_probs(logits), log_softmax(logits[0], axis=1), rtol=1e-12)


@pytest.mark.parametrize("method", ["weighted", "mean_logits", "vote"])
@settings(max_examples=25, deadline=None)
@given(logits_of_two, st.floats(0, 1), st.floats(0.05, 20))
def test_probabilities_sum_to_one(method, logits, weight, temperature):
    mixed = Ensemble(method, ["a", "b"], [weight, 1 - weight], [temperature, 1.0], temperature).log_probs(logits)
    np.testing.assert_allclose(np.exp(mixed).sum(axis=1), 1, rtol=1e-9)


def test_wrong_number_of_members_is_refused():
    with pytest.raises(PipelineError, match=r"2 members.*3"):
        pair("simple").log_probs(np.zeros((3, 4, 2)))


def test_an_ensemble_survives_its_dictionary():
    for one in (pair("simple"), pair("stacking", coefficients=[[1.0]], intercept=[0.5]), ensemble.alone("a", 1.3)):
        assert Ensemble(**one.as_dict()) == one
