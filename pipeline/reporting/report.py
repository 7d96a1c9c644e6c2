"""The comparison as people read it: Markdown tables and figures."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from pipeline.deployment.lineup import INT8
from pipeline.ensembles.selection import Selection
from pipeline.project import files
from pipeline.reporting.comparison import CONTROL, MEAN_TEACHER

matplotlib.use("agg")
import matplotlib.pyplot as plt

COLOURS = {"teacher": "#7f7f7f", "ensemble": "#1f77b4", "student": "#d62728", "int8": "#ff7f0e"}
MARKERS = {"teacher": "s", "ensemble": "D", "student": "o", "int8": "v"}
SIGNIFICANT = 0.05
UNSTEADY = 0.1  # by which part the p50 of two rounds may differ
SMALLEST_BIN = 0.005  # of all samples
LARGEST_CONFUSION = 18  # inches; of more classes than fit, the names are left out
TITLES = {
    "simple": "simple average",
    "mean_probs": "mean of probabilities",
    "mean_logits": "mean of logits",
    "vote": "majority vote",
    "weighted": "weighted mean",
    "greedy": "greedy selection",
    "stacking": "stacking",
    "baseline": "student alone",
    "single": "student from the single teacher",
    "ensemble": "student from the ensemble",
}


STUDENTS = ("baseline", "single", "ensemble")


def title(kind: str, method: str) -> str:
    if kind == "teacher":
        return f"teacher {method}"
    if kind == "int8":
        base = method.removesuffix(INT8)
        student = base in STUDENTS or base.startswith("from_")
        return f"{title('student' if student else 'teacher', base)}, INT8"
    return TITLES.get(method) or f"student from {method.removeprefix('from_')}"


def tables(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The comparison in short, what each method is worth, and what it costs to run; every cell a text.

    Args:
        rows: of pipeline.reporting.comparison.table.
    """
    names = [title(row["kind"], row["method"]) for _, row in rows.iterrows()]
    short = pd.DataFrame(
        {
            "method": names,
            "accuracy %": [f"{100 * value:.2f}" for value in rows["accuracy"]],
            "over best teacher": [f"{100 * value:+.2f}" for value in rows["gain_over_teacher"]],
            "one image": [f"{value:.3f} ms" for value in rows["p50_ms"]],
            "faster": [f"{value:.1f} x" for value in rows["speed_up"]],
            "memory": [f"{value / 1e6:.1f} MB" for value in rows["memory_bytes"]],
            "file": [f"{value / 1e6:.2f} MB" for value in rows["size_bytes"]],
            "smaller": [f"{value:.1f} x" for value in rows["compression"]],
            "training": [_training(row) for _, row in rows.iterrows()],
        }
    )
    balanced = rows.get("balanced_accuracy", [])  # of test images that are not as many in every class
    worth = pd.DataFrame(
        {
            "method": names,
            "accuracy % [95 %]": [_interval(row, "accuracy", sign="") for _, row in rows.iterrows()],
            **({"balanced %": [f"{100 * value:.2f}" for value in balanced]} if len(balanced) else {}),
            "± seeds": ["" if np.isnan(value) else f"{100 * value:.2f}" for value in rows["accuracy_std"]],
            "over best teacher": [_gain(row, "gain_over_teacher") for _, row in rows.iterrows()],
            "over student alone": [_gain(row, "gain_over_alone") for _, row in rows.iterrows()],
            "NLL": [f"{value:.3f}" for value in rows["nll"]],
            "ECE %": [f"{100 * value:.1f}" for value in rows["ece"]],
        }
    )
    cost = pd.DataFrame(
        {
            "method": names,
            "parameters": [f"{value / 1e6:.2f} M" for value in rows["parameters"]],
            "multiply-adds": [f"{value / 1e6:.1f} M" for value in rows["multiply_adds"]],
            "p50, p95, p99 ms": [_milliseconds(row) for _, row in rows.iterrows()],
            "all cores": [f"{value:.3f}" for value in rows["p50_ms_all_cores"]],
            "torch": ["" if np.isnan(value) else f"{value:.3f}" for value in rows["p50_ms_torch"]],
            "images/s": [f"{value:,.0f}" for value in rows["images_per_second"]],
            "all cores, images/s": [f"{value:,.0f}" for value in rows["images_per_second_all_cores"]],
            "load": [f"{value:.0f} ms" for value in rows["load_ms"]],
            "two rounds": [_unrest(value) for value in rows["spread"]],
        }
    )
    return [short, worth, cost]


