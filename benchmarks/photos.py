"""Views of photographs against torchvision's transforms: `python -m benchmarks.photos`, three minutes on two cores.

Images of 256 pixels in memory become views of 224 by the preset `photo`, or by transforms of torchvision's v2 of the
same strengths. A rate per core is images by processor time, of all processes.
"""

from collections import defaultdict

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks import page
from benchmarks.page import Figure
from benchmarks.timing import alternate, watched
from pipeline import params
from pipeline.project import errors
from pipeline.project.data import Split
from pipeline.training.views import PRESETS, Views, render

IMAGES, STORED, SIZE, BATCH, ROUNDS = 1024, 256, 224, 64, 3
WORKERS = (0, 1, 2)
OURS, BARE = "ours", "torchvision, a loop without a loader"
TURNS = {"": PRESETS["photo"]["hue"], ", no hue": 0.0}  # torchvision's hue, by way of HSV, is most of its time


class Photos(Dataset):
    """torchvision's transforms of stored images, whose channels come last in memory, as most of them like it."""

    def __init__(self, images: np.ndarray, hue: float) -> None:
        preset = PRESETS["photo"]
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2)
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(SIZE, scale=(preset["crop"], 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(*[preset["jitter"]] * 3, hue),
                v2.RandomGrayscale(preset["gray"]),
                v2.RandomErasing(preset["erase"]),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(self.images[index])


def main() -> None:
    torch.set_num_threads(1)
    images, busy = photographs(IMAGES), defaultdict(list)
    split = Split(images, np.zeros(IMAGES, np.int64), np.ones(IMAGES, np.float32))
    seen = Views.fresh(params.load().views.model_copy(update={"preset": "photo", "flip": None}), 0)
    cases = {OURS: lambda: ours(split, seen)}
    for words, hue in TURNS.items():
        theirs = Photos(images, hue)
        cases[BARE + words] = lambda theirs=theirs: [theirs[index] for index in range(IMAGES)]
        for workers in WORKERS:
            name = f"torchvision, {workers} workers{words}"
            cases[name] = lambda theirs=theirs, workers=workers: [None for _ in loader(theirs, workers)]
    seconds = alternate({name: watched(call, busy[name]) for name, call in cases.items()}, ROUNDS)
    spent = {name: np.array(busy[name][1:]) * seconds[name] for name in cases}  # of processors
    table = pd.DataFrame(
        {
            "views": list(cases),
            "images/s": [f"{IMAGES / np.median(seconds[name]):,.0f}" for name in cases],
            "cores busy": [f"{np.median(busy[name][1:]):.2f}" for name in cases],
            "images/s of a core": [f"{IMAGES / np.median(spent[name]):,.0f}" for name in cases],
        }
    )
    figures = []
    for words in TURNS:
        theirs = [name for name in cases if name.startswith("torchvision") and name.endswith("no hue") == bool(words)]
        best = min(theirs, key=lambda name: np.median(spent[name]))
        ratio = float(np.median(spent[best] / spent[OURS]))
        figures.append(Figure(f"ours / torchvision's best{words}, images/s of a core", ratio, 1.5, at_least=True))
    page.publish("photos", table, figures)


def photographs(count: int) -> np.ndarray:
    """(count, STORED, STORED, 3) uint8: colours that change slowly, and a little detail."""
    random, images = np.random.default_rng(0), np.empty((count, STORED, STORED, 3), np.uint8)
    for image in images:
        layers = [Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).resize((STORED, STORED))
                  for side in (8, 64)]  # fmt: skip
        image[:] = np.asarray(Image.blend(*layers, alpha=0.25))
    return images


def ours(split: Split, seen: Views) -> None:
    for ids in np.random.default_rng(0).permutation(len(split)).reshape(-1, BATCH):
        render(split, ids, 0, seen, SIZE)


def loader(images: Photos, workers: int) -> DataLoader:
    return DataLoader(images, BATCH, shuffle=True, num_workers=workers)


if __name__ == "__main__":
    errors.run(main)
