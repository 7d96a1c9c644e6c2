import pytest

from pipeline.reporting import arms

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
