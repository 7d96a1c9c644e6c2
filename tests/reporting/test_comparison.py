import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from pipeline.reporting import comparison
from pipeline.scoring import statistics
from tests.reporting.methods import COSTS, LABELS, METHODS


@pytest.fixture(scope="module")
def rows():
    return comparison.table(METHODS, LABELS, COSTS, teacher="big", ensemble="simple")


def column(rows, name):
    return dict(zip(rows["method"], rows[name], strict=True))


def test_a_row_a_method_in_their_order(rows):
    assert rows["method"].tolist() == [method.name for method in METHODS]
    assert column(rows, "seeds") == {"big": 1, "small": 1, "simple": 1, "weighted": 1, "baseline": 2, "ensemble": 2}


def test_accuracy_is_the_mean_over_seeds(rows):
    assert column(rows, "accuracy") == pytest.approx(
        {"big": 0.75, "small": 0.5, "simple": 1, "weighted": 1, "baseline": 0.375, "ensemble": 0.75}
    )


def test_accuracy_std_is_the_spread_over_seeds_and_unknown_for_one(rows):
    spread = column(rows, "accuracy_std")
    assert spread["baseline"] == pytest.approx(np.std([0.5, 0.25], ddof=1))
    assert spread["ensemble"] == pytest.approx(0)
    assert all(np.isnan(spread[name]) for name in ("big", "small", "simple", "weighted"))


def test_nll_and_ece_are_means_over_seeds(rows):
    right, wrong = -np.log(0.9), -np.log(0.1)
    assert column(rows, "nll")["baseline"] == pytest.approx(0.375 * right + 0.625 * wrong)
    assert column(rows, "ece")["baseline"] == pytest.approx((0.4 + 0.65) / 2)


def test_calibrated_scores_are_after_each_seeds_temperature(rows):
    """At temperature 2 odds of 9 to 1 become 3 to 1, at 1/2 81 to 1; the baseline errs in 2 and in 3 of each four."""
    sure = [3 / 4, 81 / 82]
    losses = [-wrong * np.log(1 - p) - (1 - wrong) * np.log(p) for p, wrong in zip(sure, (0.5, 0.75), strict=True)]
    assert column(rows, "nll_calibrated")["baseline"] == pytest.approx(np.mean(losses))
    assert column(rows, "ece_calibrated")["baseline"] == pytest.approx((sure[0] - 0.5 + sure[1] - 0.25) / 2)
    assert column(rows, "nll_calibrated")["big"] == column(rows, "nll")["big"]


def test_the_files_accuracy_is_of_the_seed_that_ships_with_an_exact_interval(rows):
    second = replace(METHODS[-2], shipped=1)
    row = comparison.table([*METHODS[:-2], second, METHODS[-1]], LABELS, COSTS, teacher="big", ensemble="simple")
    assert column(rows, "shipped_accuracy")["baseline"] == 0.5
    shipped = row.set_index("method").loc["baseline"]
    assert (shipped["shipped_accuracy"], shipped["accuracy"]) == (0.25, 0.375)
    exact = binomtest(10, 40).proportion_ci()
    assert (shipped["shipped_accuracy_low"], shipped["shipped_accuracy_high"]) == pytest.approx((exact.low, exact.high))


def test_gains_are_differences_of_accuracy(rows):
    accuracy = column(rows, "accuracy")
    for name, gain in column(rows, "gain_over_teacher").items():
        assert gain == pytest.approx(accuracy[name] - accuracy["big"])
    for name, gain in column(rows, "gain_over_alone").items():
        assert gain == pytest.approx(accuracy[name] - accuracy["baseline"])


def test_the_gain_over_oneself_is_zero_without_doubt(rows):
    for gain, name in (("gain_over_teacher", "big"), ("gain_over_alone", "baseline")):
        row = rows.set_index("method").loc[name]
        assert (row[gain], row[f"{gain}_low"], row[f"{gain}_high"]) == (0, 0, 0)


def test_intervals_hold_their_value(rows):
    for name in ("accuracy", "gain_over_teacher", "gain_over_alone"):
        assert ((rows[f"{name}_low"] <= rows[name]) & (rows[name] <= rows[f"{name}_high"])).all()


