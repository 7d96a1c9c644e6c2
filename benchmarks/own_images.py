"""Own images from a clone to the first table, and a folder of 100,000: `python -m benchmarks.own_images`, 20 minutes.

Commands run in clones of the last commit, with the packages of this environment.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from benchmarks import page, scratch
from benchmarks.page import Figure
from benchmarks.timing import seconds_of
from pipeline import params
from pipeline.project import errors, paths

IMAGES, CLASSES, SIDES = 2000, 4, (240, 360)
MANY = 100_000
PAGE = Path(__file__).parents[1] / "docs/own-images.md"
PROFILE = "profiles/own.yaml"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, photos = Path(folder) / "project", Path(folder) / "photos"
        write_photos(photos)
        seconds = {
            "git clone": seconds_of(lambda: _clone(root)),
            "make import": seconds_of(lambda: _make(root, "import", f"FROM={photos}")),
            "make repro": seconds_of(lambda: _make(root, "repro", f"PROFILE={PROFILE}")),
        }
        first = pd.read_csv(root / paths.BENCHMARK_CSV).set_index("method")["accuracy"]
    with tempfile.TemporaryDirectory() as folder:
        status = added_to_many(Path(folder) / "project")
    rows = {**seconds, f"dvc status, nothing added to {MANY:,}": status[0], "the same, one file added": status[1]}
    table = pd.DataFrame({"command": list(rows), "seconds": [f"{value:,.1f}" for value in rows.values()]})
    print(first.to_string())
    page.publish("own_images", table, [
        Figure("own images, clone to first table, minutes", sum(seconds.values()) / 60, 30),
        Figure(f"dvc status after one file of {MANY:,} was added, seconds", status[1], 20),
    ], PAGE)  # fmt: skip


def write_photos(folder: Path) -> None:
    """Stripes of a direction for each class over colours that change slowly, as hard to decode as photographs."""
    random = np.random.default_rng(0)
    for number in tqdm(range(IMAGES), "writing images", leave=False, disable=None):
        label, (width, height) = number % CLASSES, random.integers(*SIDES, 2)
        layers = [
            np.asarray(Image.fromarray(random.integers(0, 256, (*side, 3), np.uint8)).resize((width, height)), float)
            for side in ((6, 8), (48, 64))
        ]
        angle = np.pi * (label + random.normal(0, 0.25)) / CLASSES
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) / random.uniform(4, 8) + random.uniform(0, 6))
        pixels = 0.6 * layers[0] + 0.25 * layers[1] + 35 * wave[..., None]
        path = folder / f"class_{label}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def added_to_many(root: Path) -> tuple[float, float]:
    """Seconds of `dvc status` with that many images tracked and prepared, before and after one more comes."""
    _clone(root)
    random = np.random.default_rng(0)
    for number in tqdm(range(MANY), "writing small images", leave=False, disable=None):
        path = root / f"data/images/class_{number % CLASSES}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    scratch.run(root, "dvc", "add", "-q", "data/images")
    profile = (root / "profiles/smoke.yaml").read_text(encoding="utf-8")
    own = profile.replace("source: digits, path: data/none/images", "source: image_folder, path: data/images")
    (root / paths.PARAMS).write_text(own, encoding="utf-8")
    assert params.load(root / paths.PARAMS).data.path == "data/images"  # noqa: S101
    scratch.run(root, "dvc", "repro", "prepare")
    before = seconds_of(lambda: scratch.run(root, "dvc", "status"))
    Image.new("RGB", (8, 8)).save(root / "data/images/class_0/new.png")
    return before, seconds_of(lambda: scratch.run(root, "dvc", "status"))


def _clone(root: Path) -> None:
    subprocess.run(["git", "clone", "-q", ".", str(root)], check=True)


def _make(root: Path, *words: str) -> None:
    """A target, without installing what is installed."""
    Path(sys.prefix, ".installed").touch()
    subprocess.run(
        ["make", "-o", "requirements.txt", f"VENV={sys.prefix}", *words],
        cwd=root,
        check=True,
        env={key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_", "MAKE"))},
    )


if __name__ == "__main__":
    errors.run(main)
