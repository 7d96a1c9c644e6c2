import json
from math import atan, comb, pi, sqrt

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from scipy.stats import t as student

from pipeline.scoring import statistics


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng, inside = np.random.default_rng(0), 0
    for simulation in range(2000):
        low, high = statistics.bootstrap_interval(rng.random(400) < 0.8, resamples=1000, seed=simulation)
        inside += low <= 0.8 <= high
    assert 0.93 <= inside / 2000 <= 0.97


def test_intervals_of_a_paired_difference_cover_the_truth_as_often_as_they_say():
    rng, inside = np.random.default_rng(1), 0
    for simulation in range(2000):
        hard = rng.random(300)
        first, second = (
            hard < 0.8,
            (hard < 0.75) ^ (rng.random(300) < 0.05),
        )  # right in 0.8 of all, and in 0.75 * 0.95 + 0.25 * 0.05
        means = statistics.bootstrap_means(np.stack([first, second]) * 1.0, 1000, seed=simulation)
        low, high = statistics.interval(means[:, 0] - means[:, 1])
        inside += low <= 0.8 - 0.725 <= high
    assert 0.93 <= inside / 2000 <= 0.97


def test_the_bootstrap_agrees_with_resampling_the_samples():
    rng = np.random.default_rng(1)
    values = rng.choice([-1, -1 / 3, 0, 2 / 3, 1], 300, p=[0.1, 0.1, 0.5, 0.1, 0.2])
    naive = np.percentile(rng.choice(values, (5000, 300)).mean(axis=1), [2.5, 97.5])
    interval = statistics.bootstrap_interval(values, resamples=5000, seed=2)
    assert interval == pytest.approx(naive, abs=0.06 * (naive[1] - naive[0]))


def test_all_rows_see_the_same_resamples():
    values = np.random.default_rng(2).random((1, 40))
    means = statistics.bootstrap_means(np.vstack([values, values + 1, 2 * values]), 300, seed=0)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 1)
    np.testing.assert_allclose(means[:, 2], 2 * means[:, 0])


def test_resampling_in_parts_is_resampling_at_once(monkeypatch):
    values = np.random.default_rng(3).integers(0, 1000, (2, 30)).astype(float)  # of which every sum is exact
    whole = statistics.bootstrap_means(values, 100, seed=0)
    monkeypatch.setattr(statistics, "AT_ONCE", 210)
    assert np.array_equal(statistics.bootstrap_means(values, 100, seed=0), whole)


def test_an_interval_is_wider_for_a_higher_level():
    means = statistics.bootstrap_means(np.random.default_rng(3).random((1, 50)), 2000, seed=0)[:, 0]
    low, high = statistics.interval(means, level=0.8)
    lower, higher = statistics.interval(means, level=0.99)
    assert lower < low < high < higher


def test_the_intervals_of_many_rows_are_those_of_each():
    means = np.random.default_rng(3).random((500, 3))
    low, high = statistics.interval(means)
    assert list(zip(low, high, strict=True)) == [statistics.interval(column) for column in means.T]


def test_the_interval_of_equal_values_is_that_value():
    assert statistics.bootstrap_interval(np.full(20, 0.25), 200, seed=0) == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (1, 0), (3, 9), (9, 3), (10, 10), (2, 14)])
def test_mcnemar_is_the_two_sided_sign_test_on_what_one_gets_right(only_first, only_second):
    first = np.array([True] * only_first + [False] * only_second + [True] * 5 + [False] * 2)
    second = np.array([False] * only_first + [True] * only_second + [True] * 5 + [False] * 2)
    total = only_first + only_second
    tail = sum(comb(total, count) for count in range(min(only_first, only_second) + 1)) / 2**total
    assert statistics.mcnemar(first, second) == pytest.approx(min(1, 2 * tail))


def test_holm_by_hand():
    assert statistics.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm(np.array([0.9, 0.8])) == pytest.approx([1, 1])
    assert statistics.holm(np.array([0.02])) == pytest.approx([0.02])


