import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.ensembles import ensemble
from pipeline.ensembles.ensemble import Ensemble
from pipeline.ensembles.selection import Selection
from pipeline.reporting import comparison, report
from pipeline.reporting.comparison import Method
from pipeline.scoring import statistics

LABELS = np.array([0, 0, 1, 1] * 10)
SUBSET_COLUMNS = ["members", "accuracy", "p50_ms", "front"]


def deciding(*wrong_in_four):
    """(seeds, 40, 2) log-probabilities, seed by seed wrong in the given ones of each four samples."""
    seeds = []
    for wrong in wrong_in_four:
        predicted = LABELS.copy()
        for position in wrong:
            predicted[position::4] = 1 - predicted[position::4]
        seeds.append(np.log(np.where(np.arange(2) == predicted[:, None], 0.9, 0.1)))
    return np.stack(seeds)


PAIR = Ensemble("simple", ["big", "small"], [0.5, 0.5], [1.0, 1.0])
METHODS = [
    Method("big", "teacher", ensemble.alone("big"), deciding([0])),
    Method("small", "teacher", ensemble.alone("small"), deciding([0, 1])),
    Method("simple", "ensemble", PAIR, deciding([])),
    Method("weighted", "ensemble", PAIR, deciding([])),
    Method("baseline", "student", ensemble.alone("baseline-0"), deciding([0, 2], [0, 1, 2])),
    Method("ensemble", "student", ensemble.alone("ensemble-1"), deciding([0], [1])),
]
COSTS = {
    name: {"parameters": parameters, "multiply_adds": 2e6, "size_bytes": size,
           "p50_ms": 2.0**i, "p95_ms": 3.0**i, "p99_ms": 4.0**i, "p50_ms_all_cores": 1.5**i,
           "p50_ms_torch": float("nan") if name in ("simple", "weighted") else 5.0**i,
           "images_per_second": 100.0, "images_per_second_all_cores": 150.0, "load_ms": 10.0, "memory_bytes": 3e6,
           "spread": 0.2 if name == "small" else 0.01, "train_seconds": 60.0 * i, "train_images": 5e5 * i}
    for i, (name, parameters, size) in enumerate([("big", 900, 4000), ("small", 100, 1000), ("simple", 1000, 5000),
                                                  ("weighted", 1000, 5000), ("baseline", 50, 500),
                                                  ("ensemble", 50, 250)])
}  # fmt: skip
MACHINE = {"processor": "abacus", "cores": "2"}


@pytest.fixture(scope="module")
def rows():
    return comparison.table(METHODS, LABELS, COSTS, teacher="big", ensemble="simple", resamples=2000, seed=0)


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


def test_gain_intervals_are_paired(rows):
    """`ensemble` is right in three of four as the teacher is, so only where seeds differ is there anything to gain."""
    row = rows.set_index("method").loc["ensemble"]
    gain = np.tile([0.5, -0.5, 0, 0], 10)
    draws = np.random.default_rng(1).choice(gain, (4000, 40)).mean(axis=1)
    found = (row["gain_over_teacher_low"], row["gain_over_teacher_high"])
    assert found == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])), abs=0.02)


def test_p_values_are_mcnemars_between_what_ships_after_holm_over_all_gains(rows):
    right = {m.name: m.log_probs[0].argmax(axis=1) == LABELS for m in METHODS}
    tests = [(name, "big") for name in right if name != "big"] + [(n, "baseline") for n in right if n != "baseline"]
    expected = statistics.holm(np.array([statistics.mcnemar(right[a], right[b]) for a, b in tests]))
    found = [column(rows, "gain_over_teacher_p" if b == "big" else "gain_over_alone_p")[a] for a, b in tests]
    assert found == pytest.approx(expected.tolist())
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


def test_a_pairs_interval_is_that_of_the_table(pairs, rows):
    row = pairs[(pairs["first"] == "big") & (pairs["second"] == "ensemble")].iloc[0]
    gain = rows.set_index("method").loc["ensemble"]
    assert -row["low"] == pytest.approx(gain["gain_over_teacher_high"], abs=0.02)
    assert -row["high"] == pytest.approx(gain["gain_over_teacher_low"], abs=0.02)


def test_compression_and_speed_up_refer_to_the_ensemble_that_teaches(rows):
    assert column(rows, "compression") == {
        "big": 1.25, "small": 5, "simple": 1, "weighted": 1, "baseline": 10, "ensemble": 20
    }  # fmt: skip
    assert column(rows, "speed_up") == {name: 4 / costs["p50_ms"] for name, costs in COSTS.items()}


def test_headline_survives_strict_json(rows):
    found = comparison.headline(rows)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["ensemble"]["size_bytes"] == 250
    assert set(found) == set(rows["method"])


