"""What every row of the table costs to run: latency, throughput, memory, size, each model in a clean process.

Eager torch is timed in this process, on `compute.accelerator`, with random weights, on which its speed does not depend.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipeline.deployment import fusion, lineup, measuring, service
from pipeline.deployment.eager import Eager
from pipeline.deployment.latency import OnnxFile
from pipeline.deployment.lineup import Entry
from pipeline.deployment.measuring import Timing
from pipeline.deployment.service import Service
from pipeline.params import Params
from pipeline.project import data, errors, files, machine, paths
from pipeline.project.data import Info
from pipeline.tracking import store
from stages.gathering import drop_stale
from stages.starting import start_stage

END_TO_END = "from a JPEG"  # no name that a row can have


def main() -> None:
    record, settings = start_stage("time_models")
    drop_stale(settings)
    fitted = files.read_json(paths.ENSEMBLES)
    trained = {name: files.read_json(paths.model_scores(name)) for name in settings.models()}
    rows = lineup.table_rows(list(settings.teachers), settings.student_arms(), fitted, trained)
    wanted = settings.benchmark
    timing = Timing(wanted.threads, wanted.calls, wanted.warmup, all_cores=True)
    images = data.open_split(paths.PREPARED, "val").images[: max(wanted.calls)]
    print(f"timing {len(rows)} methods, each in a process of its own", flush=True)
    with TemporaryDirectory() as folder:
        onnx = {row.name: _file(row, fitted["chosen"], Path(folder)) for row in rows}
        served = next(row for row in rows if row.kind == "student")
        systems = {name: OnnxFile(path) for name, path in onnx.items()}
        systems[END_TO_END] = Service(served.file, service.jpeg(images[0]))
        measured = measuring.measure(systems, images, timing, singly=[END_TO_END])
        end_to_end = {"row": served.name, "image": f"JPEG of {'x'.join(map(str, service.SENT))} pixels",
                      **measured.pop(END_TO_END)}  # fmt: skip
        for name, row in measured.items():
            row["size_bytes"] = onnx[name].stat().st_size
    files.write_json(
        paths.LATENCY,
        {
            "machine": machine.describe(),
            "largest_batch": max(wanted.calls),
            "end_to_end": end_to_end,
            "methods": measured,
        },
    )
    eager = _eager(settings, data.open_info(paths.PREPARED), images[:1])
    files.write_json(paths.TORCH_LATENCY, eager)
    store.log(
        record,
        paths.record("time_models"),
        settings.tracking,
        params={"benchmark": wanted, "compute": settings.compute, "machine": machine.describe()},
        metrics=store.by_metric("run", measured) | store.by_metric("torch", eager),
        artifacts=[paths.LATENCY, paths.TORCH_LATENCY],
    )


def _file(row: Entry, chosen: str, folder: Path) -> Path:
    """The ONNX file of a row; ensembles that were not chosen are fused for this alone."""
    if row.kind == "ensemble" and row.name != chosen:
        fusion.fuse(row.system, {name: paths.onnx(name) for name in row.models}, folder / f"{row.name}.onnx")
        return folder / f"{row.name}.onnx"
    return row.file


def _eager(settings: Params, info: Info, image: np.ndarray) -> dict[str, dict[str, float]]:
    """`p50_ms` and `p95_ms` of each teacher and of the student."""
    wanted, timed = settings.benchmark, {**settings.teachers, "student": settings.student}
    systems = {name: Eager(architecture, info, settings.compute) for name, architecture in timed.items()}
    timing = Timing(wanted.threads, {1: wanted.calls[1]}, wanted.warmup, rounds=1)
    taken = measuring.measure(systems, image, timing, apart=False)
    return {name: {"p50_ms": row["p50_ms"], "p95_ms": row["p95_ms"]} for name, row in taken.items()}


if __name__ == "__main__":
    errors.run(main)
