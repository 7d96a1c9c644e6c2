"""Which stages of a graph may run at the same time, and which one is next."""

from graphlib import TopologicalSorter


class Schedule:
    """A graph on its way: of what may start, the stage that most others wait for comes first, alone if it must be.

    Args:
        needs: each stage's direct dependencies.
        alone: stages that share the machine with no other, since they measure time.
        changed: stages that must run for reasons of their own; others only if a stage that they need has changed.
    """

    def __init__(self, needs: dict[str, set[str]], alone: set[str], changed: set[str]) -> None:
        self.needs, self.alone, self.changed = needs, alone, set(changed)
        self.running, self.done, self.failed, self._ready = set(), set(), set(), set()
        self._sorter = TopologicalSorter(needs)
        self._sorter.prepare()
        self._below: dict[str, set[str]] = {name: set() for name in needs}
        for name in reversed(list(TopologicalSorter(needs).static_order())):
            for need in needs[name]:
                self._below[need] |= {name} | self._below[name]

    def due(self) -> int:
        """How many stages may have to run."""
        changed = self.changed & self.needs.keys()
        return len(changed.union(*(self._below[name] for name in changed)))

    @property
    def more(self) -> bool:
        """May another stage start beside the one that `next` has just given?"""
        return bool(self._ready)

    def next(self) -> str | None:
        """The stage to start now, which counts as running from here on; None: wait for one that runs, or all is over.

        Stages that need not run are passed over as done.
        """
        while new := self._sorter.get_ready():
            due = {name for name in new if name in self.changed or self.needs[name] & self.changed}
            self._ready |= due
            for name in set(new) - due:
                self._end(name)
        first = max(self._ready, key=self._urgency, default=None)
        if first is None or self.running & self.alone or (self.running and first in self.alone):
            return None
        self._ready.remove(first)
        self.running.add(first)
        return first

    def _urgency(self, name: str) -> tuple[int, bool, str]:
        """How many stages wait for it; of as many, one that shares the machine is due before one that empties it."""
        return len(self._below[name]), name not in self.alone, name

    def finish(self, name: str, *, ok: bool, changed: bool) -> None:
        """A running stage has ended; `changed`: its outputs may be other ones than before."""
        self.running.discard(name)
        (self.changed.add if changed else self.changed.discard)(name)
        if ok:
            self._end(name)
        else:
            self.failed.add(name)

    def held_back(self) -> list[str]:
        """The stages that can't run, as one that they need has failed."""
        return [name for name in self.needs if name not in self.done | self.failed | self.running | self._ready]

    def _end(self, name: str) -> None:
        self.done.add(name)
        self._sorter.done(name)