@pytest.mark.parametrize(
    ("accuracies", "nlls", "best"),
    [((0.8, 0.9), (0.1, 0.5), "b"), ((0.9, 0.9), (0.3, 0.2), "b"), ((0.9, 0.9), (0.2, 0.2), "a")],
)
def test_the_best_seed_is_best_by_accuracy_then_by_nll_then_first(accuracies, nlls, best):
    scores = {
        name: {"val_accuracy": accuracy, "val_nll": nll}
        for name, accuracy, nll in zip("ab", accuracies, nlls, strict=True)
    }
    assert comparison.best_seed(["a", "b"], scores) == best


def test_markdown_has_a_line_a_method_in_each_table(rows, pairs):
    text = report.markdown(report.comparison(rows, pairs, comparison.over_seeds(METHODS, LABELS), len(LABELS), MACHINE))
    for name in ("teacher big", "teacher small", "simple average", "student alone", "student from the ensemble"):
        assert sum(line.startswith(f"| {name} ") for line in text.splitlines()) == 3
    assert "40 test images" in text and "2 seeds" in text and "processor abacus" in text
    assert "The simple average over the mean single teacher: +37.50 [" in text


def test_markdown_shows_the_numbers_of_the_table(rows, pairs):
    text = report.markdown(report.comparison(rows, pairs, {}, 40, MACHINE))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    short, worth, cost = [line for line in cells if line and line[0] == "student alone"]
    assert short[1:] == ["37.50", "-37.50", "16.000 ms", "0.2 x", "3.0 MB", "0.00 MB", "10.0 x", "4.0 min, 2.00 M"]
    assert worth[1].startswith("37.50 [") and worth[2] == "17.68"
    assert worth[3].startswith("-37.50 [-") and worth[3].endswith("] *") and worth[4] == "+0.00 [+0.00, +0.00]"
    assert cost[1:] == ["0.00 M", "2.0 M", "16.000, 81.000, 256.000", "5.062", "625.000", "100", "150", "10 ms", "1 %"]
    big, small, simple = ([line for line in cells if line and line[0] == name]
                          for name in ("teacher big", "teacher small", "simple average"))  # fmt: skip
    assert big[1][2] == "" and simple[2][5] == "" and small[2][-1] == "20 %, too unsteady to compare"


def test_test_images_of_unequal_classes_add_balanced_accuracy(rows, pairs):
    assert "balanced_accuracy" not in rows and "balanced %" not in report.tables(rows)[1]
    labels = np.where(np.arange(40) < 4, 1, 0)
    unequal = comparison.table(METHODS, labels, COSTS, teacher="big", ensemble="simple", resamples=200, seed=0)
    hits = METHODS[-1].log_probs.argmax(axis=2) == labels
    expected = (hits[:, :4].mean() + hits[:, 4:].mean()) / 2
    assert column(unequal, "balanced_accuracy")["ensemble"] == pytest.approx(expected)
    assert report.tables(unequal)[1]["balanced %"].iloc[-1] == f"{100 * expected:.2f}"
    assert comparison.headline(unequal)["ensemble"]["balanced_accuracy"] == pytest.approx(expected)
    found = comparison.summary(unequal, student="ensemble", teacher="big", ensemble="simple")
    assert found["student_balanced_accuracy"] == pytest.approx(expected)


def test_the_headline_is_the_rows_numbers_in_words(rows):
    found = report.headline(rows.set_index("method", drop=False).loc["ensemble"])
    assert found["ships"] == "student from the ensemble"
    assert found["test accuracy, %"].startswith("75.00 [")
    assert found["over the student alone, points"].startswith("+37.50 [")
    assert list(found.values())[3:] == ["32.000 ms", "0.00 MB", "0.1 x", "20.0 x"]


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def test_figures_are_whole_png_files(rows, tmp_path):
    report.trade_off(rows, tmp_path / "a.png")
    report.reliability({"on": {"x": [{"confidence": 0.9, "accuracy": 0.8, "share": 1.0}]}}, tmp_path / "b.png")
    report.confusion(np.array([[3, 0], [0, 0]]), ["a", "b"], "heading", tmp_path / "c.png")
    table = pd.DataFrame([("a", 0.9, 1.0, True), ("b", 0.8, 2.0, False)], columns=SUBSET_COLUMNS)
    report.subsets(table, tmp_path / "d.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png", "d.png"]
    for path in tmp_path.iterdir():
        image = opened(path)
        assert image.format == "PNG" and min(image.size) > 300


