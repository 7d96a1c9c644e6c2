"""Time every teacher, one image at a time, so that members can be chosen by what they cost together."""

from pipeline.deployment import measuring
from pipeline.deployment.latency import OnnxFile
from pipeline.deployment.measuring import Timing
from pipeline.ensembles import subsets
from pipeline.project import data, errors, files, paths
from pipeline.tracking import store
from stages.gathering import drop_stale
from stages.starting import start_stage

CALLS, WARMUP = 200, 20


def main() -> None:
    record, settings = start_stage("time_members")
    drop_stale(settings)
    members = list(settings.teachers)
    print(f"timing {len(members)} teachers", flush=True)
    image = data.open_split(paths.PREPARED, "val").images[:1]
    timing = Timing(settings.benchmark.threads, {1: CALLS}, WARMUP)
    measured = measuring.measure({name: OnnxFile(paths.onnx(name)) for name in members}, image, timing, apart=False)
    milliseconds = subsets.sums({name: times["p50_ms"] for name, times in measured.items()})
    files.write_json(paths.MEMBER_LATENCY, milliseconds)
    store.log(
        record,
        paths.record("time_members"),
        settings.tracking,
        params={"threads": settings.benchmark.threads},
        metrics={f"p50_ms/{name.replace('+', '_')}": value for name, value in milliseconds.items()},
        artifacts=[paths.MEMBER_LATENCY],
    )


if __name__ == "__main__":
    errors.run(main)
