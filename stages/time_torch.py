"""What one model of every row costs in eager torch, on `compute.device`, beside what it costs in ONNX Runtime."""

from pipeline import data, errors, files, latency, lineup, params, paths, tracking
from pipeline.eager import Eager
from pipeline.latency import Timing


def main() -> None:
    record = tracking.begin("time_torch")
    settings = params.load()
    fitted, wanted = files.read_json(paths.ENSEMBLES), settings.benchmark
    trained = {name: files.read_json(paths.model_metrics(name)) for name in settings.models()}
    rows = lineup.entries(list(settings.members()), settings.student_arms(), fitted, trained)
    systems = {
        row.name: Eager(paths.weights(row.system.members[0]), settings.compute)
        for row in rows
        if row.kind in ("teacher", "student")
    }
    print(f"timing {len(systems)} models, each in a process of its own", flush=True)
    images = data.open_split(paths.PREPARED, "val").images[: max(wanted.calls)]
    found = latency.measure(systems, images, Timing(wanted.threads, wanted.calls, wanted.warmup, rounds=1))
    files.write_json(paths.TORCH_LATENCY, found)
    tracking.log(
        record,
        paths.record("time_torch"),
        settings.tracking,
        params={"benchmark": wanted, "compute": settings.compute},
        metrics=tracking.by_metric("run", found),
        artifacts=[paths.TORCH_LATENCY],
    )


if __name__ == "__main__":
    errors.run(main)
