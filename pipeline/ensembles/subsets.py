"""Which subsets of the members are looked at, and what each is called."""

from itertools import combinations

SUBSETS = 255  # looked at, which is all of them for up to eight members


def subsets_of(members: list[str]) -> list[tuple[str, ...]]:
    """Every subset of up to eight members; of more members the small ones, all but one, and all."""
    found: list[tuple[str, ...]] = []
    for size in range(1, len(members) + 1):
        of_size = list(combinations(members, size))
        if len(found) + len(of_size) <= SUBSETS or size >= len(members) - 1:
            found += of_size
    return found


def subset_name(members: tuple[str, ...]) -> str:
    return "+".join(members)
