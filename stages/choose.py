"""Which model ships, decided by `deploy` in params.yaml on val, and why every other one was left out."""

import shutil

import numpy as np

from pipeline.deployment import choice, lineup
from pipeline.deployment.choice import Candidate
from pipeline.deployment.lineup import Entry
from pipeline.project import errors, files, paths
from pipeline.tracking import store
from stages.gathering import drop_stale
from stages.starting import start_stage


def main() -> None:
    record, settings = start_stage("choose")
    drop_stale(settings)
    fitted, measured = files.read_json(paths.ENSEMBLES), files.read_json(paths.LATENCY)["methods"]
    trained = {name: files.read_json(paths.model_scores(name)) for name in settings.models()}
    entries = lineup.table_rows(list(settings.teachers), settings.student_arms(), fitted, trained)
    may_ship = {entry.name: entry for entry in lineup.may_ship(entries, fitted["chosen"])}
    candidates = [_candidate(entry, measured[name]) for name, entry in may_ship.items()]
    chosen, reasons = choice.decide(candidates, settings.deploy)
    ships, figures = may_ship[chosen.name], chosen.figures
    with files.atomic_write(paths.DEPLOYED) as temporary:
        shutil.copyfile(ships.file, temporary)
    text = choice.decision(candidates, reasons)
    files.write_text(paths.DECISION, text)
    files.write_json(paths.CHOSEN, {**ships.origin, **figures, "verdict": reasons[chosen.name]})
    print(text)
    store.log(
        record,
        paths.record("choose"),
        settings.tracking,
        params={"deploy": settings.deploy, "chosen": chosen.name, "file": ships.file.as_posix()},
        metrics={f"chosen/{key}": value for key, value in figures.items()},
        artifacts=[paths.DECISION, paths.CHOSEN],
    )


def _candidate(entry: Entry, measured: dict[str, float]) -> Candidate:
    """The row as it is judged; an ensemble's accuracy is cross-fitted, as it was fitted on val itself."""
    if entry.kind == "ensemble":
        accuracies, loss = [files.read_json(paths.ENSEMBLE_METRICS)["val"][entry.name]["accuracy"]], 0.0
    else:
        scores = {model: files.read_json(paths.export_scores(model)) for model in entry.models}
        version, shipped = "int8" if entry.kind == "int8" else "onnx", entry.models[entry.shipped]
        accuracies = [scores[model][version]["val_accuracy"] for model in entry.models]
        loss = scores[shipped]["onnx"]["val_accuracy"] - scores[shipped][version]["val_accuracy"]
    return Candidate(
        entry.name,
        entry.kind,
        accuracy=float(np.mean(accuracies)),
        accuracy_of_file=accuracies[0 if entry.kind == "ensemble" else entry.shipped],
        p95_ms=measured["p95_ms"],
        size_mb=measured["size_bytes"] / 1e6,
        memory_mb=measured["memory_bytes"] / 1e6,
        spread=measured["spread"],
        members=len(entry.system.members),
        int8_loss=loss,
    )


if __name__ == "__main__":
    errors.run(main)
