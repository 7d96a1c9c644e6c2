import sys

import numpy as np
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
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["images_per_second"] > 0 and row["load_ms"] > 0 and row["spread"] >= 0
        assert row["p50_ms_all_cores"] > 0 and row["images_per_second_all_cores"] > 0


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
