import numpy as np

from pipeline.reporting import costs
from tests.deployment.rows import ARMS, ENTRIES, FITTED

TRAINED = {"big": (100, 1000), "small": (50, 2000), "weak": (10, 100)} | {
    name: (4 + 2 * int(name[-1]), 40) for names in ARMS.values() for name in names
}
CACHED = dict.fromkeys(("big", "small", "weak"), (7, 500))


def columns():
    trained, cached = ({name: np.array(cost) for name, cost in each.items()} for each in (TRAINED, CACHED))
    rows = costs.columns(ENTRIES, FITTED, trained, cached)
    return {name: (row["train_seconds"], row["train_images"]) for name, row in rows.items()}


def test_a_method_costs_its_teachers_their_answers_and_one_student():
    spent = columns()
    assert spent["big"] == (100, 1000)
    assert spent["simple"] == (160, 3100)
    assert spent["baseline"] == (5, 40)  # the mean over seeds, no teacher
    assert spent["single"] == (5 + 100 + 7, 40 + 1000 + 500)
    assert spent["ensemble"] == (5 + 150 + 14, 40 + 3000 + 1000)  # of the two members that teach
    assert spent["from_weak"] == (5 + 10 + 7, 40 + 100 + 500)


def test_quantising_costs_no_training():
    spent = columns()
    for name in ("big", *ARMS):
        assert spent[f"{name}_int8"] == spent[name]


def test_a_record_states_what_training_and_caching_took():
    spent = {"train_seconds": 7.5, "train_images": 900, "folds_seconds": 2.0, "folds_images": 300, "cache_seconds": 2.5}
    record = {"started": 1000, "ended": 2000, "metrics": spent}  # the last execution's second is not all of it
    assert costs.training(record).tolist() == [7.5, 900]
    assert costs.training(record, "folds").tolist() == [2, 300]
    assert costs.caching(record, 80).tolist() == [2.5, 80]