def test_gain_intervals_are_paired_by_sample_and_seed(rows):
    row = rows.set_index("method").loc["ensemble"]
    right = {m.name: (m.log_probs.argmax(axis=2) == LABELS) * 1.0 for m in METHODS}
    for column, other in (("gain_over_teacher", "big"), ("gain_over_alone", "baseline")):
        expected = statistics.crossed_interval(right["ensemble"] - right[other])
        assert (row[f"{column}_low"], row[f"{column}_high"]) == pytest.approx(expected)


def test_differing_images_are_counted_of_each_pair_of_seeds(rows):
    """`ensemble` errs on 0 and on 1 of each four; the teacher on 0: on none and on two of four they differ."""
    assert column(rows, "gain_over_teacher_differing")["ensemble"] == (0 + 20) / 2
    assert column(rows, "gain_over_alone_differing")["ensemble"] == (10 + 20) / 2


def test_p_values_are_mcnemars_between_what_ships_after_holm_over_all_gains(rows):
    right = {m.name: m.log_probs[0].argmax(axis=1) == LABELS for m in METHODS}
    tests = [(name, "big") for name in right if name != "big"] + [(n, "baseline") for n in right if n != "baseline"]
    expected = statistics.holm(np.array([statistics.mcnemar(right[a], right[b]) for a, b in tests]))
    corrected = [column(rows, "gain_over_teacher_p" if b == "big" else "gain_over_alone_p")[a] for a, b in tests]
    assert corrected == pytest.approx(expected.tolist())
    assert column(rows, "gain_over_teacher_p")["big"] == column(rows, "gain_over_alone_p")["baseline"] == 1


@pytest.fixture(scope="module")
def pairs():
    return comparison.pairs(METHODS, LABELS, 2000, seed=0)


def test_every_two_rows_are_a_pair_and_each_meets_the_mean_teacher(pairs):
    count = len(METHODS) + 1
    assert len(pairs) == count * (count - 1) // 2
    row = pairs.set_index(["first", "second"]).loc[("big", "small")]
    assert row["difference"] == pytest.approx(0.25)
    assert (row["only_first"], row["only_second"]) == (10, 0)
    assert row["p"] == pytest.approx(2 * 0.5**10)
    mean = pairs.set_index(["first", "second"]).loc[("simple", comparison.MEAN_TEACHER)]
    assert mean["difference"] == pytest.approx(1 - (0.75 + 0.5) / 2) and pd.isna(mean["p"])


def test_a_pairs_interval_is_over_images_alone(pairs):
    """`ensemble` is right in three of four as the teacher is, so only where seeds differ is there anything to gain."""
    row = pairs[(pairs["first"] == "big") & (pairs["second"] == "ensemble")].iloc[0]
    draws = np.random.default_rng(1).choice(np.tile([-0.5, 0.5, 0, 0], 10), (4000, 40)).mean(axis=1)
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])), abs=0.02)


def test_compression_and_speed_up_refer_to_the_ensemble_that_teaches(rows):
    assert column(rows, "compression") == {
        "big": 1.25, "small": 5, "simple": 1, "weighted": 1, "baseline": 10, "ensemble": 20
    }  # fmt: skip
    assert column(rows, "speed_up") == {name: 4 / costs["p50_ms"] for name, costs in COSTS.items()}


HITS = {
    "big": {"clean": [[1, 1, 1, 1]], "noise": [[1, 1, 0, 0]], "blur": [[1, 0, 1, 0]]},
    "baseline": {"clean": [[1, 1, 0, 0], [1, 1, 1, 1]], "noise": [[0, 0, 0, 0], [1, 0, 0, 0]],
                 "blur": [[1, 1, 0, 0], [0, 0, 0, 0]]},
}  # fmt: skip


@pytest.fixture(scope="module")
def corrupted():
    hits = {method: {name: np.array(right, bool) for name, right in each.items()} for method, each in HITS.items()}
    return comparison.under_corruptions(hits)


def test_corrupted_accuracy_is_the_mean_over_corruptions_seeds_and_images_and_clean_is_none(corrupted):
    assert corrupted["corrupted"].to_dict() == {"big": 0.5, "baseline": 3 / 16}
    assert corrupted.loc["baseline", ["corrupted_clean", "corrupted_noise", "corrupted_blur"]].tolist() == [
        0.75, 0.125, 0.25
    ]  # fmt: skip
    assert corrupted["images_corrupted"].tolist() == [4, 4]


