import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from pipeline.deployment import export, fusion, latency
from pipeline.deployment.eager import Eager
from pipeline.deployment.latency import OnnxFiles, Timing
from pipeline.ensembles.ensemble import uniform
from pipeline.project.errors import PipelineError
from pipeline.training import models
from tests import toys
from tests.conftest import CHECKOUT, run

TIMING = Timing(threads=1, calls={1: 40, 8: 4}, warmup=2, all_cores=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    big = toys.architecture(kwargs={"channels": [64, 128, 256, 512]})
    for name, model in {"small": toys.classifier(), "big": toys.classifier(architecture=big)}.items():
        export.to_onnx(model, folder / f"{name}.onnx")
        models.save(model, folder / f"{name}.safetensors")
    fusion.fuse(uniform(["small", "big"]), {name: folder / f"{name}.onnx" for name in ("small", "big")},
                folder / "fused.onnx")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def measured(files):
    pair = (files / "small.onnx", files / "big.onnx")
    systems = {"small": OnnxFiles(pair[:1]), "big": OnnxFiles(pair[1:]), "fused": OnnxFiles((files / "fused.onnx",))}
    return latency.measure(systems, toys.images(8), TIMING)


def test_every_system_has_every_figure(measured):
    for row in measured.values():
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p95_ms"] and row["calls"] == 40
        assert row["p50_ms_low"] <= row["p50_ms"] <= row["p50_ms_high"]
        assert row["images_per_second"] > 0 and row["load_ms"] > 0 and row["spread"] >= 0
        assert row["p50_ms_all_cores"] > 0 and row["images_per_second_all_cores"] > 0


def test_percentiles_of_calls_have_bounds_and_a_rare_one_needs_ten_calls_beyond_it():
    found = latency.percentiles(np.random.default_rng(0).permutation(np.arange(1.0, 1001.0)))
    assert found["calls"] == 1000 and (found["p99_ms"], found["p99_ms_low"]) == (pytest.approx(990.01), 983)
    few = latency.percentiles(np.arange(1.0, 1000.0))
    assert few["p99_ms"] is few["p99_ms_low"] is few["p99_ms_high"] is None and few["p95_ms_high"] > few["p95_ms"]


def test_a_model_of_a_hundred_times_the_arithmetic_takes_longer_and_more_memory(measured):
    assert measured["big"]["p50_ms"] > measured["small"]["p50_ms"]
    assert measured["big"]["memory_bytes"] > measured["small"]["memory_bytes"] > 0
    assert measured["fused"]["memory_bytes"] > measured["small"]["memory_bytes"]


def test_many_systems_can_share_the_process_that_asks(files):
    pair = (files / "small.onnx", files / "big.onnx")
    systems = {"small": OnnxFiles(pair[:1]), "both": OnnxFiles(pair, uniform(["small", "big"]).log_probs),
               "torch": Eager(toys.ARCHITECTURE, toys.INFO, toys.compute())}  # fmt: skip
    measured = latency.measure(systems, toys.images(8), Timing(1, {1: 20}, 2), apart=False)
    assert measured["both"]["p50_ms"] > measured["small"]["p50_ms"] and measured["torch"]["p50_ms"] > 0
    assert "p50_ms_all_cores" not in measured["both"]


def test_each_turn_is_one_call_of_a_batch_or_an_untimed_and_five_timed_ones_of_single_images():
    seen = []
    systems = {"x": lambda threads: lambda images: seen.append((threads, len(images)))}
    latency.measure(systems, toys.images(8), Timing(1, {1: 20, 8: 4}, 5, all_cores=True), apart=False)
    expected = []
    for threads in (1, 0, 1, 0):  # two rounds, each first on one thread: a turn to warm up, and half of the calls
        expected += [(threads, 1)] * 6 * (1 + 2) + [(threads, 8)] * (1 + 2)
    assert seen == expected


def test_a_missing_file_is_a_sentence_from_whatever_process(tmp_path):
    with pytest.raises(PipelineError, match=r"none\.onnx is missing"):
        latency.measure({"x": OnnxFiles((tmp_path / "none.onnx",))}, np.zeros((8, 8, 8, 1), np.uint8), TIMING)


def test_a_process_that_times_has_imported_nothing_of_the_script_that_started_it(tmp_path):
    (tmp_path / "probe.py").write_text(
        "import sys\n"
        "from pipeline.project.errors import PipelineError\n"
        "class Probe:\n"
        "    def __call__(self, threads):\n"
        "        raise PipelineError(str({'pandas', 'scipy', 'onnxruntime'} & set(sys.modules)))\n"
    )
    (tmp_path / "script.py").write_text(
        "import numpy, pandas, scipy\n"
        "from pipeline.deployment import latency\n"
        "from pipeline.project import errors\n"
        "from probe import Probe\n"
        "if __name__ == '__main__':\n"
        "    images = numpy.zeros((1, 8, 8, 1), numpy.uint8)\n"
        "    errors.run(lambda: latency.measure({'x': Probe()}, images, latency.Timing(1, {1: 1}, 0)))\n"
    )
    result = run(sys.executable, "-m", "script", cwd=tmp_path, PYTHONPATH=str(CHECKOUT))
    assert result.stderr == "error: {'onnxruntime'}\n"


def test_no_process_that_times_has_a_progress_bar(tmp_path):
    """tqdm keeps a thread that wakes up meanwhile."""
    script = (
        "import sys, numpy\n"
        "from pipeline.deployment import latency\n"
        "images = numpy.zeros((1, 8, 8, 1), numpy.uint8)\n"
        "systems = {'x': lambda threads: lambda images: None}\n"
        "latency.measure(systems, images, latency.Timing(1, {1: 1}, 0), apart=False)\n"
        "print('tqdm' in sys.modules)\n"
    )
    assert run(sys.executable, "-c", script, cwd=CHECKOUT).stdout == "False\n"


def test_a_bar_sees_every_turn_and_what_it_is_of():
    seen = []

    def bar(turns, title):
        seen.append((len(turns), title))
        return turns

    systems = {"x": lambda threads: lambda images: None}
    latency.measure(systems, toys.images(1), Timing(1, {1: 20}, 5, all_cores=True), apart=False, bar=bar)
    assert seen == [(3, f"round {number}{more}, batch 1") for number in (1, 2) for more in ("", ", all cores")]


PROBE = """
import os, time
from pathlib import Path
def sleep():
    Path("asleep").touch()
    time.sleep(600)
if {while_imported} and Path("begun").exists():
    sleep()
class Probe:
    def __call__(self, threads):
        sleep()
"""
SCRIPT = """
import numpy
from pathlib import Path
from pipeline.deployment import latency
from pipeline.project import errors
from probe import Probe
Path("begun").touch()
images = numpy.zeros((1, 8, 8, 1), numpy.uint8)
errors.run(lambda: latency.measure({'x': Probe(), 'y': Probe()}, images, latency.Timing(1, {1: 1}, 0)))
"""


@pytest.mark.parametrize("while_imported", [True, False])
def test_an_interrupt_of_all_processes_at_once_is_one_sentence(tmp_path, while_imported):
    (tmp_path / "probe.py").write_text(PROBE.format(while_imported=while_imported))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=os.environ | {"PYTHONPATH": f"{CHECKOUT}{os.pathsep}."},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    while not (tmp_path / "asleep").exists():
        time.sleep(0.01)
    descendants = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors.startswith("error: Interrupted") and len(errors.splitlines()) == 1 and process.returncode == 1
    assert descendants and not psutil.wait_procs(descendants, timeout=5)[1]