def test_holm_bounds_the_chance_of_any_false_alarm():
    rng = np.random.default_rng(5)
    alarms = [statistics.holm(rng.random(10)).min() < 0.05 for _ in range(4000)]
    assert 0.04 < np.mean(alarms) < 0.06


def test_paired_over_seeds_is_students_test_by_hand():
    gain = statistics.paired_over_seeds(np.array([0.4, 0.7, 0.1, 0.5]))  # mean 0.425, standard error 0.25 / 2
    reach, share = 3.182446305 * 0.125, 3.4 / sqrt(3)  # Student's 97.5 % point of 3 degrees of freedom; t is 3.4
    p = 1 - 2 / pi * (share / (1 + share**2) + atan(share))  # of 3 degrees of freedom in closed form
    assert gain == pytest.approx({"value": 0.425, "low": 0.425 - reach, "high": 0.425 + reach, "p": p}, rel=1e-6)


@pytest.mark.parametrize("differences", [[0.4, 0.7, 0.1, 0.5], [0.5, 0.5], [0.0, 0.0]])
def test_a_gain_over_seeds_is_numbers_that_json_can_hold(differences):
    gain = statistics.paired_over_seeds(np.array(differences))
    assert json.loads(json.dumps(gain, allow_nan=False)) == gain


def test_equal_differences_are_certain_and_none_at_all_is_no_difference():
    assert statistics.paired_over_seeds(np.array([0.5, 0.5]))["p"] == 0
    assert statistics.paired_over_seeds(np.array([0.0, 0.0]))["p"] == 1


def test_a_single_seed_has_no_spread():
    assert statistics.paired_over_seeds(np.array([0.5])) is None


def crossed(rng, seeds, samples, spread, own=0.1):
    """Hits of two arms whose expected accuracies are 0.6 and 0.57, each seed's ability and each image of its own."""
    hard, hits = rng.random(samples), []
    for ability in (0.6, 0.57):
        able = ability + spread * rng.standard_normal((seeds, 1))
        hits.append((hard + rng.uniform(-own, own, (seeds, samples)) < able) * 1.0)
    return hits


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.005), (3, 0.02), (5, 0.02), (8, 0.005)])
def test_crossed_intervals_cover_the_truth_over_seeds_and_samples_as_often_as_they_say(seeds, spread):
    rng, inside, trials = np.random.default_rng(7), 0, 1000
    for _ in range(trials):
        taught, alone = crossed(rng, seeds, 1000, spread)
        low, high = statistics.crossed_interval(taught - alone)
        inside += low <= 0.03 <= high
    assert 0.925 <= inside / trials <= 0.985 + 0.01 * (spread == 0)


def test_over_samples_alone_an_interval_misses_what_seeds_bring():
    rng, inside = np.random.default_rng(8), 0
    for _ in range(300):
        taught, alone = crossed(rng, 3, 1000, 0.02)
        low, high = statistics.bootstrap_interval((taught - alone).mean(axis=0), 500, seed=0)
        inside += low <= 0.03 <= high
    assert inside / 300 < 0.7


def test_a_crossed_interval_is_that_of_a_slow_loop_over_seeds_and_samples_where_there_are_many():
    """Which resamples seeds, then samples, the same for both arms; with many seeds it is as wide as it should be."""
    rng = np.random.default_rng(9)
    taught, alone = crossed(rng, 40, 400, 0.05, own=0.02)
    gains = []
    for _ in range(4000):
        seeds, samples = rng.integers(40, size=40), rng.integers(400, size=400)
        gains.append(taught[seeds][:, samples].mean() - alone[seeds][:, samples].mean())
    loop = np.percentile(gains, [2.5, 97.5])
    assert statistics.crossed_interval(taught - alone) == pytest.approx(loop, abs=0.06 * np.ptp(loop))