def comparison(
    rows: pd.DataFrame,
    pairs: pd.DataFrame,
    by_seed: dict[str, dict[str, float]],
    samples: int,
    machine: dict[str, str],
) -> list[str | pd.DataFrame]:
    """The three tables and the paragraphs between them, in the order of reading.

    Args:
        rows, pairs, by_seed: table, pairs and over_seeds of comparison. machine: of pipeline.project.machine.
    """
    short, worth, cost = tables(rows)
    seeds = int(rows["seeds"].max())
    return [
        short,
        "Test accuracy; faster and smaller than the ensemble that teaches; memory beyond the bare runtime; training: "
        "wall time and images seen, with the teachers that teach and their looking.",
        f"Accuracy on {samples:,} test images; students: mean over {seeds} seeds and its spread. "
        f"Brackets: 95 % bootstrap intervals over test images, paired for gains. *: McNemar's exact test between the "
        f"models that ship, p < {SIGNIFICANT} after Holm's correction over all gains here.",
        worth,
        _over_mean_teacher(pairs),
        *_over_alone(by_seed, seeds),
        "One image at a time in ONNX Runtime on one thread and on all cores, and in eager torch; throughput at the "
        "largest batch; two rounds: by how much their p50 differ.",
        cost,
        f"Measured on {', '.join(f'{key} {value}' for key, value in machine.items())}.",
    ]


def markdown(parts: list[str | pd.DataFrame]) -> str:
    """Paragraphs and tables of text as Markdown."""
    return "\n\n".join(part if isinstance(part, str) else _pipes(part) for part in parts) + "\n"


def headline(row: pd.Series) -> dict[str, str]:
    """What the row's model is worth, in a few words each. row: of pipeline.reporting.comparison.table."""
    return {
        "ships": title(row["kind"], row["method"]),
        "test accuracy, %": _interval(row, "accuracy", sign=""),
        "over the student alone, points": _gain(row, "gain_over_alone"),
        "one image, p50": f"{row['p50_ms']:.3f} ms",
        "file": f"{row['size_bytes'] / 1e6:.2f} MB",
        "faster than the ensemble that teaches": f"{row['speed_up']:.1f} x",
        "smaller than the ensemble that teaches": f"{row['compression']:.1f} x",
    }


def by_class(shares: dict[str, np.ndarray], counts: np.ndarray, classes: list[str], most: int) -> pd.DataFrame:
    """Accuracy class by class, a column a method; first what the last method finds hardest, `most` classes at most.

    Args:
        shares: (classes,) accuracies by title. counts: (classes,) test images; a class of none is left out.
    """
    hardest = np.argsort(list(shares.values())[-1], kind="stable")
    hardest = hardest[counts[hardest] > 0][:most]
    columns = {f"{name}, %": [f"{100 * value:.1f}" for value in of_class[hardest]] for name, of_class in shares.items()}
    images = [f"{count:,}" for count in counts[hardest]]
    return pd.DataFrame({"class": [classes[index] for index in hardest], "images": images, **columns})


def _pipes(frame: pd.DataFrame) -> str:
    return frame.to_markdown(index=False, disable_numparse=True)


def _training(row: pd.Series) -> str:
    return f"{row['train_seconds'] / 60:.1f} min, {row['train_images'] / 1e6:.2f} M"


def _milliseconds(row: pd.Series) -> str:
    return ", ".join(f"{row[key]:.3f}" for key in ("p50_ms", "p95_ms", "p99_ms"))


def _unrest(spread: float) -> str:
    return f"{100 * spread:.0f} %" + (", too unsteady to compare" if spread > UNSTEADY else "")


