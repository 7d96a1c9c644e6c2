"""The graph of the stages as an SVG: a row a level, from top to bottom, narrow enough for a phone."""

from html import escape
from itertools import pairwise

from pipeline.reporting.graph import Graph

WIDTH, ROW, BOX = 360, 58, 26  # units, of which a phone shows one a pixel: the least width, a level, a box
LETTER, PADDING, GAP = 6.4, 8, 6  # the width of a letter, and of what is left free in a box and between two
SWEEPS = 8  # of ordering the rows by their neighbours

Point = tuple[str, int]  # a stage's box on its level, or its line where that passes a later one


def svg(graph: Graph) -> str:
    """Lines lead from a stage down to those that need it; dashed ones lead up to such as need only its first items."""
    shown = sorted(graph.shown())
    down = [(a, b) for a, b in shown if graph.levels[a] < graph.levels[b]]
    up = [edge for edge in shown if edge not in down]
    ends = {a: max(graph.levels[b] for first, b in down if first == a) - 1 for a, _ in down}
    rows = [[] for _ in range(max(graph.levels.values()) + 1)]
    for stage, top in graph.levels.items():
        for level in range(top, max(top, ends.get(stage, 0)) + 1):
            rows[level].append((stage, level))
    links = {((stage, level), (stage, level + 1)) for row in rows for stage, level in row if level < ends.get(stage, 0)}
    links |= {((a, graph.levels[b] - 1), (b, graph.levels[b])) for a, b in down}
    boxes = {(stage, level): _label(graph, stage) for stage, level in graph.levels.items()}
    lanes = PADDING * (len(up) + 1)
    width = max(WIDTH - lanes, *(sum(_width(boxes.get(point)) + GAP for point in row) for row in rows))
    x = _ordered(rows, links, boxes, width)
    drawn = [_link(x[a], a[1], x[b], b[1]) for a, b in sorted(links)]
    drawn += [_line(x[point], point[1]) for row in rows for point in row if point not in boxes]
    for number, edge in enumerate(up, start=1):
        (start, level), (end, above) = ((x[stage, graph.levels[stage]], graph.levels[stage]) for stage in edge)
        drawn.append(_detour(start, level, end, above, PADDING * number, width))
    drawn += [_box(text, x[point], point[1]) for point, text in boxes.items()]
    return (f'<svg viewBox="0 0 {width + lanes:.0f} {ROW * len(rows)}" role="img" aria-label="the graph of the stages">'
            f"{''.join(drawn)}</svg>")  # fmt: skip


def _label(graph: Graph, stage: str) -> str:
    count = graph.executions[stage]
    return stage if count == 1 else f"{stage} × {count}"


def _width(label: str | None) -> float:
    return GAP if label is None else LETTER * len(label) + 2 * PADDING


def _ordered(
    rows: list[list[Point]], links: set[tuple[Point, Point]], boxes: dict[Point, str], width: float
) -> dict[Point, float]:
    """The middle of each point, after rows were sorted by the mean of their neighbours above, then below, in turn."""
    x = {}
    for row in rows:
        x |= _placed(row, boxes, width)
    for sweep in range(SWEEPS):
        for row, neighbours in _neighbouring(rows, upwards=sweep % 2 == 1):
            near = {p: [x[q] for q in neighbours if (p, q) in links or (q, p) in links] or [x[p]] for p in row}
            row.sort(key=lambda p, near=near: sum(near[p]) / len(near[p]))
            x |= _placed(row, boxes, width)
    return x


def _neighbouring(rows: list[list[Point]], upwards: bool) -> list[tuple[list[Point], list[Point]]]:
    """Each row after the row that it is sorted by."""
    return [(row, before) for before, row in pairwise(rows[::-1] if upwards else rows)]


def _placed(row: list[Point], boxes: dict[Point, str], width: float) -> dict[Point, float]:
    """The middles of a row's points, with the free width in equal parts around them."""
    widths = [_width(boxes.get(point)) for point in row]
    free = (width - sum(widths)) / (len(row) + 1)
    return {point: free * (i + 1) + sum(widths[:i]) + widths[i] / 2 for i, point in enumerate(row)}


def _top(level: int) -> float:
    return ROW * level + (ROW - BOX) / 2


def _link(start: float, level: int, end: float, below: int) -> str:
    y, target = _top(level) + BOX, _top(below)
    bend = (y + target) / 2
    return f'<path d="M{start:.1f} {y:.1f}C{start:.1f} {bend:.1f} {end:.1f} {bend:.1f} {end:.1f} {target:.1f}"/>'


def _line(x: float, level: int) -> str:
    return f'<path d="M{x:.1f} {_top(level):.1f}v{BOX}"/>'


def _detour(start: float, level: int, end: float, above: int, aside: float, width: float) -> str:
    """From the top of one box, between the rows to the right, up along the edge, and to another box from below.

    aside: units beyond `width`, and beside what else runs there.
    """
    leave, arrive = _top(level) - aside / 2, _top(above) + BOX + aside / 2
    return (f'<path class="up" d="M{start + aside:.1f} {_top(level):.1f}V{leave:.1f}H{width + aside:.1f}V{arrive:.1f}'
            f'H{end + aside:.1f}V{_top(above) + BOX:.1f}"/>')  # fmt: skip


def _box(label: str, x: float, level: int) -> str:
    width = _width(label)
    return (f'<rect x="{x - width / 2:.1f}" y="{_top(level):.1f}" width="{width:.1f}" height="{BOX}" rx="5"/>'
            f'<text x="{x:.1f}" y="{_top(level) + BOX / 2 + 4:.1f}">{escape(label)}</text>')  # fmt: skip
