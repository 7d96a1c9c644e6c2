import numpy as np
import pytest

from pipeline.reporting import arms
from pipeline.scoring import statistics

TRAINED = {
    f"{arm}-{seed}": {"val_accuracy": value, "val_nll": 1 - value}
    for arm, values in {"baseline": (0.5, 0.6), "single": (0.6, 0.8)}.items()
    for seed, value in enumerate(values)
}


def scores(seeds):
    return arms.by_arm({arm: [f"{arm}-{seed}" for seed in range(seeds)] for arm in ("baseline", "single")}, TRAINED)


def test_arms_of_students_are_scored_on_val_over_their_seeds():
    assert scores(2)["baseline"] == pytest.approx({"accuracy": 0.55, "nll": 0.45})
    assert scores(2)["single"]["gain_value"] == pytest.approx(0.15)


def test_a_single_seed_has_no_gain():
    assert scores(1) == {"baseline": {"accuracy": 0.5, "nll": 0.5}, "single": {"accuracy": 0.6, "nll": 0.4}}


def test_an_arm_is_a_line_with_its_gain_where_it_has_one():
    alone, taught = arms.text(scores(2)).splitlines()
    assert alone == "student alone: 55.00 % on val, NLL 0.450"
    assert taught.startswith(
        "student from the single teacher: 70.00 % on val, NLL 0.300, over the student alone +15.00 ["
    )
    assert all("over" not in line for line in arms.text(scores(1)).splitlines())


LABELS = np.array([0, 1, 1, 0])
ROWS = {"student": np.array([[0, 1, 1, 1], [0, 1, 1, 0]]), "alone": np.array([[1, 1, 0, 1], [0, 1, 0, 0]]),
        "single": np.array([[0, 1, 1, 1]]), "ensemble": np.array([[0, 1, 1, 0]])}  # fmt: skip


def test_hits_are_those_of_each_seed_of_a_role():
    table = arms.predictions(ROWS, LABELS)
    assert list(table) == ["label", "student-0", "student-1", "alone-0", "alone-1", "single-0", "ensemble-0"]
    assert arms.hits(table, "student").tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert arms.hits(table, "single").shape == (1, 4)


def test_the_summary_of_val_has_each_role_and_the_gain_over_images_and_seeds():
    summary = arms.summary(arms.predictions(ROWS, LABELS))
    accuracies = {role: summary[f"{role}_accuracy"] for role in arms.ROLES}
    assert accuracies == {"student": 7 / 8, "alone": 4 / 8, "single": 3 / 4, "ensemble": 1}
    gain = np.array([[1, 0, 1, 0], [0, 0, 1, 0]])
    bounds = statistics.crossed_interval(gain)
    assert (summary["gain_over_alone_low"], summary["gain_over_alone_high"]) == pytest.approx(bounds)
    assert summary["gain_over_alone"] == pytest.approx(3 / 8)
