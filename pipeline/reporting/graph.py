"""The graph of the stages as a picture: `python -m pipeline.reporting.graph docs/graph.png` draws the README's."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
from dvc.repo import Repo

from pipeline.project import errors
from pipeline.reporting import figures
from pipeline.reporting.figures import plt

WIDTH, ROW, BOX = 4.6, 0.62, 0.26  # inches: the picture, which a phone shows at 3.8; from row to row; a box's height
FONT = 9  # points
LETTER = 0.602 * FONT / 72  # inches, of a font whose letters are all as wide
PADDING, GAP = 0.07, 0.12  # inches: beside a label, and between two boxes
SWEEPS = 8  # of placing the rows

Point = str | tuple[str, int]  # a box, by its label; or where the line from a box passes through a row


def load() -> nx.DiGraph:
    """The stages as DVC knows them, one node an execution; edges lead from a stage to what it needs."""
    with Repo() as repo:
        return repo.index.graph


def collapse(graph: nx.DiGraph) -> nx.DiGraph:
    """One node a stage, labelled with its name and how often it runs; edges lead to who needs it.

    Edges that follow from others are left out. Stages whose executions need each other in a circle share one node.
    """
    names = {stage: stage.addressing.partition("@")[0] for stage in graph}
    counts = Counter(names.values())
    stages = nx.DiGraph()
    stages.add_nodes_from(counts)
    stages.add_edges_from((names[needed], names[stage]) for stage, needed in graph.edges)
    stages.remove_edges_from(list(nx.selfloop_edges(stages)))
    texts = {name: name if count == 1 else f"{name} × {count}" for name, count in counts.items()}
    circles = nx.condensation(stages)
    labels = {node: ", ".join(texts[name] for name in sorted(each)) for node, each in circles.nodes("members")}
    return nx.relabel_nodes(nx.transitive_reduction(circles), labels)


def draw(graph: nx.DiGraph, path: Path) -> None:
    """A box a stage; lines lead down from it to those that need it. graph: as of `load`."""
    stages = collapse(graph)
    rows, lines = layout(stages)
    x, width = place(rows, lines)
    y = {point: ROW * number for number, row in enumerate(rows) for point in row}
    figure = plt.figure(figsize=(width, ROW * len(rows)))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(ROW * (len(rows) - 0.5), -ROW / 2))
    axes.axis("off")
    down = np.linspace(0, ROW)
    aside = np.clip((down - BOX / 2) / (ROW - BOX), 0, 1)  # the line bends between the boxes, not beside them
    for above, below in lines:
        bend = x[above] + (x[below] - x[above]) * aside**2 * (3 - 2 * aside)
        axes.plot(bend, y[above] + down, color="#777777", linewidth=1, solid_capstyle="butt")
    box = {"boxstyle": f"round,pad={PADDING * 72 / FONT}", "facecolor": "white", "edgecolor": "#333333"}
    for label in stages:
        axes.text(x[label], y[label], label, size=FONT, family="monospace", ha="center", va="center", bbox=box)
    figures.save(figure, path)


def layout(stages: nx.DiGraph) -> tuple[list[list[Point]], list[tuple[Point, Point]]]:
    """The points of each row, and the lines from a row to the next; what is too wide for one row has several."""
    rows: list[list[Point]] = []
    for generation in nx.topological_generations(stages):
        rows.append([])
        for label in sorted(generation):
            if rows[-1] and sum(_width(point) + GAP for point in [*rows[-1], label]) > WIDTH:
                rows.append([])
            rows[-1].append(label)
    row_of = {label: number for number, row in enumerate(rows) for label in row}
    lines = set()
    for above, below in stages.edges:
        passing = [(above, number) for number in range(row_of[above] + 1, row_of[below])]
        lines |= set(pairwise([above, *passing, below]))
    for label, number in sorted({above for above, _ in lines if isinstance(above, tuple)}):
        rows[number].append((label, number))
    return rows, sorted(lines, key=str)


def place(rows: list[list[Point]], lines: list[tuple[Point, Point]]) -> tuple[dict[Point, float], float]:
    """Where the middle of each point is, in inches from the left, and how wide the picture is.

    A point is as near to the mean of its neighbours as those beside it let it be.
    """
    neighbours, x = nx.Graph(lines), {}
    width = max(WIDTH, *(sum(_width(point) + GAP for point in row) + GAP for row in rows))
    neighbours.add_nodes_from(point for row in rows for point in row)
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            x |= {point: np.mean([x[other] for other in neighbours[point] if other in x] or width / 2) for point in row}
            row.sort(key=x.get)
            free = 0.0
            for point in row:
                x[point] = max(x[point], free + GAP + _width(point) / 2)
                free = x[point] + _width(point) / 2
            free = width
            for point in reversed(row):
                x[point] = min(x[point], free - GAP - _width(point) / 2)
                free = x[point] - _width(point) / 2
    return x, width


def _width(point: Point) -> float:
    return len(point) * LETTER + 2 * PADDING if isinstance(point, str) else 0.0


if __name__ == "__main__":
    errors.run(lambda path: draw(load(), Path(path)))
