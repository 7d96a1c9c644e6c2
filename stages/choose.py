"""Which model ships, decided by `deploy` in params.yaml on val, and why every other one was left out."""

import shutil

import pandas as pd

from pipeline.deployment import choice, lineup
from pipeline.deployment.choice import Candidate
from pipeline.deployment.lineup import Entry
from pipeline.project import errors, files, paths
from pipeline.reporting import report
from pipeline.tracking import store
from stages.beginning import begin


def main() -> None:
    record, settings = begin("choose")
    fitted, measured = files.read_json(paths.ENSEMBLES), files.read_json(paths.LATENCY)["methods"]
    trained = {name: files.read_json(paths.model_metrics(name)) for name in settings.models()}
    entries = lineup.entries(list(settings.members()), settings.student_arms(), fitted, trained)
    may_ship = {entry.name: entry for entry in entries if entry.kind != "ensemble" or entry.name == fitted["chosen"]}
    candidates = [
        Candidate(
            name,
            accuracy=_val_accuracy(entry),
            p95_ms=measured[name]["p95_ms"],
            size_mb=measured[name]["size_bytes"] / 1e6,
            memory_mb=measured[name]["memory_bytes"] / 1e6,
        )
        for name, entry in may_ship.items()
    ]
    chosen, reasons = choice.decide(candidates, settings.deploy)
    source = may_ship[chosen].file
    with files.replacing(paths.DEPLOYED) as temporary:
        shutil.copyfile(source, temporary)
    rows = pd.DataFrame([{**vars(each), "verdict": reasons[each.name]} for each in candidates])
    files.write_text(paths.DECISION, report.decision(rows, {name: entry.kind for name, entry in may_ship.items()}))
    files.write_json(paths.CHOSEN, {"row": chosen, "file": source.as_posix(), **rows.set_index("name").loc[chosen]})
    print(paths.DECISION.read_text(encoding="utf-8"))
    store.log(
        record,
        paths.record("choose"),
        settings.tracking,
        params={"deploy": settings.deploy, "chosen": chosen, "file": source.as_posix()},
        metrics={f"chosen/{key}": float(rows.set_index("name").loc[chosen, key])
                 for key in ("accuracy", "p95_ms", "size_mb", "memory_mb")},
        artifacts=[paths.DECISION, paths.CHOSEN],
    )  # fmt: skip


def _val_accuracy(entry: Entry) -> float:
    """Of an ensemble cross-fitted, as it was fitted on val itself."""
    if entry.kind == "ensemble":
        return files.read_json(paths.ENSEMBLE_METRICS)["val"][entry.name]["accuracy"]
    scores = files.read_json(paths.export_metrics(entry.system.members[0]))
    return scores["int8" if entry.kind == "int8" else "onnx"]["val_accuracy"]


if __name__ == "__main__":
    errors.run(main)
