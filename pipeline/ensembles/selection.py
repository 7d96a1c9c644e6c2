"""Which members and which method: all choices are made on cross-fitted predictions for the validation split."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline import params
from pipeline.ensembles import diversity, fitting
from pipeline.ensembles.ensemble import Ensemble, mean_probs
from pipeline.ensembles.subsets import subset_name, subsets_of
from pipeline.project.errors import PipelineError
from pipeline.scoring import metrics, statistics

RESAMPLES = 10_000


@dataclass(frozen=True)
class Selection:
    """What was chosen and what the choice rests on.

    chosen: a method. best: the best single member. members: those that are combined.
    fitted: each method, and singles: each teacher alone and calibrated, on the whole split.
    held_out: (samples, classes) log-probabilities of each member and method, by one fitted without the sample.
    raw: the same of each member as it is.
    subsets, pairs: tables; see `score_subsets` and pipeline.ensembles.diversity.pairwise.
    gain: accuracy of the chosen method minus that of the best member, and the 95 % interval.
    oracle: the accuracy of a perfect choice among the members. contribution: see `contributions`.
    """

    chosen: str
    best: str
    members: list[str]
    fitted: dict[str, Ensemble]
    singles: dict[str, Ensemble]
    held_out: dict[str, np.ndarray]
    raw: dict[str, np.ndarray]
    subsets: pd.DataFrame
    pairs: pd.DataFrame
    gain: dict[str, float]
    oracle: float
    contribution: dict[str, dict[str, float]]

    def teacher(self, source: str) -> Ensemble:
        """Who teaches, by its name in `distill.sources`."""
        if source == "ensemble":
            return self.fitted[self.chosen]
        return self.singles[self.best if source == "single" else source.removeprefix("from_")]

    def scores(self, labels: np.ndarray) -> dict[str, dict[str, dict[str, float]]]:
        """pipeline.scoring.metrics.scores of every member and method, `raw` and `held_out`."""
        kinds = {"raw": self.raw, "held_out": self.held_out}
        return {kind: {name: metrics.scores(row, labels) for name, row in rows.items()} for kind, rows in kinds.items()}

    def temperatures(self, labels: np.ndarray) -> dict[str, float]:
        """What calibrates each member and method of the table: of members as they are, of methods held out."""
        rows = self.raw | {method: self.held_out[method] for method in self.fitted}
        return {name: fitting.fit_temperature(row, labels) for name, row in rows.items()}


def select(
    logits: dict[str, np.ndarray],
    labels: np.ndarray,
    settings: params.Ensemble,
    latency: dict[str, float],
    seed: int,
) -> Selection:
    """Choose members and method on the validation split.

    Args:
        logits: each member's (samples, classes).
        latency: milliseconds of each subset, by `subset_name`, members timed together.
    Raises:
        PipelineError: members that can't be combined, too few samples for `ensemble.select`, or a budget that none
            fits.
    """
    logits = dict(zip(logits, fitting.stack(logits, labels), strict=True))
    singles, alone = {}, {}
    for name, member in logits.items():
        arguments = ["mean_probs"], [name], member[None], labels, settings, seed
        (singles[name],) = fitting.predict_out_of_fold(*arguments).values()
        (alone[name],) = fitting.fit(*arguments).values()
    best = min(singles, key=lambda name: loss(singles[name], labels, settings.metric).mean())
    subsets = score_subsets(singles, labels, latency)
    members = within_budget(subsets, settings.budget_ms, settings.metric) if settings.budget_ms else list(logits)

    stacked = np.stack([logits[name] for name in members])
    methods = fitted_methods(settings, labels, stacked.shape[-1])
    combined = fitting.predict_out_of_fold(methods, members, stacked, labels, settings, seed)
    chosen = settings.select
    if chosen == "auto":
        chosen = simplest({name: loss(log_probs, labels, settings.metric) for name, log_probs in combined.items()})
    fitted = fitting.fit(methods, members, stacked, labels, settings, seed)

    difference = metrics.correct(combined[chosen], labels) * 1.0 - metrics.correct(singles[best], labels)
    low, high = statistics.bootstrap_interval(difference, RESAMPLES, seed)
    predicted = {name: member.argmax(axis=1) for name, member in logits.items()}
    return Selection(
        chosen=chosen,
        best=best,
        members=members,
        fitted={method: one.pruned() for method, one in fitted.items()},
        singles=alone,
        held_out=singles | combined,
        raw={name: metrics.log_softmax(member) for name, member in logits.items()},
        subsets=subsets,
        pairs=diversity.pairwise(predicted, labels),
        gain={"value": float(difference.mean()), "low": low, "high": high},
        oracle=diversity.oracle_accuracy(predicted, labels),
        contribution=contributions({name: singles[name] for name in members}, labels),
    )


def fitted_methods(settings: params.Ensemble, labels: np.ndarray, classes: int) -> list[str]:
    """From simple to complex; without stacking, which has a coefficient for each class, where val has few of one."""
    methods = [method for method in fitting.METHODS if method in ("simple", *settings.methods)]
    if "stacking" not in methods or fitting.regressible(labels, classes, settings.folds):
        return methods
    fewest = int(np.bincount(labels, minlength=classes).min())
    if settings.select == "stacking":
        raise PipelineError(
            f"`ensemble.select` is stacking, which needs {max(settings.folds, 4)} validation images of each class for "
            f"`ensemble.folds` {settings.folds}; one class has {fewest}. Raise `data.val_fraction`, or select auto."
        )
    print(f"note: stacking is left out, as a class has only {fewest} validation images", flush=True)
    return [method for method in methods if method != "stacking"]


def loss(log_probs: np.ndarray, labels: np.ndarray, metric: str) -> np.ndarray:
    """(samples,) what is compared: 1 for an error where `metric` is accuracy, else the negative log-likelihood."""
    if metric == "accuracy":
        return 1.0 - metrics.correct(log_probs, labels)
    return -log_probs[np.arange(len(labels)), labels]


def simplest(losses: dict[str, np.ndarray]) -> str:
    """The first that is within one standard error of the best; they go from simple to complex.

    The one-standard-error rule of Breiman et al. 1984 (sec. 3.4.3), with the error of the paired difference, as all are
    measured on the same samples.
    """
    best = min(losses, key=lambda name: losses[name].mean())
    for name, values in losses.items():
        difference = values - losses[best]
        if difference.mean() <= difference.std(ddof=1) / np.sqrt(len(difference)):
            return name
    return best


def score_subsets(held_out: dict[str, np.ndarray], labels: np.ndarray, latency: dict[str, float]) -> pd.DataFrame:
    """One row a subset: `members`, `size`, `accuracy`, `nll`, `p50_ms`, and `front`: none is both better and faster.

    A subset's members are averaged alike: mean of calibrated probabilities, each fitted without the sample.
    """
    rows = []
    for names in subsets_of(list(held_out)):
        log_probs = _average(held_out, names)
        rows.append(
            {
                "members": subset_name(names),
                "size": len(names),
                "accuracy": float(metrics.correct(log_probs, labels).mean()),
                "nll": metrics.nll(log_probs, labels),
                "p50_ms": latency[subset_name(names)],
            }
        )
    table = pd.DataFrame(rows)
    ms, accuracy = (table[key].to_numpy() for key in ("p50_ms", "accuracy"))
    no_worse = (ms <= ms[:, None]) & (accuracy >= accuracy[:, None])  # (subsets, subsets): each column than each row
    better = (ms < ms[:, None]) | (accuracy > accuracy[:, None])
    table["front"] = ~(no_worse & better).any(axis=1)
    return table


def within_budget(subsets: pd.DataFrame, budget_ms: float, metric: str) -> list[str]:
    """The members of the best subset that answers one image in time."""
    in_time = subsets[subsets["p50_ms"] <= budget_ms]
    if in_time.empty:
        fastest = subsets.loc[subsets["p50_ms"].idxmin()]
        raise PipelineError(
            f"`ensemble.budget_ms` is {budget_ms}, but even the fastest, {fastest['members']}, "
            f"takes {fastest['p50_ms']:.3f} ms for one image."
        )
    worth = in_time["accuracy"] if metric == "accuracy" else -in_time["nll"]
    return subsets.loc[worth.idxmax(), "members"].split("+")


def contributions(held_out: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, dict[str, float]]:
    """What each member adds to the mean of the others: `accuracy` gained and `nll` saved; nothing to a single one."""
    if len(held_out) == 1:
        return {}
    whole, rows = metrics.scores(_average(held_out, held_out), labels), {}
    for left in held_out:
        rest = metrics.scores(_average(held_out, [name for name in held_out if name != left]), labels)
        rows[left] = {"accuracy": whole["accuracy"] - rest["accuracy"], "nll": rest["nll"] - whole["nll"]}
    return rows


def _average(held_out: dict[str, np.ndarray], names: Collection[str]) -> np.ndarray:
    return mean_probs(np.stack([held_out[name] for name in names]), np.full(len(names), 1 / len(names)))


def verdict(selected: Selection) -> str:
    """What the ensemble is worth on val, in words."""
    gain, members = selected.gain, ", ".join(selected.fitted[selected.chosen].members)
    sure = "a gain" if gain["low"] > 0 else "a loss" if gain["high"] < 0 else "no gain that is beyond chance"
    return (
        f"{selected.chosen} of {members}: {100 * gain['value']:+.2f} points [{100 * gain['low']:+.2f}, "
        f"{100 * gain['high']:+.2f}] on val over the best single teacher, {selected.best}: {sure}"
    )
