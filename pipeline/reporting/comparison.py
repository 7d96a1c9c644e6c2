"""The table that all of this is for: one row a method, every cell measured, each gain paired and with its interval."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.params import BASELINE
from pipeline.scoring import metrics, statistics

WORTH = (
    *("accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "nll", "ece", "nll_calibrated"),
    *("ece_calibrated", "shipped_accuracy"),
)
HEADLINE = (*WORTH, "corrupted", "p50_ms", "images_per_second", "size_bytes")
MEAN_TEACHER = "mean_teacher"  # the average of the single teachers' accuracies, as a row to compare with


@dataclass(frozen=True)
class Method:
    """One row before it is measured against the others.

    kind: "teacher", "ensemble", "student" or "int8". log_probs: (seeds, samples, classes) on test; teachers and
    ensembles have one seed. temperatures: (seeds,) that calibrate each on val. shipped: which of the seeds ships.
    """

    name: str
    kind: str
    log_probs: np.ndarray
    temperatures: np.ndarray
    shipped: int = 0

    @property
    def ships(self) -> np.ndarray:
        """(samples, classes) log-probabilities of what is deployed."""
        return self.log_probs[self.shipped]


def table(
    methods: list[Method],
    labels: np.ndarray,
    costs: dict[str, dict[str, float]],
    *,
    teacher: str,
    ensemble: str,
) -> pd.DataFrame:
    """One row a method: fractions for accuracies, bytes, milliseconds; `_low` and `_high` bound 95 % intervals.

    Scores of students are means over their seeds and `accuracy_std` is the spread; `balanced_accuracy` is there if the
    classes are not equally frequent. `nll_calibrated` and `ece_calibrated` are after the method's temperatures;
    `shipped_accuracy` is of the seed that ships, with the exact interval of one model. The other intervals cover the
    choice of test samples, and of seeds where a row has several; those of gains are paired, sample by sample and seed
    by seed. `_differing` counts the samples on which the two differ, a mean over seeds. `_p` is the p-value of
    McNemar's exact test between what ships, after Holm's correction over all gains.

    Args:
        costs: columns of each method, `size_bytes` and `p50_ms` among them.
        teacher, ensemble: the rows that gains, and compression and speed-up, refer to.
    """
    hits = {method.name: metrics.correct(method.log_probs, labels) * 1.0 for method in methods}
    shipped, p = _shipped(methods, labels), {}
    rows = pd.DataFrame([_row(method, labels) | costs[method.name] for method in methods], index=list(hits))
    rows["compression"] = rows["size_bytes"][ensemble] / rows["size_bytes"]
    rows["speed_up"] = rows["p50_ms"][ensemble] / rows["p50_ms"]
    of_file = {name: right[None] * 1.0 for name, right in shipped.items()}
    rows["shipped_accuracy"] = [float(right.mean()) for right in of_file.values()]
    for column, answers in {"accuracy": hits, "shipped_accuracy": of_file}.items():
        bounds = [statistics.accuracy_interval(each) for each in answers.values()]
        rows[f"{column}_low"], rows[f"{column}_high"] = np.transpose(bounds)
    for column, other in {"gain_over_teacher": teacher, "gain_over_alone": BASELINE}.items():
        gains = [_gain(column, each - hits[other]) for each in hits.values()]
        rows = rows.join(pd.DataFrame(gains, index=rows.index)).assign(**{f"{column}_p": 1.0})
        p |= {(name, f"{column}_p"): statistics.mcnemar(shipped[name], shipped[other])
              for name in shipped if name != other}  # fmt: skip
    for cell, corrected in zip(p, statistics.holm(np.array(list(p.values()))), strict=True):
        rows.loc[cell] = corrected
    return rows.reset_index(drop=True)


def pairs(methods: list[Method], labels: np.ndarray, resamples: int, seed: int) -> pd.DataFrame:
    """Every two rows, and each with the mean single teacher: `difference` of `first` minus `second`, its interval.

    The interval is a bootstrap over test samples, paired; it covers no choice of seeds.
    `only_first` and `only_second` count the test samples that one of the two gets right; `p` is McNemar's exact test on
    them, of the seeds that ship, and `p_holm` the same after Holm's correction over all these pairs. The mean teacher
    is no classifier and has no test.
    """
    hits, shipped = _hits(methods, labels), _shipped(methods, labels)
    hits[MEAN_TEACHER] = hits[[method.name for method in methods if method.kind == "teacher"]].mean(axis=1)
    means = pd.DataFrame(statistics.bootstrap_means(hits.to_numpy().T, resamples, seed), columns=hits.columns)
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
    """Each taught arm's accuracy over that of the baseline with the same seeds; nothing where there is one seed."""
    accuracy = {m.name: metrics.correct(m.log_probs, labels).mean(axis=1) for m in methods if m.kind == "student"}
    baseline = accuracy.pop(BASELINE)
    gains = {arm: statistics.paired_over_seeds(values - baseline) for arm, values in accuracy.items()}
    return {arm: gain for arm, gain in gains.items() if gain}


