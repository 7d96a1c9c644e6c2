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
    print(f"timing {len(systems)} models, each in a process of its own", flush=True)
    images = data.open_split(paths.PREPARED, "val").images[: max(wanted.calls)]
    measured = latency.measure(systems, images, Timing(wanted.threads, wanted.calls, wanted.warmup, rounds=1))
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
