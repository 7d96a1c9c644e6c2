"""Which model ships: the constraints decide, read on val, and every other one hears why not."""

from dataclasses import dataclass

from tabulate import tabulate

from pipeline.deployment.wording import title
from pipeline.params import Deploy
from pipeline.project.errors import PipelineError

FASTER = 0.95  # of the champion's time, as less is within what two measurements differ by


@dataclass(frozen=True)
class Candidate:
    """What may ship.

    kind: as of pipeline.deployment.lineup.Entry. accuracy: on val, a fraction. p95_ms: of one image. size_mb: of the
    file. memory_mb: beyond the bare runtime.
    """

    name: str
    kind: str
    accuracy: float
    p95_ms: float
    size_mb: float
    memory_mb: float

    @property
    def figures(self) -> dict[str, float]:
        """What it is judged by."""
        return {key: value for key, value in vars(self).items() if key not in ("name", "kind")}


def decide(candidates: list[Candidate], deploy: Deploy) -> tuple[Candidate, dict[str, str]]:
    """The fastest of those that keep every constraint and are at most `tolerance` below the best of them.

    Returns:
        it, and for every candidate in a few words why it ships or why not.
    Raises:
        PipelineError: none keeps them all; the sentence has the nearest miss.
    """
    breaches = {each.name: _breaches(each, deploy) for each in candidates}
    keeping = [each for each in candidates if not breaches[each.name]]
    if not keeping:
        nearest = min(candidates, key=lambda each: max(by for by, _ in breaches[each.name]))
        missed = "; ".join(words for _, words in breaches[nearest.name])
        raise PipelineError(f"No model keeps `deploy.constraints`; the nearest is {nearest.name}: {missed}.")
    best = max(keeping, key=lambda each: each.accuracy)
    near = [each for each in keeping if each.accuracy >= best.accuracy - deploy.tolerance]
    chosen = min(near, key=lambda each: (each.p95_ms, -each.accuracy))
    reasons = {}
    for each in candidates:
        if each is chosen:
            reasons[each.name] = (
                f"ships: {100 * each.accuracy:.2f} % on val, {each.p95_ms:.3f} ms, {each.size_mb:.2f} MB"
            )
        elif breaches[each.name]:
            reasons[each.name] = "; ".join(words for _, words in breaches[each.name])
        elif each in near:
            reasons[each.name] = f"slower: {each.p95_ms:.3f} ms"
        else:
            below = 100 * (best.accuracy - each.accuracy)
            reasons[each.name] = f"{below:.2f} points below the best, more than the {100 * deploy.tolerance:g} allowed"
    return chosen, reasons


def _breaches(candidate: Candidate, deploy: Deploy) -> list[tuple[float, str]]:
    """By which part each constraint is missed, and that in words."""
    missed = []
    for key, limit in deploy.constraints.model_dump(exclude_none=True).items():
        value = getattr(candidate, key)
        if key == "accuracy" and value < limit:
            missed.append(((limit - value) / limit, f"{100 * value:.2f} % on val, less than {100 * limit:.2f}"))
        elif key != "accuracy" and value > limit:
            missed.append(((value - limit) / limit, f"{key} {value:.3g}, more than {limit:g}"))
    return missed


def decision(candidates: list[Candidate], reasons: dict[str, str]) -> str:
    """Every candidate with what it was judged by, and its reason of `decide`, as a Markdown table."""
    rows = [
        {
            "candidate": title(each.kind, each.name),
            "accuracy on val %": f"{100 * each.accuracy:.2f}",
            "p95 ms": f"{each.p95_ms:.3f}",
            "file MB": f"{each.size_mb:.2f}",
            "memory MB": f"{each.memory_mb:.1f}",
            "": reasons[each.name],
        }
        for each in candidates
    ]
    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True) + "\n"


def promote(difference: dict[str, float], milliseconds: float, champions: float, tolerance: float) -> tuple[bool, str]:
    """Whether a challenger takes the champion's place: it is better, or no worse and faster.

    Args:
        difference: `value`, `low` and `high` of its accuracy minus the champion's, paired over images.
        milliseconds, champions: p50 of one image, measured in turn. tolerance: how little worse is no worse.
    """
    value, low, high = (100 * difference[key] for key in ("value", "low", "high"))
    seen = f"{value:+.2f} [{low:+.2f}, {high:+.2f}] points on val, {milliseconds:.3f} ms against {champions:.3f}"
    if difference["low"] > 0:
        return True, f"it is better: {seen}"
    if difference["low"] >= -tolerance and milliseconds < FASTER * champions:
        return True, f"it is no worse and faster: {seen}"
    return False, f"it is neither better nor both no worse and faster: {seen}"
