"""Which stages of a graph may run at the same time, and which one is next."""

from dataclasses import dataclass, field


@dataclass
class Schedule:
    """A graph on its way: of what may start, the stage that most others wait for comes first, alone if it must be.

    Args:
        needs: each stage's direct dependencies, in an order that goes down the graph.
        alone: stages that share the machine with no other, since they measure time.
        changed: stages that must run for reasons of their own; others only if a stage that they need has changed.
    """

    needs: dict[str, set[str]]
    alone: set[str]
    changed: set[str]
    running: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.changed = set(self.changed)
        self._followers = {name: len(self._downstream({name})) for name in self.needs}

    def next(self) -> str | None:
        """The stage to start now, which counts as running from here on; None: wait for one that runs, or all is over.

        Stages that need not run are passed over as done.
        """
        while idle := [name for name in self._open() if not self._is_due(name)]:
            self.done |= set(idle)
        first = max(self._open(), key=self._followers.get, default=None)
        if first is None or self.running & self.alone or (self.running and first in self.alone):
            return None
        self.running.add(first)
        return first

    def finish(self, name: str, *, ok: bool, changed: bool) -> None:
        """A running stage has ended; `changed`: its outputs may be other ones than before."""
        self.running.discard(name)
        (self.done if ok else self.failed).add(name)
        (self.changed.add if changed else self.changed.discard)(name)

    def held_back(self) -> list[str]:
        """The stages that can't run, as one that they need has failed."""
        return [name for name in self.needs if name in self._downstream(self.failed)]

    def _open(self) -> list[str]:
        """What is neither over nor running, with everything that it needs done."""
        begun = self.running | self.done | self.failed
        return [name for name, needs in self.needs.items() if name not in begun and needs <= self.done]

    def _is_due(self, name: str) -> bool:
        return name in self.changed or bool(self.needs[name] & self.changed)

    def _downstream(self, names: set[str]) -> set[str]:
        reached = set(names)
        for name, needs in self.needs.items():
            if needs & reached:
                reached.add(name)
        return reached - names
