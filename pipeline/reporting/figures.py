"""The pictures, each a PNG file that has the same bytes when its numbers are the same."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from pipeline.deployment.wording import TITLES, title
from pipeline.params import BASELINE
from pipeline.project import files
from pipeline.reporting import mistakes, names

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.rcParams["text.parse_math"] = False  # a class may be called US$ & HK$
COLOURS = {"teacher": "#7f7f7f", "ensemble": "#1f77b4", "student": "#d62728", "int8": "#ff7f0e"}
MARKERS = {"teacher": "s", "ensemble": "D", "student": "o", "int8": "v"}
SMALLEST_BIN = 0.005  # of all samples
CELL = 0.36  # inches a class of a confusion matrix
CONFUSED = 30  # classes of it
DPI = 130


def trade_off(rows: pd.DataFrame, path: Path) -> None:
    """Accuracy with its interval against batch-1 latency: up and to the left is better.

    Args:
        rows: of pipeline.reporting.comparison.table.
    """
    figure, axes = plt.subplots(figsize=(6.4, 6), layout="constrained")
    for number, (_, row) in enumerate(rows.iterrows(), start=1):
        accuracy, low, high = (100 * row[f"accuracy{end}"] for end in ("", "_low", "_high"))
        label = f"{number}  {title(row['kind'], row['method'])}"
        axes.errorbar(
            row["p50_ms"], accuracy, [[accuracy - low], [high - accuracy]], marker=MARKERS[row["kind"]],
            color=COLOURS[row["kind"]], capsize=2, markersize=11, linewidth=1, label=label,
        )  # fmt: skip
        _number(axes, row["p50_ms"], accuracy, number)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.set(xlabel="latency of one image, ms (p50, log scale)", ylabel="test accuracy, % (95 % interval)")
    _legend_below(figure, columns=2, size=9)
    save(figure, path)


def subsets(table: pd.DataFrame, path: Path) -> None:
    """Accuracy against latency, and the Pareto front. table: of pipeline.ensembles.selection.score_subsets."""
    figure, axes = plt.subplots(figsize=(6.4, 5.4), layout="constrained")
    axes.scatter(table["p50_ms"], 100 * table["accuracy"], s=16, color="#bbbbbb", label="subset of the teachers")
    front = table[table["front"]].sort_values("p50_ms")
    axes.plot(front["p50_ms"], 100 * front["accuracy"], color=COLOURS["ensemble"], linewidth=1, drawstyle="steps-post")
    for number, (_, row) in enumerate(front.iterrows(), start=1):
        x, y = row["p50_ms"], 100 * row["accuracy"]
        axes.plot(x, y, "o", color=COLOURS["ensemble"], markersize=11, label=f"{number}  {row['members']}")
        _number(axes, x, y, number)
    axes.set(xlabel="latency of one image, ms (p50)", ylabel="val accuracy of the calibrated mean, %")
    _legend_below(figure, columns=1, size=8)
    save(figure, path)


def reliability(panels: dict[str, dict[str, list[dict[str, float]]]], path: Path) -> None:
    """Accuracy against confidence, a panel a heading; a calibrated model lies on the diagonal.

    Bins of next to no samples say nothing and are not drawn.

    Args:
        panels: heading to name to the rows of pipeline.scoring.metrics.reliability.
    """
    figure, grid = _panels(len(panels), height=4.8)
    for axes, (heading, curves) in zip(grid, panels.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="#bbbbbb", linestyle="--", linewidth=1)
        for name, rows in curves.items():
            bins = pd.DataFrame(rows).query("share >= @SMALLEST_BIN")
            axes.plot(bins["confidence"], bins["accuracy"], marker=".", linewidth=1.2, label=TITLES.get(name, name))
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), aspect="equal", title=heading)
        axes.legend(fontsize=8, loc="lower right")
    save(figure, path)


def sweep(rows: pd.DataFrame, path: Path) -> None:
    """Accuracy over alpha, a line a temperature, a panel an arm; dashed: the student alone.

    Args:
        rows: of pipeline.tracking.sweeps.comparable.
    """
    alone = rows.loc[rows["arm"] == BASELINE, "accuracy"].max()
    arms = rows[rows["arm"] != BASELINE].groupby("arm", sort=False)
    figure, grid = _panels(len(arms), height=4)
    for axes, (arm, points) in zip(grid, arms, strict=True):
        for temperature, line in points.sort_values("alpha").groupby("temperature"):
            axes.plot(line["alpha"], 100 * line["accuracy"], marker="o", label=f"T = {temperature:g}")
        axes.axhline(100 * alone, color="#7f7f7f", linestyle="--", linewidth=1, label="student alone")
        axes.set(xlabel="alpha", ylabel="accuracy on val, %", title=title("student", arm))
        axes.legend(fontsize=8)
    save(figure, path)


def confusion(counts: np.ndarray, classes: list[str], heading: str, path: Path) -> None:
    """Counts as text, shares of the row's class as shade; of CONFUSED classes at most, the most confused ones.

    Args:
        counts: (classes, classes), rows the label. classes: their names, in this order.
    """
    shown, labels = mistakes.most_confused(counts, CONFUSED), names.labels(classes)
    cells, rows = counts[np.ix_(shown, shown)], [labels[number] for number in shown]
    columns = rows
    if len(shown) < len(classes):
        heading += f":\nthe {len(shown)} of {len(classes):,} classes that are confused most"
        others = counts[shown].sum(axis=1) - cells.sum(axis=1)
        cells, columns = np.column_stack([cells, others]), [*rows, "(all others)"]
    totals = np.maximum(cells.sum(axis=1, keepdims=True), 1)
    with matplotlib.rc_context({"font.family": names.fonts()}):
        figure = plt.figure(figsize=(max(2.5, CELL * len(columns)), max(2.5, CELL * len(rows))))
        axes = figure.add_axes((0, 0, 1, 1))  # as large, however long the names beside it are
        axes.imshow(cells / totals, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), count in np.ndenumerate(cells):
            if count:
                colour = "white" if count > totals[row, 0] / 2 else "black"
                axes.text(column, row, count, ha="center", va="center", fontsize=7, color=colour)
        axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(len(rows)), rows, fontsize=8)
        axes.set(xlabel="predicted", ylabel="label")
        axes.set_title(heading, fontsize=10)
        save(figure, path, bbox_inches="tight")


def _panels(count: int, height: float) -> tuple[Figure, np.ndarray]:
    """A figure of so many axes, one below the other, each that many inches high."""
    figure, grid = plt.subplots(count, figsize=(5.2, height * count), layout="constrained", squeeze=False)
    for axes in grid[:, 0]:
        axes.grid(alpha=0.3)
    return figure, grid[:, 0]


def _number(axes: Axes, x: float, y: float, number: int) -> None:
    """A number on a marker, for which the legend has the name."""
    axes.annotate(str(number), (x, y), ha="center", va="center", color="white", fontsize=7)


def _legend_below(figure: Figure, columns: int, size: int) -> None:
    figure.axes[0].grid(alpha=0.3)
    place = {"loc": "outside lower center", "ncols": columns, "frameon": False}
    figure.legend(fontsize=size, markerscale=0.7, labelspacing=0.6, **place)


def save(figure: Figure, path: Path, **how: str) -> None:
    """Write the picture and forget it. how: of matplotlib's `savefig`."""
    with files.atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None}, **how)
    plt.close(figure)