def decision(rows: pd.DataFrame, kinds: dict[str, str]) -> str:
    """Every candidate with what it was judged by, and why it ships or not. rows: `name`, the figures, `verdict`."""
    shown = pd.DataFrame(
        {
            "candidate": [title(kinds[name], name) for name in rows["name"]],
            "accuracy on val %": [f"{100 * value:.2f}" for value in rows["accuracy"]],
            "p95 ms": [f"{value:.3f}" for value in rows["p95_ms"]],
            "file MB": [f"{value:.2f}" for value in rows["size_mb"]],
            "memory MB": [f"{value:.1f}" for value in rows["memory_mb"]],
            "": rows["verdict"],
        }
    )
    return _pipes(shown) + "\n"


def verdict(found: Selection) -> str:
    """What the ensemble is worth on val, in words."""
    gain, members = found.gain, ", ".join(found.fitted[found.chosen].members)
    sure = "a gain" if gain["low"] > 0 else "a loss" if gain["high"] < 0 else "no gain that is beyond chance"
    return (
        f"{TITLES[found.chosen]} of {members}: {100 * gain['value']:+.2f} points [{100 * gain['low']:+.2f}, "
        f"{100 * gain['high']:+.2f}] on val over the best single teacher, {found.best}: {sure}"
    )


def _over_mean_teacher(pairs: pd.DataFrame) -> str:
    row = pairs[(pairs["first"] == "simple") & (pairs["second"] == MEAN_TEACHER)].iloc[0]
    value, low, high = (100 * row[key] for key in ("difference", "low", "high"))
    return f"The simple average over the mean single teacher: {value:+.2f} [{low:+.2f}, {high:+.2f}] points."


def _over_alone(by_seed: dict[str, dict[str, float]], seeds: int) -> list[str]:
    if not by_seed:
        return []
    gains = [f"{title('student', arm)} {gain_over_seeds(gain)}" for arm, gain in by_seed.items()]
    return [f"Over the student alone with the same seed (t-test over {seeds} seeds): {'; '.join(gains)}."]


def gain_over_seeds(gain: dict[str, float]) -> str:
    """In points, of pipeline.scoring.statistics.paired_over_seeds."""
    value, low, high = (100 * gain[key] for key in ("value", "low", "high"))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}], {p_value(gain['p'])}"


def p_value(p: float) -> str:
    """`p = 0.002` with three decimals, `p < 0.001` where they could not tell it from 0."""
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def arms(scores: dict[str, dict[str, float]]) -> str:
    """A line an arm, of pipeline.reporting.comparison.by_arm."""
    lines = []
    for arm, row in scores.items():
        gain = {key.removeprefix("gain_"): value for key, value in row.items() if key.startswith("gain_")}
        over = f", over the student alone {gain_over_seeds(gain)}" if gain else ""
        lines.append(f"{title('student', arm)}: {100 * row['accuracy']:.2f} % on val, NLL {row['nll']:.3f}{over}")
    return "\n".join(lines)


def sweep(rows: pd.DataFrame, path: Path) -> None:
    """Accuracy over alpha, a line a temperature, a panel an arm; dashed: the student alone.

    Args:
        rows: of pipeline.tracking.sweeps.comparable.
    """
    names = [arm for arm in dict.fromkeys(rows["arm"]) if arm != CONTROL]
    alone = rows.loc[rows["arm"] == CONTROL, "accuracy"].max()
    figure, grid = plt.subplots(len(names), figsize=(5.2, 4 * len(names)), layout="constrained", squeeze=False)
    for axes, arm in zip(grid[:, 0], names, strict=True):
        for temperature, line in rows[rows["arm"] == arm].groupby("temperature"):
            line = line.sort_values("alpha")
            axes.plot(line["alpha"], 100 * line["accuracy"], marker="o", label=f"T = {temperature:g}")
        axes.axhline(100 * alone, color="#7f7f7f", linestyle="--", linewidth=1, label="student alone")
        axes.set(xlabel="alpha", ylabel="accuracy on val, %", title=title("student", arm))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    _save(figure, path)


def _gain(row: pd.Series, column: str) -> str:
    return _interval(row, column) + (" *" if row[f"{column}_p"] < SIGNIFICANT else "")


