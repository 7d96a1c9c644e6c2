"""The table that all of this is for: one row a method, every cell measured, each gain paired and with its interval."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.ensembles.ensemble import Ensemble
from pipeline.scoring import metrics, statistics

HEADLINE = (
    *("accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "nll", "ece"),
    *("p50_ms", "images_per_second", "size_bytes"),
)
CONTROL = "baseline"  # the arm without a teacher
MEAN_TEACHER = "mean_teacher"  # the average of the single teachers' accuracies, as a row to compare with


@dataclass(frozen=True)
class Method:
    """One row before it is measured against the others.

    kind: "teacher", "ensemble", "student" or "int8". system: what is deployed; a single model is an ensemble of one.
    log_probs: (seeds, samples, classes) on test; teachers and ensembles have one seed. shipped: which of them ships.
    """

    name: str
    kind: str
    system: Ensemble
    log_probs: np.ndarray
    shipped: int = 0

    @property
    def ships(self) -> np.ndarray:
        """(samples, classes) log-probabilities of what is deployed."""
        return self.log_probs[self.shipped]


def best_seed(models: list[str], scores: dict[str, dict[str, float]]) -> str:
    """The student of an arm that ships: the best on val by accuracy, then by NLL."""
    return max(models, key=lambda model: (scores[model]["val_accuracy"], -scores[model]["val_nll"]))


def table(
    methods: list[Method],
    labels: np.ndarray,
    costs: dict[str, dict[str, float]],
    *,
    teacher: str,
    ensemble: str,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """One row a method: fractions for accuracies, bytes, milliseconds; `_low` and `_high` bound 95 % intervals.

    Accuracy, NLL, Brier and ECE of students are means over their seeds; `accuracy_std` is the spread over seeds;
    `balanced_accuracy` is there if the classes are not equally frequent. Gains
    are paired over test samples; the intervals resample test samples, not seeds. `_p` is the p-value of McNemar's exact
    test between what ships, after Holm's correction over all gains of the table.

    Args:
        costs: columns of each method, `size_bytes` and `p50_ms` among them.
        teacher, ensemble: the rows that gains, and compression and speed-up, refer to.
    """
    references = {"gain_over_teacher": teacher, "gain_over_alone": CONTROL}
    hits = _hits(methods, labels)
    means = _resampled(hits, resamples, seed)
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
            **costs[name],
            "compression": costs[ensemble]["size_bytes"] / costs[name]["size_bytes"],
            "speed_up": costs[ensemble]["p50_ms"] / costs[name]["p50_ms"],
        }
        row["accuracy_low"], row["accuracy_high"] = statistics.interval(means[name])
        for column, other in references.items():
            row[column] = (hits[name] - hits[other]).mean()
            row[f"{column}_low"], row[f"{column}_high"] = statistics.interval(means[name] - means[other])
        rows.append(row)
    rows = pd.DataFrame(rows)
    shipped = {method.name: metrics.correct(method.ships, labels) for method in methods}
    tests = {(name, column): statistics.mcnemar(shipped[name], shipped[other])
             for column, other in references.items() for name in shipped if name != other}  # fmt: skip
    holding = dict(zip(tests, statistics.holm(np.array(list(tests.values()))), strict=True))
    for column in references:
        rows[f"{column}_p"] = [holding.get((name, column), 1.0) for name in rows["method"]]
    return rows


def pairs(methods: list[Method], labels: np.ndarray, resamples: int, seed: int) -> pd.DataFrame:
    """Every two rows, and each with the mean single teacher: `difference` of `first` minus `second`, its interval.

    `only_first` and `only_second` count the test samples that one of the two gets right; `p` is McNemar's exact test on
    them, of the seeds that ship, and `p_holm` the same after Holm's correction over all these pairs. The mean teacher
    is no classifier and has no test.
    """
    hits, shipped = _hits(methods, labels), {m.name: metrics.correct(m.ships, labels) for m in methods}
    teachers = [hits[method.name] for method in methods if method.kind == "teacher"]
    hits[MEAN_TEACHER] = np.mean(teachers, axis=0)
    means = _resampled(hits, resamples, seed)
    rows = []
    for first, second in combinations(hits, 2):
        low, high = statistics.interval(means[first] - means[second])
        row = {"first": first, "second": second, "difference": (hits[first] - hits[second]).mean(),
               "low": low, "high": high}  # fmt: skip
        if second != MEAN_TEACHER:
            a, b = shipped[first], shipped[second]
            row |= {"only_first": (a & ~b).sum(), "only_second": (b & ~a).sum(), "p": statistics.mcnemar(a, b)}
        rows.append(row)
    table = pd.DataFrame(rows)
    tested = table["p"].notna()
    table.loc[tested, "p_holm"] = statistics.holm(table.loc[tested, "p"].to_numpy())
    return table.astype({"only_first": "Int64", "only_second": "Int64"})


def over_seeds(methods: list[Method], labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Each taught arm's accuracy over that of the control with the same seeds; nothing where there is one seed."""
    of_seed = {m.name: metrics.correct(m.log_probs, labels).mean(axis=1) for m in methods if m.kind == "student"}
    control = of_seed.pop(CONTROL)
    found = {name: statistics.paired_over_seeds(each - control) for name, each in of_seed.items()}
    return {name: gain for name, gain in found.items() if gain}


