from dataclasses import replace

import pytest

from pipeline.deployment import lineup
from pipeline.ensembles.ensemble import alone, uniform
from pipeline.project import paths
from tests.deployment.rows import ARMS, ENTRIES


@pytest.mark.parametrize(
    ("accuracies", "nlls", "best"),
    [((0.8, 0.9), (0.1, 0.5), "b"), ((0.9, 0.9), (0.3, 0.2), "b"), ((0.9, 0.9), (0.2, 0.2), "a")],
)
def test_the_best_seed_is_best_by_accuracy_then_by_nll_then_first(accuracies, nlls, best):
    scores = {
        name: {"val_accuracy": accuracy, "val_nll": nll}
        for name, accuracy, nll in zip("ab", accuracies, nlls, strict=True)
    }
    assert lineup.best_seed(["a", "b"], scores) == best


@pytest.mark.parametrize(
    ("kind", "system", "file"),
    [
        ("teacher", alone("big"), paths.EXPORTED / "teachers/big/model.onnx"),
        ("student", alone("baseline-1"), paths.EXPORTED / "students/baseline/1/model.onnx"),
        ("int8", alone("from_big-1"), paths.EXPORTED / "students/from_big/1/int8.onnx"),
        ("ensemble", uniform(["big", "small"]), paths.EXPORTED / "ensemble/model.onnx"),
    ],
)
def test_what_ships_is_one_file(kind, system, file):
    assert lineup.Entry("row", kind, system, system.members).file == file


def test_teachers_ensembles_students_and_the_int8_of_what_may_ship_stand_in_that_order():
    assert [(entry.kind, entry.name) for entry in ENTRIES] == [
        *[("teacher", name) for name in ("big", "small", "weak")],
        *[("ensemble", name) for name in ("simple", "weighted")],
        *[("student", name) for name in ARMS],
        *[("int8", f"{name}_int8") for name in ("big", *ARMS)],
    ]


def test_of_an_arm_the_seed_that_is_best_on_val_ships():
    taught = next(entry for entry in ENTRIES if entry.name == "ensemble")
    assert taught.system.members == ["ensemble-1"] and taught.shipped == 1


def test_what_ships_is_known_by_arm_seed_and_precision():
    origins = {entry.name: entry.origin for entry in ENTRIES}
    file = "models/exported/students/from_weak/1/int8.onnx"
    assert origins["from_weak_int8"] == {"row": "from_weak_int8", "arm": "from_weak", "model": "from_weak-1", "seed": 1,
                                         "precision": "int8", "file": file}  # fmt: skip
    assert (origins["big"]["model"], origins["big"]["seed"], origins["big"]["precision"]) == ("big", None, "fp32")
    assert (origins["weighted"]["arm"], origins["weighted"]["model"]) == ("weighted", None)


def test_only_the_chosen_ensemble_may_ship_and_not_where_it_is_one_model():
    kept = [entry.name for entry in ENTRIES if entry.name != "simple"]
    assert [entry.name for entry in lineup.may_ship(ENTRIES, "weighted")] == kept
    lonely = [replace(entry, models=["big"]) if entry.name == "weighted" else entry for entry in ENTRIES]
    assert "weighted" not in [entry.name for entry in lineup.may_ship(lonely, "weighted")]
