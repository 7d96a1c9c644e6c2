"""The deployed model under MLPerf's own client, beside our times: `python -m benchmarks.loadgen` after `make repro`.

It needs `pip install mlcommons-loadgen`, which nothing else does. In the scenario SingleStream the client asks for one
image, waits for the answer and asks again, 24,580 times: 24,576 are enough for p90 by MLPerf's rule (Reddi et al. 2020,
section IV). It takes what passes between asking and answering, its own part of which an answer without a model shows. A
minute or two.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from benchmarks import page
from benchmarks.page import Figure
from pipeline import params
from pipeline.deployment import measuring
from pipeline.deployment.latency import OnnxFile
from pipeline.deployment.measuring import Timing
from pipeline.project import data, errors, paths
from pipeline.project.errors import PipelineError

QUERIES = 24_580  # 24,576 by the rule; a multiple of what `measuring` takes in a turn, twice
PERCENTILES = (50, 90, 95, 99)
OURS, THEIRS, EMPTY = "pipeline.deployment.measuring", "LoadGen", "LoadGen, no model"


def main(queries: str = str(QUERIES)) -> None:
    client, wanted, count = _client(), params.load().benchmark, int(queries)
    images = np.array(data.open_split(paths.PREPARED, "val").images)
    deployed = OnnxFile(paths.DEPLOYED)
    ours = measuring.measure({OURS: deployed}, images[:1], Timing(wanted.threads, {1: count}, wanted.warmup))[OURS]
    run = deployed(wanted.threads)
    milliseconds = {
        OURS: {percent: ours[f"p{percent}_ms"] or np.nan for percent in PERCENTILES},
        THEIRS: drive(client, run, images, count),
        EMPTY: drive(client, lambda image: None, images, count),
    }
    table = pd.DataFrame(
        [
            {"measured by": name, "calls": count, **{f"p{key} ms": f"{value:.4f}" for key, value in found.items()}}
            for name, found in milliseconds.items()
        ]
    )
    page.publish("loadgen", table, [
        Figure(f"p{percent} by LoadGen without its own part / ours",
               (milliseconds[THEIRS][percent] - milliseconds[EMPTY][50]) / milliseconds[OURS][percent], 1.2)
        for percent in (50, 90)
    ])  # fmt: skip


def drive(
    client: ModuleType, run: Callable[[np.ndarray], object], images: np.ndarray, queries: int
) -> dict[int, float]:
    """Milliseconds of so many answers to single images, by percentile, as LoadGen's summary has them."""
    settings = client.TestSettings()
    settings.scenario, settings.mode = client.TestScenario.SingleStream, client.TestMode.PerformanceOnly
    settings.min_query_count = settings.max_query_count = queries
    settings.min_duration_ms = 0  # the number of calls decides

    def answer(samples: list) -> None:
        for sample in samples:
            run(images[sample.index : sample.index + 1])
            client.QuerySamplesComplete([client.QuerySampleResponse(sample.id, 0, 0)])

    system = client.ConstructSUT(answer, lambda: None)
    library = client.ConstructQSL(len(images), len(images), lambda chosen: None, lambda chosen: None)
    log = client.LogSettings()
    try:
        with tempfile.TemporaryDirectory() as folder:
            log.log_output.outdir, log.log_output.copy_summary_to_stdout = folder, False
            client.StartTestWithLogSettings(system, library, settings, log)
            summary = (Path(folder) / "mlperf_log_summary.txt").read_text(encoding="utf-8")
    finally:
        client.DestroyQSL(library)
        client.DestroySUT(system)
    found = re.findall(r"^(\d+)\.00 percentile latency \(ns\)\s*: (\d+)$", summary, re.MULTILINE)
    nanoseconds = {int(percent): int(value) for percent, value in found}
    return {percent: nanoseconds[percent] / 1e6 for percent in PERCENTILES}


def _client() -> ModuleType:
    try:
        import mlperf_loadgen
    except ModuleNotFoundError:
        raise PipelineError("LoadGen is not installed; `pip install mlcommons-loadgen` does that.") from None
    return mlperf_loadgen


if __name__ == "__main__":
    errors.run(main)