def test_a_crossed_interval_is_that_of_the_mean_squares_of_a_two_way_table():
    rng = np.random.default_rng(12)
    table = rng.normal(size=(4, 1)) + rng.normal(size=(1, 6)) * 2 + rng.normal(size=(4, 6)) * 0.5
    mean, rows, columns = table.mean(), [row.mean() for row in table], [column.mean() for column in table.T]
    of_seeds = 6 * sum((row - mean) ** 2 for row in rows) / 3
    of_samples = 4 * sum((column - mean) ** 2 for column in columns) / 5
    rest = sum((table[s, i] - rows[s] - columns[i] + mean) ** 2 for s in range(4) for i in range(6)) / 15
    variance = (of_seeds + of_samples - rest) / 24
    reach = student.ppf(0.975, variance**2 / ((of_seeds / 24) ** 2 / 3)) * sqrt(variance)
    assert statistics.crossed_interval(table) == pytest.approx((mean - reach, mean + reach))


def test_a_crossed_interval_is_no_narrower_than_over_seeds_or_samples_alone():
    rng = np.random.default_rng(10)
    for spread in (0.0, 0.01, 0.1):
        taught, alone = crossed(rng, 4, 300, spread)
        low, high = statistics.crossed_interval(taught - alone)
        over_seeds = statistics.paired_over_seeds((taught - alone).mean(axis=1))
        assert low <= over_seeds["low"] + 1e-12 and over_seeds["high"] - 1e-12 <= high
        images = 1.9599639845 * sqrt((taught - alone).mean(axis=0).var(ddof=1) / 300)
        assert high - low >= 2 * images - 1e-12


@pytest.mark.parametrize("right", [0, 1, 13, 23, 24])
def test_the_interval_of_one_models_accuracy_is_exact(right):
    hits = np.array([[1.0] * right + [0.0] * (24 - right)])
    exact = binomtest(right, 24).proportion_ci()
    assert statistics.accuracy_interval(hits) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_the_accuracy_of_seeds_that_are_all_right_is_as_doubtful_as_that_of_one():
    one, three = (statistics.accuracy_interval(np.ones((seeds, 24))) for seeds in (1, 3))
    assert one == three == pytest.approx((0.025 ** (1 / 24), 1))


def test_intervals_of_a_mean_accuracy_cover_the_truth_and_widen_where_seeds_differ():
    rng, inside = np.random.default_rng(11), 0
    for _ in range(600):
        low, high = statistics.accuracy_interval(crossed(rng, 3, 300, 0.03)[0])
        inside += low <= 0.6 <= high
    assert 0.93 <= inside / 600 <= 0.995
    hits = np.ones((3, 100))
    hits[0, :30] = 0
    low, high = statistics.accuracy_interval(hits)
    alone = binomtest(90, 100).proportion_ci()
    assert low < alone.low and high > alone.high


def test_the_bounds_of_a_percentile_are_the_values_of_the_ranks_of_the_binomial_distribution():
    values = np.random.default_rng(0).permutation(np.arange(1.0, 201.0))
    assert statistics.percentile(values, 90) == (pytest.approx(180.1), 171, 189)
    below = binom(200, 0.9)
    assert below.cdf(188) - below.cdf(170) >= 0.95 > below.cdf(187) - below.cdf(171)


def test_a_bound_for_which_there_are_too_few_values_is_none():
    value, low, high = statistics.percentile(np.arange(1.0, 21.0), 95)
    assert (value, low, high) == (pytest.approx(19.05), 17, None)


@pytest.mark.parametrize("percent", [50, 90, 95])
def test_the_interval_of_a_percentile_covers_it_as_often_as_it_says(percent):
    random, true, covered = np.random.default_rng(0), -np.log(1 - percent / 100), 0
    for _ in range(500):
        _, low, high = statistics.percentile(random.exponential(size=200), percent)
        covered += low <= true <= high
    assert covered >= 465  # of 95 % of 500, three deviations down at most
