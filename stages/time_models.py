"""What every row of the table costs to run: latency, throughput, memory, size, each model in a clean process."""

from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.deployment import fusion, lineup, measuring, service
from pipeline.deployment.latency import OnnxFile
from pipeline.deployment.lineup import Entry
from pipeline.deployment.measuring import Timing
from pipeline.deployment.service import Service
from pipeline.project import data, errors, files, machine, paths
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
        measured = measuring.measure(systems, images, timing)
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
    store.log(
        record,
        paths.record("time_models"),
        settings.tracking,
        params={"benchmark": wanted, "machine": machine.describe()},
        metrics=store.by_metric("run", measured),
        artifacts=[paths.LATENCY],
    )


def _file(row: Entry, chosen: str, folder: Path) -> Path:
    """The ONNX file of a row; ensembles that were not chosen are fused for this alone."""
    if row.kind == "ensemble" and row.name != chosen:
        fusion.fuse(row.system, {name: paths.onnx(name) for name in row.models}, folder / f"{row.name}.onnx")
        return folder / f"{row.name}.onnx"
    return row.file


if __name__ == "__main__":
    errors.run(main)
