"""Which model ships: the constraints decide, read on val, and every other one hears why not."""

import math
from dataclasses import dataclass

from tabulate import tabulate

from pipeline.deployment.wording import title
from pipeline.params import Deploy
from pipeline.project.errors import PipelineError


@dataclass(frozen=True)
class Candidate:
    """What may ship.

    kind: as of pipeline.deployment.lineup.Entry. accuracy: on val, a fraction, of an arm of students the mean over its
    seeds, as the best of several is above itself by chance. accuracy_of_file: of the one that would ship. p95_ms: of
    one image. size_mb: of the file. memory_mb: beyond the bare runtime, for one image. spread: by which part the times
    of two rounds differ. members: models in the file. int8_loss: how far INT8 is below its fp32 on val, a fraction.
    """

    name: str
    kind: str
    accuracy: float
    accuracy_of_file: float
    p95_ms: float
    size_mb: float
    memory_mb: float
    spread: float = 0.0
    members: int = 1
    int8_loss: float = 0.0

    @property
    def figures(self) -> dict[str, float]:
        """What it is judged by."""
        return {key: value for key, value in vars(self).items() if key not in ("name", "kind", "members")}


def decide(candidates: list[Candidate], deploy: Deploy) -> tuple[Candidate, dict[str, str]]:
    """The fastest of those that keep every constraint and are at most `tolerance` below the best of them.

    Of those that are as fast within the spread of rounds, the most accurate; of equals the simplest, which has fewer
    models, then the smaller file.

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
    fastest = min(near, key=lambda each: each.p95_ms)
    fast = [each for each in near if not faster(fastest.p95_ms, fastest.spread, each.p95_ms, each.spread)]
    chosen = max(fast, key=lambda each: (each.accuracy, -each.members, -each.size_mb))
    reasons = {}
    for each in candidates:
        if each is chosen:
            reasons[each.name] = (
                f"ships: {100 * each.accuracy:.2f} % on val, {each.p95_ms:.3f} ms, {each.size_mb:.2f} MB"
            )
        elif breaches[each.name]:
            reasons[each.name] = "; ".join(words for _, words in breaches[each.name])
        elif each in fast:
            reasons[each.name] = f"as fast within the spread of rounds, {_no_better(each, chosen)}"
        elif each in near:
            reasons[each.name] = f"slower: {each.p95_ms:.3f} ms"
        else:
            below = 100 * (best.accuracy - each.accuracy)
            reasons[each.name] = f"{below:.2f} points below the best, more than the {100 * deploy.tolerance:g} allowed"
    return chosen, reasons


def _no_better(candidate: Candidate, chosen: Candidate) -> str:
    below = chosen.accuracy - candidate.accuracy
    return f"{100 * below:.2f} points below what ships" if below else "as accurate and no simpler"


def faster(milliseconds: float, spread: float, others: float, others_spread: float) -> bool:
    """A time is less than another one by more than either differs between its own rounds.

    spread, others_spread: by which part the slowest round is above the fastest.
    """
    return others - milliseconds > max(spread * milliseconds, others_spread * others)


def _breaches(candidate: Candidate, deploy: Deploy) -> list[tuple[float, str]]:
    """By which part each constraint is missed, and that in words."""
    missed = []
    for key, limit in deploy.constraints.model_dump(exclude_none=True).items():
        value = getattr(candidate, key)
        if key == "accuracy" and value < limit:
            missed.append(((limit - value) / limit, f"{100 * value:.2f} % on val, less than {100 * limit:.2f}"))
        elif key != "accuracy" and value > limit:
            missed.append(((value - limit) / limit, f"{key} {value:.3g}, more than {limit:g}"))
    if candidate.int8_loss > deploy.int8_max_loss:
        lost, allowed = 100 * candidate.int8_loss, 100 * deploy.int8_max_loss
        missed.append((math.inf, f"INT8 lost {lost:.2f} points against its fp32, more than the {allowed:g} allowed"))
    return missed


def decision(candidates: list[Candidate], reasons: dict[str, str]) -> str:
    """Every candidate with what it was judged by, and its reason of `decide`, as a Markdown table."""
    rows = [
        {
            "candidate": title(each.kind, each.name),
            "accuracy on val %, mean over seeds": f"{100 * each.accuracy:.2f}",
            "of the file": f"{100 * each.accuracy_of_file:.2f}",
            "p95 ms": f"{each.p95_ms:.3f}",
            "file MB": f"{each.size_mb:.2f}",
            "memory MB": f"{each.memory_mb:.1f}",
            "": reasons[each.name],
        }
        for each in candidates
    ]
    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True) + "\n"


def promote(difference: dict[str, float], took: dict[str, dict[str, float]], tolerance: float) -> tuple[bool, str]:
    """Whether a challenger takes the champion's place: it is better than the best so far, or no worse and faster.

    Against the best champion that there has been and not the present one, as each could lose `tolerance` to the one
    before.

    Args:
        difference: `value`, `low` and `high` of its accuracy minus that of the best, paired over images.
        took: `p50_ms` of one image and `spread` of `challenger` and `champion`, measured in turn.
        tolerance: how little worse is no worse.
    """
    value, low, high = (100 * difference[key] for key in ("value", "low", "high"))
    (mine, spread), (others, others_spread) = (
        (took[who]["p50_ms"], took[who]["spread"]) for who in ("challenger", "champion")
    )
    seen = (
        f"{value:+.2f} [{low:+.2f}, {high:+.2f}] points on val against the best champion so far, "
        f"{mine:.3f} ms against {others:.3f}, of which rounds differ by {100 * max(spread, others_spread):.0f} %"
    )
    if difference["low"] > 0:
        return True, f"it is better: {seen}"
    if difference["low"] >= -tolerance and faster(mine, spread, others, others_spread):
        return True, f"it is no worse and faster: {seen}"
    return False, f"it is neither better nor both no worse and faster: {seen}"
