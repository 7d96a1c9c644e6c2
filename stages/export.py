"""Export one model to ONNX and INT8, held against torch on the validation images: `python -m stages.export MODEL`."""

import time

from pipeline.deployment import export, latency, quantisation
from pipeline.project import data, errors, files, paths
from pipeline.scoring import metrics
from pipeline.tracking import store
from pipeline.training import devices, loop, models
from stages.beginning import begin

CALIBRATED_ON = 1000  # of the validation images


def main(name: str) -> None:
    record, settings = begin("export", name)
    device = devices.device(settings.compute)
    model, val = models.load(paths.weights(name)), data.open_split(paths.PREPARED, "val")
    began = time.perf_counter()
    exact = loop.predict(model, val.images, device, exact=True)
    export.to_onnx(model, paths.onnx(name))
    quantisation.to_int8(paths.onnx(name), paths.int8(name), val.images[:CALIBRATED_ON])
    found = {"model": {"parameters": models.parameters(model), "multiply_adds": models.multiply_adds(model)}}
    for kind, path in (("onnx", paths.onnx(name)), ("int8", paths.int8(name))):
        logits = latency.onnx_logits(path, val.images)
        scores = {f"val_{key}": value for key, value in metrics.scores(logits, val.labels).items()}
        found[kind] = export.agreement(exact, logits) | scores | {"size_bytes": path.stat().st_size}
    files.write_json(paths.export_metrics(name), found)
    for kind, row in found.items():
        print(f"{kind}: " + ", ".join(f"{key} {value:.6g}" for key, value in row.items()))
    store.log(
        record,
        paths.record("export", name),
        settings.tracking,
        params={"compute": settings.compute},
        metrics={**store.by_metric("export", found), "export_seconds": time.perf_counter() - began},
        artifacts=[paths.onnx(name), paths.int8(name), paths.export_metrics(name)],
    )


if __name__ == "__main__":
    errors.run(main)
