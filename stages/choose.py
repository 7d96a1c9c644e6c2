"""Which model ships, decided by `deploy` in params.yaml on val, and why every other one was left out."""

import shutil

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
    may_ship = {entry.name: entry for entry in entries if entry.kind != "ensemble" or entry.name == fitted["chosen"]}
    candidates = [
        Candidate(
            name,
            entry.kind,
            accuracy=_val_accuracy(entry),
            p95_ms=measured[name]["p95_ms"],
            size_mb=measured[name]["size_bytes"] / 1e6,
            memory_mb=measured[name]["memory_bytes"] / 1e6,
        )
        for name, entry in may_ship.items()
    ]
    chosen, reasons = choice.decide(candidates, settings.deploy)
    source, figures = may_ship[chosen.name].file, chosen.figures
    with files.atomic_write(paths.DEPLOYED) as temporary:
        shutil.copyfile(source, temporary)
    text = choice.decision(candidates, reasons)
    files.write_text(paths.DECISION, text)
    files.write_json(
        paths.CHOSEN, {"row": chosen.name, "file": source.as_posix(), **figures, "verdict": reasons[chosen.name]}
    )
    print(text)
    store.log(
        record,
        paths.record("choose"),
        settings.tracking,
        params={"deploy": settings.deploy, "chosen": chosen.name, "file": source.as_posix()},
        metrics={f"chosen/{key}": value for key, value in figures.items()},
        artifacts=[paths.DECISION, paths.CHOSEN],
    )


def _val_accuracy(entry: Entry) -> float:
    """Of an ensemble cross-fitted, as it was fitted on val itself."""
    if entry.kind == "ensemble":
        return files.read_json(paths.ENSEMBLE_METRICS)["val"][entry.name]["accuracy"]
    scores = files.read_json(paths.export_scores(entry.system.members[0]))
    return scores["int8" if entry.kind == "int8" else "onnx"]["val_accuracy"]


if __name__ == "__main__":
    errors.run(main)
