"""Who stands in the table: every teacher, ensemble and arm of students, and the INT8 versions of what may ship."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.deployment.wording import INT8
from pipeline.ensembles import ensemble
from pipeline.ensembles.ensemble import Ensemble
from pipeline.project import paths


@dataclass(frozen=True)
class Entry:
    """One row.

    kind: "teacher", "ensemble", "student" or "int8". system: what is deployed; one model is an ensemble of one.
    models: of a student, one a seed, else the system's members.
    """

    name: str
    kind: str
    system: Ensemble
    models: list[str]

    @property
    def shipped(self) -> int:
        """The position among `models` of the one that ships."""
        return self.models.index(self.system.members[0])

    @property
    def file(self) -> Path:
        """The exported file that ships: of an ensemble, which must be the chosen one, its one graph."""
        return paths.ENSEMBLE_ONNX if self.kind == "ensemble" else self.exported(self.system.members[0])

    @property
    def origin(self) -> dict[str, str | int | None]:
        """Which file ships, by the table's words: its arm, model, seed and precision; an ensemble is no one model."""
        model = None if self.kind == "ensemble" else self.system.members[0]
        _, dash, seed = (model or "").partition("-")
        return {
            "row": self.name,
            "arm": self.name.removesuffix(INT8),
            "model": model,
            "seed": int(seed) if dash else None,
            "precision": "int8" if self.kind == "int8" else "fp32",
            "file": self.file.as_posix(),
        }

    def exported(self, model: str) -> Path:
        """The exported file of one of `models`."""
        return (paths.int8 if self.kind == "int8" else paths.onnx)(model)


def best_seed(models: list[str], scores: dict[str, dict[str, float]]) -> str:
    """The student of an arm that ships: the best on val by accuracy, then by NLL."""
    return max(models, key=lambda model: (scores[model]["val_accuracy"], -scores[model]["val_nll"]))


def may_ship(entries: list[Entry], chosen: str) -> list[Entry]:
    """The rows that may ship: of ensembles the chosen one, unless it is a single model, which has a row of its own."""
    return [each for each in entries if each.kind != "ensemble" or (each.name == chosen and len(each.models) > 1)]


def table_rows(
    members: list[str], arms: dict[str, list[str]], fitted: dict[str, Any], trained: dict[str, dict[str, float]]
) -> list[Entry]:
    """The rows in their order.

    Args:
        members, arms: of pipeline.params.Params. fitted: what `fit_ensemble` wrote. trained: val's scores by model.
    """
    teachers = [Entry(name, "teacher", ensemble.alone(name), [name]) for name in members]
    systems = {method: Ensemble(**values) for method, values in fitted["methods"].items()}
    ensembles = [Entry(method, "ensemble", system, system.members) for method, system in systems.items()]
    students = [Entry(arm, "student", ensemble.alone(best_seed(names, trained)), names) for arm, names in arms.items()]
    quantised = [entry for entry in [*teachers, *students] if entry.name == fitted["best"] or entry.kind == "student"]
    int8 = [Entry(entry.name + INT8, "int8", entry.system, entry.models) for entry in quantised]
    return [*teachers, *ensembles, *students, *int8]
