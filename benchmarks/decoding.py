"""Image files to prepared arrays, against torchvision's ImageFolder in a DataLoader: `python -m benchmarks.decoding`.

5,000 JPEGs of 500 x 375, three minutes on two cores. Ours decodes and resizes them into a mapped file; `prepare` also
splits them, counts their values, finds duplicates and writes arrays with checksums. torchvision's makes batches with
the same filter. A share of cores is the processor time of all processes by the cores' own.
"""

import os
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from tqdm import tqdm

from benchmarks import page
from benchmarks.page import Figure
from benchmarks.timing import alternate, ratio, watched
from pipeline import params
from pipeline.images import sources, splits
from pipeline.params import Data
from pipeline.project import data, errors

IMAGES, CLASSES, SIZE, WIDTH, HEIGHT = 5000, 10, 224, 500, 375
WORKERS, BATCH, ROUNDS = (0, 1, 2, 4, 8), 64, 3
BICUBIC = transforms.InterpolationMode.BICUBIC  # as pipeline.images.decoding
OURS, WHOLE = "decode and resize", "prepare, all of it"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, busy = Path(folder), defaultdict(list)
        (root / "none").mkdir()
        write_images(root / "images")
        asked = params.load().data.model_copy(
            update={"source": "image_folder", "path": str(root / "images"), "unlabelled": str(root / "none"),
                    "image_size": SIZE, "mode": "auto", "train_samples": None, "unlabelled_samples": 0}
        )  # fmt: skip
        cases = {OURS: lambda: sources.load(asked, root / "raw"), WHOLE: lambda: prepare(asked, root)}
        for workers in WORKERS:
            cases[f"torchvision, {workers} workers"] = lambda workers=workers: load(root / "images", workers)
        timed = {name: watched(call, busy[name]) for name, call in cases.items()}
        seconds = alternate(timed, ROUNDS)
    cores = len(os.sched_getaffinity(0))
    shares = {name: float(np.median(each)) / cores for name, each in busy.items()}
    best = min((name for name in cases if name not in (OURS, WHOLE)), key=lambda name: np.median(seconds[name]))
    table = pd.DataFrame(
        {
            "reader": list(cases),
            "seconds": [f"{np.median(seconds[name]):.1f}" for name in cases],
            "images/s": [f"{IMAGES / np.median(seconds[name]):,.0f}" for name in cases],
            "cores busy": [f"{100 * shares[name]:.0f} %" for name in cases],
        }
    )
    page.publish("decoding", table, [
        Figure(f"{OURS} / torchvision with its best number of workers, seconds", ratio(seconds, OURS, best), 1),
        Figure(f"{OURS}, share of cores busy", shares[OURS], 0.9, at_least=True),
    ])  # fmt: skip


def write_images(folder: Path) -> None:
    """As hard to decode as photographs: colours that change slowly, and a little detail."""
    random = np.random.default_rng(0)
    for number in tqdm(range(IMAGES), "writing images", leave=False, disable=None):
        path = folder / str(number % CLASSES) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        layers = [
            Image.fromarray(random.integers(0, 256, (*side, 3), np.uint8)).resize((WIDTH, HEIGHT))
            for side in ((6, 8), (48, 64))
        ]
        Image.blend(*layers, alpha=0.25).save(path, quality=90)


def prepare(asked: Data, root: Path) -> None:
    """What the stage does with the images."""
    source = sources.load(asked, root / "raw")
    positions, labels = splits.split(source, asked, 0)
    data.save(source.images, labels, source.classes, positions, root / "prepared")


def load(folder: Path, workers: int) -> int:
    """How many images a DataLoader makes."""
    transform = transforms.Compose(
        [transforms.Resize(SIZE, BICUBIC), transforms.CenterCrop(SIZE), transforms.PILToTensor()]
    )  # fmt: skip
    images = ImageFolder(str(folder), transform)
    return sum(len(labels) for _, labels in DataLoader(images, BATCH, num_workers=workers))


if __name__ == "__main__":
    errors.run(main)
