"""The ensemble that was chosen as one ONNX file, held against its members' files on the validation images."""

import numpy as np

from pipeline.deployment import fusion, latency, parity
from pipeline.ensembles.ensemble import Ensemble
from pipeline.project import data, errors, files, paths
from pipeline.scoring import metrics
from pipeline.tracking import store
from stages.gathering import drop_stale
from stages.starting import start_stage


def main() -> None:
    record, settings = start_stage("export_ensemble")
    drop_stale(settings)
    val, fitted = data.open_split(paths.PREPARED, "val"), files.read_json(paths.ENSEMBLES)
    ensemble = Ensemble(**fitted["methods"][fitted["chosen"]])
    members = {name: paths.onnx(name) for name in settings.teachers}
    fusion.fuse(ensemble, members, paths.ENSEMBLE_ONNX)
    expected = ensemble.log_probs(
        np.stack([latency.onnx_logits(members[name], val.images) for name in ensemble.members])
    )
    logits = latency.onnx_logits(paths.ENSEMBLE_ONNX, val.images)
    scores = {f"val_{key}": value for key, value in metrics.scores(logits, val.labels).items()}
    row = metrics.agreement(expected, logits) | scores | {"size_bytes": paths.ENSEMBLE_ONNX.stat().st_size}
    parity.check(paths.ENSEMBLE_ONNX, row)
    files.write_json(paths.ENSEMBLE_EXPORT, {"onnx": row})
    print(", ".join(f"{key} {value:.6g}" for key, value in row.items()))
    store.log(
        record,
        paths.record("export_ensemble"),
        settings.tracking,
        params={"chosen": fitted["chosen"]},
        metrics=store.by_metric("export", {"onnx": row}),
        artifacts=[paths.ENSEMBLE_ONNX, paths.ENSEMBLE_EXPORT],
    )


if __name__ == "__main__":
    errors.run(main)
