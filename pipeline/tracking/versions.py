"""How a version of the pipeline is told from the others in MLflow's list: its name, its description, the columns."""

import json
from itertools import accumulate, pairwise

RESULTS = ("shipped", "best_single")  # of a summary's params, what the pipeline found and nobody set
NAMED = 3  # changes that a name has room for
LONGEST_NAME = 200  # characters
LONGEST_NOTE, LONGEST_VIEW = 8000, 5000  # characters that PostgreSQL and MySQL keep for MLflow; SQLite keeps any number
REST = "All tables are in `report.html` among the artifacts."
FIRST = (
    *("student_accuracy", "student_accuracy_low", "student_accuracy_high", "gain_over_alone", "ensemble_accuracy"),
    *("student_p50_ms", "faster", "student_size_mb", "smaller"),
)
PARAMS_SHOWN = 12  # of those that differ
NAME, CREATED = "attributes.`Run Name`", "runDateAndNestInfo"  # what MLflow calls the first two columns
NAME_WIDTH, LETTER, MARGIN = 340, 8, 48  # pixels


def changes(before: dict[str, str], now: dict[str, str]) -> dict[str, tuple[str, str]]:
    """The settings that differ, with their values before and now; `-` where there is none."""
    settings = [name for name in {**before, **now} if name.split(".")[0] not in RESULTS]
    pairs = {name: (before.get(name, "-"), now.get(name, "-")) for name in settings}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def name(before: dict[str, str] | None, now: dict[str, str], commit: str) -> str:
    """What has changed against the version before, such as `distill.temperature 4.0 -> 2.0`.

    Args:
        before, now: the flat params of both versions; None: there is none before. commit: of git, or nothing.
    """
    if before is None:
        return "first version"
    if not (found := changes(before, now)):
        return f"same params, commit {commit[:7]}" if commit else "same params"
    named = [f"{key} {old} -> {new}" for key, (old, new) in list(found.items())[:NAMED]]
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    text = ", ".join(named)
    return (text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}...") + more


def description(text: str, runs: dict[str, str], experiment: str) -> str:
    """The summary's Markdown, as many of its paragraphs as there is room for, and links to the runs of its stages.

    Args:
        runs: the run of each stage. experiment: the id of the experiment that holds them.
    """
    paragraphs = _fitting(text.split("\n\n"), "\n\n", LONGEST_NOTE // 2)
    cut = [REST] if len(paragraphs) < text.count("\n\n") + 1 else []
    above = "\n\n".join([*paragraphs, *cut, "Runs of the stages: "])
    links = [f"[{stage}](#/experiments/{experiment}/runs/{run})" for stage, run in runs.items()]
    return f"{above}{', '.join(_fitting(links, ', ', LONGEST_NOTE - len(above) - 2))}.\n"


def _fitting(parts: list[str], joint: str, room: int) -> list[str]:
    """The first of them, as many as fit into that many characters when they are joined."""
    ends = accumulate(len(part) + len(joint) for part in parts)
    return [part for part, end in zip(parts, ends, strict=True) if end - len(joint) <= room]


def welcome(path: str) -> str:
    """What MLflow shows above the list of versions. path: of the view that `shared_view` describes."""
    return f"One row is one version of the pipeline. [Show the columns to compare them by]({path})."


def differing(versions: list[dict[str, str]]) -> list[str]:
    """The settings in which any of these versions differs from the one after it, those of the newest change first.

    Args:
        versions: the flat params of each, the newest first.
    """
    found: dict[str, None] = {}
    for now, before in pairwise(versions):
        found |= dict.fromkeys(changes(before, now))
    return list(found)


def shared_view(versions: list[dict[str, str]]) -> str:
    """What MLflow keeps of a view that is shared by link: the columns of the list, as JSON."""
    metrics, params = [f"metrics.`{metric}`" for metric in FIRST], differing(versions)[:PARAMS_SHOWN]
    while len(view := _view([*metrics, *(f"params.`{param}`" for param in params)])) > LONGEST_VIEW:
        params.pop()
    return view


def _view(columns: list[str]) -> str:
    widths = {column: LETTER * len(column.split("`")[1]) + MARGIN for column in columns}
    return json.dumps({"selectedColumns": columns, "columnOrder": [NAME, CREATED, *columns],
                       "columnWidths": {NAME: NAME_WIDTH, **widths}})  # fmt: skip
