"""What every row of the table costs to run: latency, throughput, memory, size, each model in a clean process."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from pipeline.deployment import fusion, latency, lineup, service
from pipeline.deployment.latency import OnnxFiles, Timing
from pipeline.deployment.lineup import Entry
from pipeline.deployment.service import Service
from pipeline.params import Benchmark
from pipeline.project import data, errors, files, machine, paths
from pipeline.tracking import store
from stages.gathering import drop_stale
from stages.starting import start_stage


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
        systems = {name: OnnxFiles((path,)) for name, path in onnx.items()}
        measured = latency.measure(systems, images, timing, bar=partial(tqdm, leave=False, disable=None))
        for name, row in measured.items():
            row["size_bytes"] = onnx[name].stat().st_size
    served = _serve(rows, images[:1], wanted)
    files.write_json(
        paths.LATENCY,
        {"machine": machine.describe(), "methods": measured, "service": served, "picture": service.PICTURE},
    )
    store.log(
        record,
        paths.record("time_models"),
        settings.tracking,
        params={"benchmark": wanted, "machine": machine.describe()},
        metrics=store.by_metric("run", measured) | store.by_metric("serve", served),
        artifacts=[paths.LATENCY],
    )


def _file(row: Entry, chosen: str, folder: Path) -> Path:
    """The ONNX file of a row; ensembles that were not chosen are fused for this alone."""
    if row.kind == "ensemble" and row.name != chosen:
        fusion.fuse(row.system, {name: paths.onnx(name) for name in row.models}, folder / f"{row.name}.onnx")
        return folder / f"{row.name}.onnx"
    return row.file


def _serve(rows: list[Entry], image: np.ndarray, wanted: Benchmark) -> dict[str, dict[str, float | None]]:
    """What the last student costs from a picture's bytes to its class, in a process of its own, by its name."""
    student = [row for row in rows if row.kind == "student"][-1]
    timing = Timing(wanted.threads, {1: wanted.calls[1]}, wanted.warmup, rounds=1)
    return latency.measure({student.name: Service(student.file, service.picture(image[0]))}, image, timing)


if __name__ == "__main__":
    errors.run(main)
