import numpy as np
import pytest

from pipeline.deployment import lineup
from pipeline.reporting import costs

FITTED = {
    "best": "big",
    "chosen": "weighted",
    "methods": {
        method: {"method": method, "members": members, "weights": [0.5] * len(members), "temperatures": [1.0, 1.0]}
        for method, members in {"simple": ["big", "small", "weak"], "weighted": ["big", "small"]}.items()
    },
}
ARMS = {"baseline": ["baseline-0", "baseline-1"], "single": ["single-0", "single-1"],
        "ensemble": ["ensemble-0", "ensemble-1"], "from_weak": ["from_weak-0", "from_weak-1"]}  # fmt: skip
SCORES = {name: {"val_accuracy": 0.8 + int(name[-1]) / 10, "val_nll": 0.5} for names in ARMS.values() for name in names}
TRAINED = {"big": (100, 1000), "small": (50, 2000), "weak": (10, 100)} | {
    name: (4 + 2 * int(name[-1]), 40) for names in ARMS.values() for name in names
}
CACHED = dict.fromkeys(("big", "small", "weak"), (7, 500))


@pytest.fixture(scope="module")
def entries():
    return lineup.table_rows(["big", "small", "weak"], ARMS, FITTED, SCORES)


def test_teachers_ensembles_students_and_the_int8_of_what_may_ship_stand_in_that_order(entries):
    assert [(entry.kind, entry.name) for entry in entries] == [
        *[("teacher", name) for name in ("big", "small", "weak")],
        *[("ensemble", name) for name in ("simple", "weighted")],
        *[("student", name) for name in ARMS],
        *[("int8", f"{name}_int8") for name in ("big", *ARMS)],
    ]


def test_of_an_arm_the_seed_that_is_best_on_val_ships(entries):
    taught = next(entry for entry in entries if entry.name == "ensemble")
    assert taught.system.members == ["ensemble-1"] and taught.shipped == 1


def columns(entries):
    trained, cached = ({name: np.array(cost) for name, cost in each.items()} for each in (TRAINED, CACHED))
    rows = costs.columns(entries, FITTED, trained, cached)
    return {name: (row["train_seconds"], row["train_images"]) for name, row in rows.items()}


def test_a_method_costs_its_teachers_their_answers_and_one_student(entries):
    spent = columns(entries)
    assert spent["big"] == (100, 1000)
    assert spent["simple"] == (160, 3100)
    assert spent["baseline"] == (5, 40)  # the mean over seeds, no teacher
    assert spent["single"] == (5 + 100 + 7, 40 + 1000 + 500)
    assert spent["ensemble"] == (5 + 150 + 14, 40 + 3000 + 1000)  # of the two members that teach
    assert spent["from_weak"] == (5 + 10 + 7, 40 + 100 + 500)


def test_quantising_costs_no_training(entries):
    spent = columns(entries)
    for name in ("big", *ARMS):
        assert spent[f"{name}_int8"] == spent[name]


def test_a_record_states_what_training_and_caching_took():
    record = {"started": 1000, "ended": 3500, "metrics": {"train_seconds": 7.5, "train_images": 900,
                                                          "folds_seconds": 2.0, "folds_images": 300}}  # fmt: skip
    assert costs.training(record).tolist() == [7.5, 900]
    assert costs.training(record, "folds").tolist() == [2, 300]
    assert costs.caching(record, 80).tolist() == [2.5, 80]