def under_corruptions(hits: dict[str, dict[str, np.ndarray]]) -> pd.DataFrame:
    """Columns of the table, by method: `corrupted` is the accuracy over all corruptions and these images, a fraction.

    `corrupted_low` and `corrupted_high` bound its 95 % interval, `corrupted_NAME` is the accuracy under one corruption
    and `corrupted_clean` that on the same images as they are. `corrupted_over_alone` is the gain of `corrupted` over
    the baseline's, with its bounds. An image counts with the share of corruptions under which it is right, so that the
    intervals cover the choice of images, and of seeds where there are several, but not that of corruptions.

    Args:
        hits: by method, by corruption and `clean`: (seeds, samples) bool, what is right.
    """
    shares = {method: np.mean([right for name, right in each.items() if name != "clean"], axis=0)
              for method, each in hits.items()}  # fmt: skip
    rows = {}
    for method, share in shares.items():
        (low, high), gain = statistics.accuracy_interval(share), share - shares[BASELINE]
        gain_low, gain_high = statistics.crossed_interval(gain)
        rows[method] = {
            "corrupted": share.mean(), "corrupted_low": low, "corrupted_high": high,
            "corrupted_over_alone": gain.mean(), "corrupted_over_alone_low": gain_low,
            "corrupted_over_alone_high": gain_high,
            **{f"corrupted_{name}": right.mean() for name, right in hits[method].items()},
            "images_corrupted": share.shape[1],
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def headline(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The numbers of each row that people compare versions by."""
    numbers = rows.set_index("method")[[column for column in HEADLINE if column in rows]]
    return numbers.astype(float).to_dict("index")


def summary(rows: pd.DataFrame, *, student: str, teacher: str, ensemble: str) -> dict[str, float]:
    """What people compare versions by, first and flat: fractions, milliseconds, megabytes.

    Args:
        rows: of `table`. student, teacher, ensemble: the rows of the student, the best single teacher on val, and the
            ensemble.
    """
    by_name = rows.set_index("method")
    taught = by_name.loc[student]
    references = {"alone": BASELINE, "single": teacher, "ensemble": ensemble}
    numbers = {
        **{f"student_{key}": taught[key] for key in WORTH if key in taught},
        **{key: taught[key] for key in ("gain_over_alone", "gain_over_alone_low", "gain_over_alone_high")},
        **{f"{key}_accuracy": by_name.loc[name, "accuracy"] for key, name in references.items()},
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


def _row(method: Method, labels: np.ndarray) -> dict[str, str | float]:
    scores = pd.DataFrame([metrics.scores(log_probs, labels) for log_probs in method.log_probs])
    cooled = metrics.log_softmax(method.log_probs / method.temperatures[:, None, None])
    calibrated = pd.DataFrame([metrics.scores(log_probs, labels) for log_probs in cooled])[["nll", "ece"]]
    return {"method": method.name, "kind": method.kind, "seeds": len(scores), **scores.mean(),
            **calibrated.mean().add_suffix("_calibrated"), "accuracy_std": scores["accuracy"].std()}  # fmt: skip


def _gain(column: str, differences: np.ndarray) -> dict[str, float]:
    """A gain's columns of the table. differences: (seeds, samples) of hits; a row of one seed meets each of many."""
    low, high = statistics.crossed_interval(differences)
    differing = np.count_nonzero(differences) / len(differences)
    return {column: differences.mean(), f"{column}_low": low, f"{column}_high": high, f"{column}_differing": differing}


def _hits(methods: list[Method], labels: np.ndarray) -> pd.DataFrame:
    """Who is right on which sample, a column a method, the mean over its seeds."""
    return pd.DataFrame({m.name: metrics.correct(m.log_probs, labels).mean(axis=0) for m in methods})


def _shipped(methods: list[Method], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Which samples each method gets right with the seed that ships."""
    return {m.name: metrics.correct(m.ships, labels) for m in methods}
