"""Which subsets of the members are looked at, and what each is called."""

from itertools import combinations
from math import comb

SUBSETS = 255  # looked at, which is all of them for up to eight members


def subsets_of(members: list[str]) -> list[tuple[str, ...]]:
    """Every subset of up to eight members; of more, those of sizes that have few, of all but one, and of all."""
    subsets: list[tuple[str, ...]] = []
    for size in range(1, len(members) + 1):
        if len(subsets) + comb(len(members), size) <= SUBSETS or size >= len(members) - 1:
            subsets += combinations(members, size)
    return subsets


def subset_name(members: tuple[str, ...]) -> str:
    """What the tables and metrics/member_latency.json call it."""
    return "+".join(members)


def sums(of_members: dict[str, float]) -> dict[str, float]:
    """What the members of each subset take together, one after the other, by the subset's name."""
    return {subset_name(subset): sum(of_members[name] for name in subset) for subset in subsets_of(list(of_members))}