def test_the_confusion_of_a_thousand_classes_is_a_picture_that_a_page_can_hold(tmp_path):
    report.confusion(np.eye(1000, dtype=int), [f"class {number}" for number in range(1000)], "x", tmp_path / "a.png")
    assert max(opened(tmp_path / "a.png").size) <= report.LARGEST_CONFUSION * 130
    assert (tmp_path / "a.png").stat().st_size < 1_000_000


def test_a_figure_of_the_same_numbers_has_the_same_bytes(rows, tmp_path):
    for name in ("a.png", "b.png"):
        report.trade_off(rows, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_verdict_names_who_is_combined_and_how_sure_the_gain_is():
    pair = Ensemble("weighted", ["a", "b"], [0.5, 0.5], [1.0, 1.0])
    found = Selection("weighted", "a", ["a", "b", "c"], {"weighted": pair}, {}, {}, {}, pd.DataFrame(), pd.DataFrame(),
                      {"value": 0.02, "low": 0.01, "high": 0.03}, 1.0, {})  # fmt: skip
    expected = "weighted mean of a, b: +2.00 points [+1.00, +3.00] on val over the best single teacher, a: a gain"
    assert report.verdict(found) == expected
    unsure = replace(found, gain={"value": 0.02, "low": -0.01, "high": 0.03})
    assert report.verdict(unsure).endswith("no gain that is beyond chance")


def test_a_teacher_is_titled_by_its_name():
    assert report.title("teacher", "single") == "teacher single"
    assert report.title("student", "single") == "student from the single teacher"
    assert report.title("student", "from_resnet-1") == "student from resnet-1"


def test_gains_over_the_control_are_paired_by_seed():
    found = comparison.over_seeds(METHODS, LABELS)  # control right in 2/4 and 1/4, taught in 3/4 and 3/4
    assert found == {"ensemble": statistics.paired_over_seeds(np.array([0.25, 0.5]))}


def test_no_p_value_is_said_to_be_0():
    gain = {"value": 0.01, "low": 0.009, "high": 0.011}
    assert report.gain_over_seeds({**gain, "p": 0.0213}) == "+1.00 [+0.90, +1.10], p = 0.021"
    assert report.gain_over_seeds({**gain, "p": 0.0004}) == "+1.00 [+0.90, +1.10], p < 0.001"


def test_arms_of_students_are_scored_on_val_over_their_seeds():
    trained = {f"{arm}-{seed}": {"val_accuracy": value, "val_nll": 1 - value}
               for arm, values in {"baseline": (0.5, 0.6), "single": (0.6, 0.8)}.items()
               for seed, value in enumerate(values)}  # fmt: skip
    arms = {arm: [f"{arm}-0", f"{arm}-1"] for arm in ("baseline", "single")}
    found = comparison.by_arm(arms, trained)
    assert found["baseline"] == pytest.approx({"accuracy": 0.55, "nll": 0.45})
    assert found["single"]["gain_value"] == pytest.approx(0.15)
    assert "student from the single teacher: 70.00 % on val" in report.arms(found)
    assert "over the student alone +15.00 [" in report.arms(found)


def test_the_table_reads_what_ships_whatever_its_place_among_the_seeds(rows):
    first, second = METHODS[-1], replace(METHODS[-1], log_probs=METHODS[-1].log_probs[::-1], shipped=1)
    again = comparison.table([*METHODS[:-1], second], LABELS, COSTS, teacher="big", ensemble="simple",
                             resamples=2000, seed=0)  # fmt: skip
    assert np.array_equal(first.ships, second.ships)
    pd.testing.assert_frame_equal(rows, again)


def test_the_summary_names_the_students_numbers_and_what_it_is_held_against(rows):
    found = comparison.summary(rows, student="ensemble", teacher="big", ensemble="simple")
    accuracies = {name: found[f"{name}_accuracy"] for name in ("student", "alone", "single", "ensemble")}
    assert accuracies == {"student": 0.75, "alone": 0.375, "single": 0.75, "ensemble": 1.0}
    assert found["gain_over_alone"] == pytest.approx(0.375)
    assert found["student_size_mb"] == pytest.approx(250e-6)
    assert (found["faster"], found["smaller"]) == pytest.approx((2.0**2 / 2.0**5, 5000 / 250))


def test_predictions_have_a_column_a_seed_and_give_each_rows_accuracy(rows):
    table = comparison.predictions(METHODS, LABELS)
    alone = ["baseline-0", "baseline-1", "ensemble-0", "ensemble-1"]
    assert list(table) == ["label", "big", "small", "simple", "weighted", *alone]
    right = table.drop(columns="label").eq(table["label"], axis=0).mean()
    assert right[["baseline-0", "baseline-1"]].mean() == pytest.approx(column(rows, "accuracy")["baseline"])
