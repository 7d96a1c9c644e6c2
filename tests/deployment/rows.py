"""The rows of three teachers, two ensembles and four arms of two students."""

from pipeline.deployment import lineup

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
ENTRIES = lineup.table_rows(["big", "small", "weak"], ARMS, FITTED, SCORES)
