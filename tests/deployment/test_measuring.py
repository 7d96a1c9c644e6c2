import os
import signal
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pipeline.deployment import export, fusion, measuring, service
from pipeline.deployment.eager import Eager
from pipeline.deployment.latency import OnnxFile
from pipeline.deployment.measuring import Timing
from pipeline.deployment.service import Service
from pipeline.ensembles.ensemble import uniform
from pipeline.project import machine
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
    systems = {name: OnnxFile(files / f"{name}.onnx") for name in ("small", "big", "fused")}
    return measuring.measure(systems, toys.images(8), TIMING)


def test_every_system_has_every_figure(measured):
    for row in measured.values():
        assert 0 < row["p50_ms_low"] <= row["p50_ms"] <= row["p90_ms"] <= row["p95_ms"] and row["calls"] == 40
        assert row["images_per_second"] > 0 and row["load_ms"] > 0 and row["spread"] >= 0
        assert row["p50_ms_all_cores"] > 0 and row["images_per_second_all_cores"] > 0


def test_memory_is_that_of_one_image_and_that_of_the_largest_batch(monkeypatch):
    peak = [0]  # of a system that needs a kilobyte an image
    systems = {"x": lambda threads: lambda images: peak.append(max(peak[-1], 1000 * len(images)))}
    monkeypatch.setattr(machine, "peak_bytes", lambda: peak[-1])
    row = measuring.measure(systems, toys.images(64), Timing(1, {64: 1, 1: 1}, 0), apart=False)["x"]
    assert (row["memory_bytes"], row["memory_bytes_largest_batch"]) == (1000, 64_000)


def test_the_99th_percentile_needs_ten_calls_beyond_it():
    assert measuring.percentiles(np.arange(999.0))["p99_ms"] is None
    assert measuring.percentiles(np.arange(1001.0))["p99_ms"] == 990


def test_percentiles_say_of_how_many_calls_they_are_and_which_bound_these_do_not_give():
    row = measuring.percentiles(np.arange(20.0))
    assert (row["calls"], row["p50_ms"], row["p95_ms_low"], row["p95_ms_high"]) == (20, 9.5, 16, None)


def test_a_model_of_a_hundred_times_the_arithmetic_takes_longer_and_more_memory(measured):
    assert measured["big"]["p50_ms"] > measured["small"]["p50_ms"]
    assert measured["big"]["memory_bytes"] > measured["small"]["memory_bytes"] > 0
    assert measured["fused"]["memory_bytes"] > measured["small"]["memory_bytes"]


def test_many_systems_can_share_the_process_that_asks(files):
    systems = {"small": OnnxFile(files / "small.onnx"), "torch": Eager(toys.ARCHITECTURE, toys.INFO, toys.compute())}
    row = measuring.measure(systems, toys.images(8), Timing(1, {1: 20}, 2), apart=False)
    assert row["small"]["p50_ms"] > 0 and row["torch"]["p50_ms"] > 0 and "p50_ms_all_cores" not in row["small"]


def test_from_end_to_end_a_jpeg_becomes_the_class_of_its_pixels(files):
    image = np.full((8, 8, 1), 200, np.uint8)
    serve, encoded = Service(files / "small.onnx", service.jpeg(image)), service.jpeg(image)
    predictor = service.Predictor(files / "small.onnx")
    assert predictor.decode(BytesIO(encoded)) == pytest.approx(image, abs=2)
    with Image.open(BytesIO(encoded)) as opened:
        assert (opened.format, opened.size) == ("JPEG", service.SENT)
    answer = predictor.classes[predictor.log_probs(image[None]).argmax()]
    assert serve(1)(np.zeros((3, 8, 8, 1), np.uint8)) == [answer] * 3


def test_each_turn_is_one_call_of_a_batch_or_an_untimed_and_five_timed_ones_of_single_images():
    seen = []
    systems = {"x": lambda threads: lambda images: seen.append((threads, len(images)))}
    measuring.measure(systems, toys.images(8), Timing(1, {1: 20, 8: 4}, 5, all_cores=True), apart=False)
    expected = []
    for threads in (1, 0, 1, 0):  # two rounds, each first on one thread: a turn to warm up, and half of the calls
        expected += [(threads, 1)] * 6 * (1 + 2) + [(threads, 8)] * (1 + 2)
    assert seen == expected


def test_what_is_timed_singly_sees_one_image_on_its_threads_alone():
    seen = []
    systems = {
        "x": lambda threads: lambda images: None,
        "one": lambda threads: lambda images: seen.append((threads, len(images))),
    }
    timing = Timing(1, {1: 20, 8: 4}, 5, all_cores=True)
    rows = measuring.measure(systems, toys.images(8), timing, apart=False, singly=["one"])
    assert set(seen) == {(1, 1)} and len(seen) == 2 * 6 * (1 + 2)
    assert rows["x"].keys() - rows["one"].keys() == {"images_per_second", "memory_bytes_largest_batch",
                                                     "p50_ms_all_cores", "images_per_second_all_cores"}  # fmt: skip


def test_a_missing_file_is_a_sentence_from_whatever_process(tmp_path):
    with pytest.raises(PipelineError, match=r"none\.onnx is missing"):
        measuring.measure({"x": OnnxFile(tmp_path / "none.onnx")}, np.zeros((8, 8, 8, 1), np.uint8), TIMING)


def test_a_process_that_times_has_imported_nothing_of_the_script_that_started_it(tmp_path):
    (tmp_path / "probe.py").write_text(
        "import sys\n"
        "from pipeline.project.errors import PipelineError\n"
        "class Probe:\n"
        "    def __call__(self, threads):\n"
        "        raise PipelineError(str({'pandas', 'scipy', 'tqdm', 'onnxruntime'} & set(sys.modules)))\n"
    )
    (tmp_path / "script.py").write_text(
        "import numpy, pandas, scipy\n"
        "from pipeline.deployment import measuring\n"
        "from pipeline.project import errors\n"
        "from probe import Probe\n"
        "if __name__ == '__main__':\n"
        "    images = numpy.zeros((1, 8, 8, 1), numpy.uint8)\n"
        "    errors.run(lambda: measuring.measure({'x': Probe()}, images, measuring.Timing(1, {1: 1}, 0)))\n"
    )
    result = run(sys.executable, "-m", "script", cwd=tmp_path, PYTHONPATH=str(CHECKOUT))
    assert result.stderr == "error: {'onnxruntime'}\n"


def test_an_interrupt_ends_what_is_timed_without_a_word_of_its_own(tmp_path):
    """The first system says that calls have begun; a terminal sends the interrupt to all processes."""
    (tmp_path / "endless.py").write_text(
        "import os, time\n"
        "class Endless:\n"
        "    def __call__(self, threads):\n"
        "        os.write(1, b'begun')\n"
        "        return lambda images: time.sleep(60)\n"
    )
    (tmp_path / "script.py").write_text(
        "import numpy, signal\n"
        "from pipeline.deployment import measuring\n"
        "from pipeline.project import errors\n"
        "from endless import Endless\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    images = numpy.zeros((1, 8, 8, 1), numpy.uint8)\n"
        "    errors.run(lambda: measuring.measure({'x': Endless()}, images, measuring.Timing(1, {1: 1}, 0)))\n"
    )
    path = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen([sys.executable, "-m", "script"], cwd=tmp_path, env=path, start_new_session=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # fmt: skip
        assert os.read(process.stdout.fileno(), 5) == b"begun"
        os.killpg(process.pid, signal.SIGINT)
        said = process.stderr.read().decode()
    assert said.startswith("error: Interrupted") and said.count("\n") == 1
