"""Export models to ONNX and INT8, each held against torch on the validation images.

`python -m stages.export teacher NAME`, or `student ARM`, or `baseline`: the students of an arm in one process.
"""

import time
from pathlib import Path

import numpy as np
import torch

from pipeline.deployment import export, latency, parity, quantisation
from pipeline.params import BASELINE
from pipeline.project import data, errors, files, paths
from pipeline.project.data import Split
from pipeline.scoring import metrics
from pipeline.tracking import store
from pipeline.training import devices, inference, models, views
from stages.gathering import drop_others
from stages.starting import start_stage

CALIBRATED_ON = 1000  # of the training images, as accuracy is read on val


def main(kind: str, name: str = "") -> None:
    record, settings = start_stage(f"export_{kind}", name)
    device, began = devices.device(settings.compute), time.perf_counter()
    exported = [name] if kind == "teacher" else _students(name or BASELINE, settings.student_seeds)
    rows = {model: _export(model, device) for model in exported}
    store.log(
        record,
        paths.record(f"export_{kind}", name),
        settings.tracking,
        params={"compute": settings.compute},
        metrics={**_metrics(rows), "export_seconds": time.perf_counter() - began},
        artifacts=[
            path for model in exported for path in (paths.onnx(model), paths.int8(model), paths.export_scores(model))
        ],
    )


def _students(arm: str, seeds: list[int]) -> list[str]:
    """The arm's models; what another params.yaml has left of it goes."""
    drop_others(paths.STUDENTS / arm, {str(seed) for seed in seeds})
    return [f"{arm}-{seed}" for seed in seeds]


def _metrics(rows: dict[str, dict[str, dict[str, float | None]]]) -> dict[str, float]:
    return store.by_metric("export", {f"{model} {version}": row for model, versions in rows.items()
                                      for version, row in versions.items()})  # fmt: skip


def _export(name: str, device: torch.device) -> dict[str, dict[str, float | None]]:
    """Write both files of a model and what they are worth: its size, and how each version agrees with torch."""
    train, val = (data.open_split(paths.PREPARED, split) for split in ("train", "val"))
    model = models.load(paths.weights(name))
    exact = inference.predict(model, val.images, device, exact=True)
    export.to_onnx(model, paths.onnx(name))
    rows = {"model": {"parameters": models.parameters(model), "multiply_adds": models.multiply_adds(model)}}
    rows["onnx"] = _row(paths.onnx(name), exact, val)
    parity.check(paths.onnx(name), rows["onnx"])
    some = views.clean(train, np.arange(min(CALIBRATED_ON, len(train))), model.info.image_size)
    int8 = quantisation.to_int8(paths.onnx(name), paths.int8(name), some)
    print(f"{name}, INT8: {int8}", flush=True)
    how = {"per_channel": int(int8.per_channel), "fp32_products": sum(int8.fp32_products.values())}
    rows["int8"] = _row(paths.int8(name), exact, val) | how
    files.write_json(paths.export_scores(name), rows)
    for version, row in rows.items():
        known = (f"{key} {value:.6g}" for key, value in row.items() if value is not None)
        print(f"{name}, {version}: {', '.join(known)}", flush=True)
    return rows


def _row(path: Path, exact: np.ndarray, val: Split) -> dict[str, float]:
    """What a file is worth on val, and how it agrees with torch's (samples, classes) logits."""
    logits = latency.onnx_logits(path, val.images)
    scores = {f"val_{key}": value for key, value in metrics.scores(logits, val.labels).items()}
    return metrics.agreement(exact, logits) | scores | {"size_bytes": path.stat().st_size}


if __name__ == "__main__":
    errors.run(main)
