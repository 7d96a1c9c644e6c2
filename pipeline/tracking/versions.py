"""How a version of the pipeline is told from the others in MLflow's list: its name and its description."""

RESULTS = ("shipped", "best_single")  # of a summary's params, what the pipeline found and nobody set
NAMED = 3  # changes that a name has room for
LONGEST_NAME = 200  # characters
LONGEST_NOTE = 8000  # characters that PostgreSQL and MySQL keep for MLflow; SQLite keeps any number
REST = "All tables are in `report.html` among the artifacts."
WELCOME = (
    "One row is one version of the pipeline, named by what it changed. Columns to compare by: `student_accuracy`, "
    "`gain_over_alone`, `ensemble_accuracy`, `student_p50_ms`, `faster`, `student_size_mb`, `smaller`."
)


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
    if not (changed := changes(before, now)):
        return f"same params, commit {commit[:7]}" if commit else "same params"
    text = ", ".join(f"{key} {old} -> {new}" for key, (old, new) in list(changed.items())[:NAMED])
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    return (text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}...") + more


def description(text: str, runs: dict[str, str], experiment: str) -> str:
    """The summary's Markdown, as many of its paragraphs as there is room for, and links to the runs of its stages.

    Args:
        runs: the run of each stage. experiment: the id of the experiment that holds them.
    """
    shown, room = text, LONGEST_NOTE // 2
    while len(shown) > room:
        shown = shown.rpartition("\n\n")[0]
    above = "\n\n".join([shown, *([REST] if shown != text else []), "Runs of the stages: "])
    links = [f"[{stage}](#/experiments/{experiment}/runs/{run})" for stage, run in runs.items()]
    while len(below := f"{', '.join(links)}.\n") > LONGEST_NOTE - len(above):
        links.pop()
    return above + below
