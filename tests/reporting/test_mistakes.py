import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting import mistakes

LABELS = np.array([0, 0, 0, 1, 1, 2])


def test_accuracy_by_class_is_the_mean_over_seeds_and_nan_for_a_class_of_no_samples():
    answers = np.array([[0, 0, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0]])
    shares = mistakes.accuracy_by_class(answers, LABELS, 4)
    assert shares[:3] == pytest.approx([(2 / 3 + 1 / 3) / 2, (1 + 0.5) / 2, 0])
    assert np.isnan(shares[3])


def test_accuracy_by_class_weighted_by_its_samples_is_the_accuracy():
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(0, 5, 200), rng.integers(0, 5, (3, 200))
    shares = mistakes.accuracy_by_class(answers, labels, 5)
    assert shares @ np.bincount(labels, minlength=5) / 200 == pytest.approx((answers == labels).mean())


def test_confused_pairs_come_by_frequency_then_by_class_with_their_samples():
    answers = np.array([0, 2, 2, 0, 2, 1])
    pairs = [(pair.label, pair.answer, pair.samples.tolist()) for pair in mistakes.confused(answers, LABELS, 3)]
    assert pairs == [(0, 2, [1, 2]), (1, 0, [3]), (1, 2, [4])]


def test_who_makes_no_mistake_confuses_nothing():
    assert mistakes.confused(LABELS, LABELS, 5) == []


def test_the_most_confused_classes_are_those_of_most_mistakes_either_way_in_their_order():
    counts = np.array([[9, 0, 5, 0], [0, 9, 0, 1], [0, 0, 9, 0], [0, 0, 0, 99]])
    assert mistakes.most_confused(counts, 2).tolist() == [0, 2]
    assert mistakes.most_confused(counts, 3).tolist() == [0, 1, 2]
    assert mistakes.most_confused(counts, 9).tolist() == [0, 1, 2, 3]


def test_only_right_counts_neither_what_both_know_nor_what_neither_knows():
    first, second = np.array([0, 0, 1, 1, 0, 2]), np.array([0, 1, 1, 0, 1, 0])
    assert mistakes.only_right(first, second, LABELS).tolist() == [1, 3, 5]
    assert mistakes.only_right(second, first, LABELS).tolist() == [4]


def test_spread_is_even_from_the_first_on():
    assert mistakes.spread(np.arange(100, 110), 4).tolist() == [100, 102, 105, 107]


@given(st.integers(0, 50), st.integers(1, 30))
def test_spread_takes_as_many_as_there_are_each_once_in_order(samples, most):
    taken = mistakes.spread(np.arange(samples), most)
    assert len(taken) == min(samples, most)
    assert (np.diff(taken) >= 1).all()
