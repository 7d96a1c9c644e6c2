"""The ensemble that was chosen as one ONNX file, held against its members' files on the validation images."""

import numpy as np

from pipeline.deployment import export, fusion, latency
from pipeline.ensembles.ensemble import Ensemble
from pipeline.project import data, errors, files, paths
from pipeline.scoring import metrics
from pipeline.tracking import store
from stages.beginning import begin


def main() -> None:
    record, settings = begin("export_ensemble")
    val, fitted = data.open_split(paths.PREPARED, "val"), files.read_json(paths.ENSEMBLES)
    system = Ensemble(**fitted["methods"][fitted["chosen"]])
    members = {name: paths.onnx(name) for name in settings.members()}
    fusion.fuse(system, members, paths.ENSEMBLE_ONNX)
    expected = system.log_probs(np.stack([latency.onnx_logits(members[name], val.images) for name in system.members]))
    logits = latency.onnx_logits(paths.ENSEMBLE_ONNX, val.images)
    scores = {f"val_{key}": value for key, value in metrics.scores(logits, val.labels).items()}
    found = export.agreement(expected, logits) | scores | {"size_bytes": paths.ENSEMBLE_ONNX.stat().st_size}
    files.write_json(paths.export_metrics("ensemble"), {"onnx": found})
    print(", ".join(f"{key} {value:.6g}" for key, value in found.items()))
    store.log(
        record,
        paths.record("export_ensemble"),
        settings.tracking,
        params={"chosen": fitted["chosen"]},
        metrics=store.by_metric("export", {"onnx": found}),
        artifacts=[paths.ENSEMBLE_ONNX, paths.export_metrics("ensemble")],
    )


if __name__ == "__main__":
    errors.run(main)