def test_an_image_counts_with_its_share_of_corruptions_in_the_intervals(corrupted):
    share, alone = np.array([[1, 0.5, 0.5, 0]]), np.array([[0.5, 0.5, 0, 0], [0.5, 0, 0, 0]])
    low, high = statistics.accuracy_interval(share)
    assert tuple(corrupted.loc["big", ["corrupted_low", "corrupted_high"]]) == (low, high)
    assert low < 0.5 < high
    gain = corrupted.loc["big", ["corrupted_over_alone", "corrupted_over_alone_low", "corrupted_over_alone_high"]]
    assert gain.tolist() == pytest.approx([5 / 16, *statistics.crossed_interval(share - alone)])
    own = corrupted.loc["baseline", ["corrupted_over_alone", "corrupted_over_alone_low", "corrupted_over_alone_high"]]
    assert own.tolist() == [0, 0, 0]


def test_the_headline_has_the_corrupted_accuracy_where_there_is_one(rows):
    assert "corrupted" not in comparison.headline(rows)["big"]
    assert comparison.headline(rows.assign(corrupted=0.25))["big"]["corrupted"] == 0.25


def test_headline_survives_strict_json(rows):
    headline = comparison.headline(rows)
    assert json.loads(json.dumps(headline, allow_nan=False)) == headline
    assert headline["ensemble"]["size_bytes"] == 250
    assert set(headline) == set(rows["method"])


def test_test_images_of_unequal_classes_add_balanced_accuracy(rows):
    assert "balanced_accuracy" not in rows
    labels = np.where(np.arange(40) < 4, 1, 0)
    unequal = comparison.table(METHODS, labels, COSTS, teacher="big", ensemble="simple")
    hits = METHODS[-1].log_probs.argmax(axis=2) == labels
    expected = (hits[:, :4].mean() + hits[:, 4:].mean()) / 2
    assert column(unequal, "balanced_accuracy")["ensemble"] == pytest.approx(expected)
    assert comparison.headline(unequal)["ensemble"]["balanced_accuracy"] == pytest.approx(expected)
    summary = comparison.summary(unequal, student="ensemble", teacher="big", ensemble="simple")
    assert summary["student_balanced_accuracy"] == pytest.approx(expected)


def test_gains_over_the_baseline_are_paired_by_seed():
    gains = comparison.over_seeds(METHODS, LABELS)  # the baseline is right in 2/4 and 1/4, the taught in 3/4 and 3/4
    assert gains == {"ensemble": statistics.paired_over_seeds(np.array([0.25, 0.5]))}


def test_the_table_reads_what_ships_whatever_its_place_among_the_seeds(rows):
    turned = [replace(method, log_probs=method.log_probs[::-1], temperatures=method.temperatures[::-1], shipped=1)
              for method in METHODS[-2:]]  # fmt: skip
    again = comparison.table([*METHODS[:-2], *turned], LABELS, COSTS, teacher="big", ensemble="simple")
    assert np.array_equal(METHODS[-1].ships, turned[-1].ships)
    pd.testing.assert_frame_equal(rows, again)


def test_the_summary_names_the_students_numbers_and_what_it_is_held_against(rows):
    summary = comparison.summary(rows, student="ensemble", teacher="big", ensemble="simple")
    accuracies = {name: summary[f"{name}_accuracy"] for name in ("student", "alone", "single", "ensemble")}
    assert accuracies == {"student": 0.75, "alone": 0.375, "single": 0.75, "ensemble": 1.0}
    assert summary["gain_over_alone"] == pytest.approx(0.375)
    assert summary["student_size_mb"] == pytest.approx(250e-6)
    assert (summary["faster"], summary["smaller"]) == pytest.approx((2.0**2 / 2.0**5, 5000 / 250))


def test_predictions_have_a_column_a_seed_and_give_each_rows_accuracy(rows):
    table = comparison.predictions(METHODS, LABELS)
    alone = ["baseline-0", "baseline-1", "ensemble-0", "ensemble-1"]
    assert list(table) == ["label", "big", "small", "simple", "weighted", *alone]
    right = table.drop(columns="label").eq(table["label"], axis=0).mean()
    assert right[["baseline-0", "baseline-1"]].mean() == pytest.approx(column(rows, "accuracy")["baseline"])
