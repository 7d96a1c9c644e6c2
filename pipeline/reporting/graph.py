"""What dvc.yaml says of which stage needs which: matrices expanded as DVC does, then one node a stage again."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import PurePosixPath
from typing import Any


@dataclass(frozen=True)
class Graph:
    """Stages by name.

    executions: how many items each runs for. levels: one more than that of the last thing that any item needs, from 0.
    needs: the pairs (earlier, later) in which an item of the later reads what an item of the earlier writes. A stage of
    several items may be needed by one that some of them need in turn; then the earlier has the higher level.
    """

    executions: dict[str, int]
    levels: dict[str, int]
    needs: set[tuple[str, str]]

    def shown(self) -> set[tuple[str, str]]:
        """`needs` without what follows from the others, as long as it leads from a level to a higher one."""
        down = {(a, b) for a, b in self.needs if self.levels[a] < self.levels[b]}

        @cache
        def leads(a: str, b: str) -> bool:
            return (a, b) in down or any(leads(c, b) for first, c in down if first == a)

        implied = {(a, b) for a, b in down if any(leads(c, b) for first, c in down if first == a and c != b)}
        return self.needs - implied


def of(stages: dict[str, Any], params: dict[str, Any]) -> Graph:
    """The graph of the block `stages` of dvc.yaml, its templates filled from params."""
    runs = [(name, *run[1:]) for name, stage in stages.items() for run in _executions(stage, params)]
    writes, holds = {}, defaultdict(set)  # the execution that writes a path; those that write below a folder
    for number, (_, _, outs) in enumerate(runs):
        for out in outs:
            writes[out] = number
            for folder in out.parents:
                holds[folder].add(number)
    needed = [{writes[path] for dep in deps for path in (dep, *dep.parents) if path in writes}
              | {number for dep in deps for number in holds.get(dep, ())} for _, deps, _ in runs]  # fmt: skip

    @cache
    def level(number: int) -> int:
        return max((level(other) + 1 for other in needed[number]), default=0)

    names = [name for name, _, _ in runs]
    levels = {name: max(level(n) for n, other in enumerate(names) if other == name) for name in stages}
    needs = {(names[other], name) for name, others in zip(names, needed, strict=True) for other in others}
    return Graph({name: names.count(name) for name in stages}, levels, {(a, b) for a, b in needs if a != b})


def reads(stages: dict[str, Any], params: dict[str, Any], address: str) -> set[str]:
    """The deps of one execution, by the address that DVC gives it: `stage`, or `stage@item`."""
    name, _, item = address.partition("@")
    return {str(dep) for key, deps, _ in _executions(stages[name], params) if key == item for dep in deps}


def _executions(stage: dict[str, Any], params: dict[str, Any]) -> Iterator[tuple[str, set, set]]:
    """The name, deps and outs of each item."""
    body = stage.get("do", stage)
    for scope in _items(stage, params):
        entries = {kind: [e if isinstance(e, str) else next(iter(e)) for e in body.get(kind, [])]
                   for kind in ("deps", "outs", "metrics", "plots")}  # fmt: skip
        paths = {kind: {PurePosixPath(_filled(e, params | scope)) for e in each} for kind, each in entries.items()}
        yield _named(scope), paths["deps"], paths["outs"] | paths["metrics"] | paths["plots"]


def _named(scope: dict[str, Any]) -> str:
    """What stands after the @ in DVC's address of an item."""
    item = scope.get("key", scope.get("item", ""))
    return "-".join(map(str, item.values())) if isinstance(item, dict) else str(item)


def _items(stage: dict[str, Any], params: dict[str, Any]) -> list[dict[str, Any]]:
    """What `item` and `key` are in each execution."""
    if "foreach" in stage:
        each = _value(stage["foreach"], params)
        return [{"key": key, "item": each[key]} for key in each] if isinstance(each, dict) else [
            {"item": item} for item in each
        ]  # fmt: skip
    axes = {name: _value(values, params) for name, values in stage.get("matrix", {}).items()}
    return [{"item": dict(zip(axes, chosen, strict=True))} for chosen in product(*axes.values())]


def _value(value: Any, params: dict[str, Any]) -> Any:
    """The value itself, or what a template that is the whole of it stands for."""
    whole = re.fullmatch(r"\$\{(.+)\}", value) if isinstance(value, str) else None
    return _looked_up(whole[1], params) if whole else value


def _filled(text: str, scope: dict[str, Any]) -> str:
    return re.sub(r"\$\{(.+?)\}", lambda template: str(_looked_up(template[1], scope)), text)


def _looked_up(name: str, scope: dict[str, Any]) -> Any:
    value = scope
    for part in name.strip().split("."):
        value = value[part]
    return value
