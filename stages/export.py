"""Export one model to ONNX and hold it against torch on the validation images: `python -m stages.export MODEL`."""

import time

from pipeline import compute, data, errors, export, files, models, params, paths, tracking


def main(name: str) -> None:
    record = tracking.Record("export", name)
    settings = params.load()
    compute.device(settings.compute)
    model = models.load(paths.weights(name))
    began = time.perf_counter()
    export.to_onnx(model, paths.onnx(name))
    parity = export.parity(model, paths.onnx(name), data.open_split(paths.PREPARED, "val").images)
    seconds = time.perf_counter() - began
    files.write_json(paths.parity_metrics(name), parity)
    print(", ".join(f"{key} {value}" for key, value in parity.items()))
    tracking.log(
        record,
        paths.record("export", name),
        settings.tracking,
        params={"compute": settings.compute},
        metrics={**parity, "size_bytes": paths.onnx(name).stat().st_size, "export_seconds": seconds},
        artifacts=[paths.onnx(name), paths.parity_metrics(name)],
    )


if __name__ == "__main__":
    errors.run(main)
