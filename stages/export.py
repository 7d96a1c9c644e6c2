"""Export a model to ONNX and INT8, each held against torch on the validation images.

`python -m stages.export teacher NAME`, or `student ARM SEED`, or `baseline SEED`.
"""

import time

import torch

from pipeline.deployment import export, latency, quantisation
from pipeline.params import BASELINE
from pipeline.project import data, errors, files, paths
from pipeline.project.data import Split
from pipeline.scoring import metrics
from pipeline.tracking import store
from pipeline.training import devices, inference, models
from stages.starting import start_stage

CALIBRATED_ON = 1000  # of the validation images


def main(kind: str, name: str, seed: str = "") -> None:
    item = f"{name}-{seed}" if seed else name
    model = f"{BASELINE}-{item}" if kind == BASELINE else item
    record, settings = start_stage(f"export_{kind}", item)
    device, val, began = devices.device(settings.compute), data.open_split(paths.PREPARED, "val"), time.perf_counter()
    rows = _export(model, val, device)
    for version, row in rows.items():
        known = (f"{key} {value:.6g}" for key, value in row.items() if value is not None)
        print(f"{model}, {version}: {', '.join(known)}", flush=True)
    store.log(
        record,
        paths.record(f"export_{kind}", item),
        settings.tracking,
        params={"compute": settings.compute},
        metrics={**store.by_metric("export", rows), "export_seconds": time.perf_counter() - began},
        artifacts=[paths.onnx(model), paths.int8(model), paths.export_scores(model)],
    )


def _export(name: str, val: Split, device: torch.device) -> dict[str, dict[str, float | None]]:
    """Write both files of a model and what they are worth: its size, and how each version agrees with torch."""
    model = models.load(paths.weights(name))
    exact = inference.predict(model, val.images, device, exact=True)
    export.to_onnx(model, paths.onnx(name))
    quantisation.to_int8(paths.onnx(name), paths.int8(name), val.images[:CALIBRATED_ON])
    rows = {"model": {"parameters": models.parameters(model), "multiply_adds": models.multiply_adds(model)}}
    for version, path in (("onnx", paths.onnx(name)), ("int8", paths.int8(name))):
        logits = latency.onnx_logits(path, val.images)
        scores = {f"val_{key}": value for key, value in metrics.scores(logits, val.labels).items()}
        rows[version] = metrics.agreement(exact, logits) | scores | {"size_bytes": path.stat().st_size}
    files.write_json(paths.export_scores(name), rows)
    return rows


if __name__ == "__main__":
    errors.run(main)