def _interval(row: pd.Series, column: str, sign: str = "+") -> str:
    value, low, high = (100 * row[name] for name in (column, f"{column}_low", f"{column}_high"))
    return f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


def trade_off(rows: pd.DataFrame, path: Path) -> None:
    """Accuracy with its interval against batch-1 latency: up and to the left is better."""
    figure, axes = plt.subplots(figsize=(6.4, 6), layout="constrained")
    for number, (_, row) in enumerate(rows.iterrows(), start=1):
        accuracy = 100 * row["accuracy"]
        error = [[accuracy - 100 * row["accuracy_low"]], [100 * row["accuracy_high"] - accuracy]]
        axes.errorbar(
            row["p50_ms"], accuracy, error, marker=MARKERS[row["kind"]], color=COLOURS[row["kind"]], capsize=2,
            markersize=11, linewidth=1, label=f"{number}  {title(row['kind'], row['method'])}",
        )  # fmt: skip
        axes.annotate(str(number), (row["p50_ms"], accuracy), ha="center", va="center", color="white", fontsize=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.set_xlabel("latency of one image, ms (p50, log scale)")
    axes.set_ylabel("test accuracy, % (95 % interval)")
    axes.grid(alpha=0.3)
    figure.legend(fontsize=9, loc="outside lower center", ncols=2, frameon=False, markerscale=0.7, labelspacing=0.6)
    _save(figure, path)


def reliability(panels: dict[str, dict[str, list[dict[str, float]]]], path: Path) -> None:
    """Accuracy against confidence, a panel a heading; a calibrated model lies on the diagonal.

    Bins of next to no samples say nothing and are not drawn.

    Args:
        panels: heading to name to the rows of pipeline.scoring.metrics.reliability.
    """
    figure, grid = plt.subplots(len(panels), figsize=(5.2, 4.8 * len(panels)), layout="constrained", squeeze=False)
    for axes, (heading, curves) in zip(grid[:, 0], panels.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="#bbbbbb", linestyle="--", linewidth=1)
        for name, rows in curves.items():
            shown = [row for row in rows if row["share"] >= SMALLEST_BIN]
            confidence, accuracy = ([row[key] for row in shown] for key in ("confidence", "accuracy"))
            axes.plot(confidence, accuracy, marker=".", linewidth=1.2, label=TITLES.get(name, name))
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), aspect="equal", title=heading)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
    _save(figure, path)


def subsets(table: pd.DataFrame, path: Path) -> None:
    """Accuracy of every subset against its latency, and the Pareto front. table: selection.score_subsets."""
    figure, axes = plt.subplots(figsize=(6.4, 5.4), layout="constrained")
    axes.scatter(table["p50_ms"], 100 * table["accuracy"], s=16, color="#bbbbbb", label="subset of the teachers")
    front = table[table["front"]].sort_values("p50_ms")
    axes.plot(front["p50_ms"], 100 * front["accuracy"], color=COLOURS["ensemble"], linewidth=1, drawstyle="steps-post")
    for number, (_, row) in enumerate(front.iterrows(), start=1):
        point = (row["p50_ms"], 100 * row["accuracy"])
        axes.plot(*point, "o", color=COLOURS["ensemble"], markersize=11, label=f"{number}  {row['members']}")
        axes.annotate(str(number), point, ha="center", va="center", color="white", fontsize=7)
    axes.set(xlabel="latency of one image, ms (p50)", ylabel="val accuracy of the calibrated mean, %")
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=1, frameon=False, markerscale=0.7, labelspacing=0.6)
    _save(figure, path)


def confusion(counts: np.ndarray, classes: list[str], heading: str, path: Path) -> None:
    """Counts as text, shares of the row's class as shade."""
    wanted = max(4.5, 0.55 * len(classes) + 1.5)
    side = min(wanted, LARGEST_CONFUSION)
    figure, axes = plt.subplots(figsize=(side, side), layout="constrained")
    axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                dark = count > counts[row].sum() / 2
                axes.text(column, row, count, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    if side == wanted:
        axes.set_xticks(range(len(classes)), classes, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(classes)), classes, fontsize=8)
    axes.set(xlabel="predicted", ylabel="label", title=heading)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})
    plt.close(figure)
