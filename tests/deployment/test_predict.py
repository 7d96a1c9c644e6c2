"""Serving with ONNX Runtime alone, on what a user may hand in."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.deployment import export, latency
from pipeline.deployment import predict as prediction
from pipeline.deployment.service import Predictor
from pipeline.images import decoding
from pipeline.images.decoding import Reading
from pipeline.project.data import Info
from pipeline.project.errors import PipelineError
from tests import toys
from tests.conftest import CHECKOUT

CLASSES = ["dark one", "bright, one"]


@pytest.fixture(scope="module", params=[1, 3])
def model(request, tmp_path_factory):
    channels = request.param
    info = Info(CLASSES, 8, [0.4] * channels, [0.2] * channels, {})
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    export.to_onnx(toys.classifier(info=info), path)
    return path


def predict(*words, **options):
    blocked = "import sys; sys.modules['torch'] = sys.modules['timm'] = None; import runpy; "
    run = f"{blocked} sys.argv[0] = 'predict'; runpy.run_module('pipeline.deployment.predict', run_name='__main__')"
    command = [sys.executable, "-c", run, *map(str, words)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, **options)


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (20, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    if mode == "I;16":
        Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "mode"),
    [("x.png", "RGB"), ("x.jpg", "RGB"), ("x.png", "L"), ("x.png", "RGBA"), ("x.png", "I;16"), ("x.gif", "P")],
)
def test_every_kind_of_image_gets_the_class_and_probability_of_the_model(model, tmp_path, name, mode):
    path = picture(tmp_path / name, mode)
    predictor = Predictor(model)
    ((named, label, probability),) = prediction.predict(predictor, [path])
    logits = latency.onnx_logits(model, decoding.decode(path, predictor.reading).pixels[None])[0].astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum()
    assert (named, label) == (path, CLASSES[expected.argmax()])
    assert probability == pytest.approx(expected.max(), abs=1e-5)


def test_the_command_prints_a_line_an_image_without_torch(model, tmp_path):
    result = predict(picture(tmp_path / "a.png"), picture(tmp_path / "b.jpg"), "--model", model)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [Path(line.split("  ")[0]).name for line in lines] == ["a.png", "b.jpg"]
    assert all(line.split("  ")[1] in CLASSES and 0.5 <= float(line.split("  ")[2]) <= 1 for line in lines)


def test_what_is_no_image_is_refused_and_the_rest_of_the_folder_is_answered(model, tmp_path):
    folder = tmp_path / "folder"
    for number in range(70):
        picture(folder / f"deep/{number}.png")
    (folder / "text.png").write_text("no image")
    whole = picture(folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / ".DS_Store").write_text("left alone")
    result = predict(folder, "--model", model, "--csv", tmp_path / "out.csv")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "text.png can't be read" in result.stderr and "cut.jpg can't be read" in result.stderr
    assert result.stderr.strip().endswith("2 of 72 images could not be read.")
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 70 and set(rows[0]) == {"path", "class", "probability"}
    assert {row["class"] for row in rows} <= set(CLASSES)


@pytest.mark.parametrize(
    ("name", "sentence"), [("empty", "holds no file"), ("missing.png", "does not exist"), ("..", "was not exported")]
)
def test_what_can_not_be_answered_is_a_sentence(model, tmp_path, name, sentence):
    (tmp_path / "empty").mkdir()
    if name == "..":
        import onnx

        stranger = onnx.load(model)
        del stranger.metadata_props[:]
        onnx.save(stranger, tmp_path / "stranger.onnx")
        result = predict(picture(tmp_path / "x.png"), "--model", tmp_path / "stranger.onnx")
    else:
        result = predict(tmp_path / name, "--model", model)
    assert result.returncode == 1 and result.stdout == ""
    assert sentence in result.stderr and "Traceback" not in result.stderr


def test_a_missing_model_is_a_sentence(tmp_path):
    result = predict(picture(tmp_path / "x.png"), "--model", tmp_path / "none.onnx")
    assert result.returncode == 1 and "none.onnx is missing" in result.stderr


def test_an_image_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PipelineError, match=r"has more pixels than"):
        decoding.decode(picture(tmp_path / "x.png"), Reading(8, "L"))


def test_what_is_transparent_has_the_background_of_training(tmp_path):
    info = Info(CLASSES, 8, [0.4] * 3, [0.2] * 3, {}, background="#0000ff", bits=12)
    export.to_onnx(toys.classifier(info=info), tmp_path / "model.onnx")
    predictor = Predictor(tmp_path / "model.onnx")
    Image.new("RGBA", (9, 9), (1, 2, 3, 0)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((9, 9), 0x123, np.uint16)).save(tmp_path / "deep.png")
    assert (predictor.decode(tmp_path / "clear.png") == [0, 0, 255]).all()
    assert (predictor.decode(tmp_path / "deep.png") == 0x12).all()


def test_a_link_to_a_folder_is_refused_as_prepare_refuses_it(model, tmp_path):
    picture(tmp_path / "elsewhere/x.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link").symlink_to(tmp_path / "elsewhere")
    result = predict(tmp_path / "folder", "--model", model)
    assert result.returncode == 1 and "is a link to a folder" in result.stderr


def test_the_model_that_ships_is_found_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    words = [sys.executable, "-m", "pipeline.deployment.predict", "--help"]
    said = subprocess.run(words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, capture_output=True)
    assert str(CHECKOUT / "models/deployed.onnx") in said.stdout.decode()