def by_arm(arms: dict[str, list[str]], trained: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """What each arm of students reaches on val: means over seeds, and the gain over the control seed by seed.

    Args:
        arms: as pipeline.params.Params.student_arms. trained: each model's metrics, fractions and nats.
    """
    accuracy = {arm: np.array([trained[name]["val_accuracy"] for name in names]) for arm, names in arms.items()}
    rows = {}
    for arm, names in arms.items():
        rows[arm] = {"accuracy": float(accuracy[arm].mean()),
                     "nll": float(np.mean([trained[name]["val_nll"] for name in names]))}  # fmt: skip
        if arm != CONTROL and (gain := statistics.paired_over_seeds(accuracy[arm] - accuracy[CONTROL])):
            rows[arm] |= {f"gain_{key}": number for key, number in gain.items()}
    return rows


def headline(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The numbers of each row that people compare versions by."""
    return {
        row["method"]: {column: float(row[column]) for column in HEADLINE if column in row}
        for _, row in rows.iterrows()
    }


def summary(rows: pd.DataFrame, *, student: str, teacher: str, ensemble: str) -> dict[str, float]:
    """What people compare versions by, first and flat: fractions, milliseconds, megabytes.

    Args:
        rows: of `table`. student, teacher, ensemble: the rows of the student, its best teacher and its ensemble.
    """
    by_name = rows.set_index("method")
    taught = by_name.loc[student]
    scores = ("accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "nll", "ece")
    of_student = {f"student_{key}": taught[key] for key in scores if key in taught}
    gain = {key: taught[key] for key in ("gain_over_alone", "gain_over_alone_low", "gain_over_alone_high")}
    others = {"alone": CONTROL, "single": teacher, "ensemble": ensemble}
    numbers = {
        **of_student,
        **gain,
        **{f"{key}_accuracy": by_name.loc[name, "accuracy"] for key, name in others.items()},
        "student_p50_ms": taught["p50_ms"],
        "ensemble_p50_ms": by_name.loc[ensemble, "p50_ms"],
        "faster": taught["speed_up"],
        "student_size_mb": taught["size_bytes"] / 1e6,
        "smaller": taught["compression"],
    }
    return {name: float(number) for name, number in numbers.items()}


def predictions(methods: list[Method], labels: np.ndarray) -> pd.DataFrame:
    """One row a sample: its `label`, and the class that each method answers; a column a seed where there are several.

    Columns are METHOD, or METHOD-0, METHOD-1, ... in the order of the seeds.
    """
    columns = {"label": labels}
    for method in methods:
        answers = method.log_probs.argmax(axis=2)
        columns |= dict(zip(answer_columns(method.name, len(answers)), answers, strict=True))
    return pd.DataFrame(columns)


def answer_columns(method: str, seeds: int) -> list[str]:
    """The columns of `predictions` that hold a method's answers."""
    return [f"{method}-{k}" for k in range(seeds)] if seeds > 1 else [method]


def _hits(methods: list[Method], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Each method's (samples,) hits, the mean over its seeds."""
    return {m.name: metrics.correct(m.log_probs, labels).mean(axis=0) for m in methods}


def _resampled(hits: dict[str, np.ndarray], resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Each row's (resamples,) mean hits, all over the same resamples."""
    return dict(zip(hits, statistics.bootstrap_means(np.stack(list(hits.values())), resamples, seed).T, strict=True))
