"""The table that all of this is for: one row a method, every cell measured, each gain paired and with its interval."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline import metrics
from pipeline.ensemble import Ensemble

COMPARED = ("accuracy", "gain_over_teacher", "gain_over_alone")
HEADLINE = ("accuracy", "accuracy_low", "accuracy_high", "nll", "ece", "p50_ms", "images_per_second", "size_bytes")


@dataclass(frozen=True)
class Method:
    """One row before it is measured against the others.

    kind: "teacher", "ensemble" or "student". system: what is deployed; a single model is an ensemble of one.
    log_probs: (seeds, samples, classes) on test; teachers and ensembles have one seed.
    """

    name: str
    kind: str
    system: Ensemble
    log_probs: np.ndarray


def alone(model: str) -> Ensemble:
    """A single model as it is."""
    return Ensemble("alone", [model], [1.0], [1.0])


def best_seed(models: list[str], scores: dict[str, dict[str, float]]) -> str:
    """The student of an arm that ships: the best on val by accuracy, then by NLL."""
    return max(models, key=lambda model: (scores[model]["val_accuracy"], -scores[model]["val_nll"]))


def table(
    methods: list[Method],
    labels: np.ndarray,
    parameters: dict[str, int],
    size_bytes: dict[str, int],
    speed: dict[str, dict[str, float]],
    *,
    teacher: str,
    ensemble: str,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """One row a method: fractions for accuracies, bytes, milliseconds; `_low` and `_high` bound 95 % intervals.

    Accuracy, NLL and ECE of students are means over their seeds; `accuracy_std` is the spread over seeds. Gains are
    paired over test samples; the intervals resample test samples, not seeds.

    Args:
        parameters, size_bytes: per model. speed: per method, from pipeline.latency.measure.
        teacher, ensemble: the rows that gains, and compression and speed-up, refer to.
    """
    hits = {m.name: np.mean([metrics.correct(scores, labels) for scores in m.log_probs], axis=0) for m in methods}
    sizes = {m.name: sum(size_bytes[member] for member in m.system.members) for m in methods}
    rows = []
    for method in methods:
        name = method.name
        scores = pd.DataFrame([metrics.scores(of_seed, labels) for of_seed in method.log_probs])
        row = {
            "method": name,
            "kind": method.kind,
            "seeds": len(scores),
            **scores.mean().to_dict(),
            "accuracy_std": scores["accuracy"].std(),
            "parameters": sum(parameters[member] for member in method.system.members),
            "size_bytes": sizes[name],
            "compression": sizes[ensemble] / sizes[name],
            **speed[name],
            "speed_up": speed[ensemble]["p50_ms"] / speed[name]["p50_ms"],
        }
        compared = (hits[name], hits[name] - hits[teacher], hits[name] - hits["baseline"])
        for column, values in zip(COMPARED, compared, strict=True):
            row[column] = values.mean()
            row[f"{column}_low"], row[f"{column}_high"] = metrics.bootstrap_interval(values, resamples, seed)
        rows.append(row)
    return pd.DataFrame(rows)


def headline(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The numbers of each row that people compare versions by."""
    return {row["method"]: {column: float(row[column]) for column in HEADLINE} for _, row in rows.iterrows()}
