"""What each teacher and the student cost in eager torch, on `compute.accelerator`, beside ONNX Runtime."""

from pipeline.deployment import latency
from pipeline.deployment.eager import Eager
from pipeline.deployment.latency import Timing
from pipeline.project import data, errors, files, paths
from pipeline.tracking import store
from stages.starting import start_stage


def main() -> None:
    record, settings = start_stage("time_torch")
    info, wanted = data.open_info(paths.PREPARED), settings.benchmark
    timed = {**settings.teachers, "student": settings.student}
    systems = {name: Eager(architecture, info, settings.compute) for name, architecture in timed.items()}
    print(f"timing {len(systems)} models", flush=True)
    image = data.open_split(paths.PREPARED, "val").images[:1]
    timing = Timing(wanted.threads, {1: wanted.calls[1]}, wanted.warmup, rounds=1)
    taken = latency.measure(systems, image, timing, apart=False)
    kept = ("p50_ms", "p50_ms_low", "p50_ms_high", "calls")
    measured = {name: {key: row[key] for key in kept} for name, row in taken.items()}
    files.write_json(paths.TORCH_LATENCY, measured)
    store.log(
        record,
        paths.record("time_torch"),
        settings.tracking,
        params={"benchmark": wanted, "compute": settings.compute},
        metrics=store.by_metric("run", measured),
        artifacts=[paths.TORCH_LATENCY],
    )


if __name__ == "__main__":
    errors.run(main)
