"""Time every subset of the teachers, one image at a time, so that members can be chosen by what they cost."""

from pipeline.deployment import latency
from pipeline.deployment.latency import OnnxFiles, Timing
from pipeline.ensembles import ensemble, subsets
from pipeline.project import data, errors, files, paths
from pipeline.tracking import store
from stages.gathering import drop_stale
from stages.starting import start_stage

CALLS, WARMUP = 50, 5


def main() -> None:
    record, settings = start_stage("time_members")
    drop_stale(settings)
    members = list(settings.teachers)
    systems = {
        subsets.subset_name(names): OnnxFiles(
            tuple(paths.onnx(name) for name in names), ensemble.uniform(names).log_probs
        )
        for names in subsets.subsets_of(members)
    }
    print(f"timing {len(systems)} subsets of {len(members)} teachers", flush=True)
    image = data.open_split(paths.PREPARED, "val").images[:1]
    measured = latency.measure(systems, image, Timing(settings.benchmark.threads, {1: CALLS}, WARMUP), apart=False)
    milliseconds = {name: times["p50_ms"] for name, times in measured.items()}
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
