"""What ImageNet-1k would take: `python -m benchmarks.scale`, three minutes, anywhere without a download.

Disk is arithmetic on the formats of this pipeline. Hours follow from how many images a second this machine's device
takes, measured with the models of profiles/imagenet-pretrained.yaml at random weights, and for two other rates.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks import fixed, page, setting
from pipeline.logits import topk
from pipeline.project import errors
from pipeline.project.data import Info, Split
from pipeline.training import models
from pipeline.training.inference import precision, predict
from pipeline.training.views import render

IMAGES, CLASSES, SIDE = 1_281_167, 1000, 224  # of ImageNet-1k's training split
COUNTS, TOP_K, DEVICES, EPOCHS = (8, 90, 300), 10, (1, 8, 64), 90
TEACHERS = {"resnet18": "auto", "mobilenetv3_small_100": "fp32", "efficientnet_b0": "fp32", "resnet50": "auto"}
STUDENT, SLOWEST = "mobilenetv3_small_100", "resnet50"
VIEWS, RENDERED, ASKED, TRAINED = "views", "rendered by a core", "asked", "trained"
RATES = (1_000, 8_000)  # images a second of one device
BATCH, SECONDS = 32, 20
PAGE = Path(__file__).parents[1] / "docs/scale.md"


def main() -> None:
    measured = rates()
    page.publish("disk", disk(), [], PAGE)
    text = measured.map(lambda rate: "" if np.isnan(rate) else f"{rate:,.0f}")
    page.publish("rates", text.reset_index(names="images/s at 224 pixels"), [], PAGE)
    page.publish("hours", hours(measured), [], PAGE)


def disk() -> pd.DataFrame:
    """Gigabytes of logits, by the number of views."""
    rows = {"all classes, float16": None, f"the {TOP_K} largest and the rest's mass": TOP_K}
    sizes = {name: _bytes_a_row(k) for name, k in rows.items()}
    return pd.DataFrame(
        [
            {"logits of one teacher": name, "bytes a view": size}
            | {f"{views} views": f"{views * IMAGES * size / 1e9:,.1f} GB" for views in COUNTS}
            for name, size in sizes.items()
        ]
    )


def _bytes_a_row(top_k: int | None) -> int:
    dtype, shape = topk.row_type(CLASSES, top_k)
    return dtype.itemsize * int(np.prod(shape))


def rates() -> pd.DataFrame:
    """Images a second of this device, by what is done with them; NaN where this pipeline never does it."""
    settings, device = setting.start()
    info = Info([str(label) for label in range(CLASSES)], SIDE, [0.5] * 3, [0.3] * 3, {})
    split = Split(np.zeros((BATCH, SIDE, SIDE, 3), np.uint8), np.zeros(BATCH, np.int64))
    views = setting.views(settings)
    rows = {VIEWS: {RENDERED: _rate(lambda: render(split, np.arange(BATCH), 0, views, SIDE), device)}}
    for name, computes_in in TEACHERS.items():
        model = models.build(fixed.architecture(model=name, precision=computes_in), info).to(device)
        rows[name] = {ASKED: _rate(lambda net=model: _ask(net, device), device)}
        if name == STUDENT:
            rows[name][TRAINED] = _rate(lambda net=model: _train(net, device), device)
    return pd.DataFrame(rows).T


def _ask(model: models.Classifier, device: torch.device) -> None:
    predict(model, np.zeros((BATCH, SIDE, SIDE, 3), np.uint8), device, exact=False)


def _train(model: models.Classifier, device: torch.device) -> None:
    """Gradients of a batch, without the optimizer's step."""
    model.train()
    images = torch.zeros(BATCH, SIDE, SIDE, 3, dtype=torch.uint8, device=device)
    with precision(model, device):
        loss = model(images).square().mean()
    model.zero_grad(set_to_none=True)
    loss.backward()


def _rate(step: Callable[[], None], device: torch.device) -> int:
    """Images a second, three digits."""
    step()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        steps += 1
    return int(float(f"{steps * BATCH / (time.perf_counter() - began):.3g}"))


def hours(measured: pd.DataFrame) -> pd.DataFrame:
    """For caching one teacher and for training one student, by the rate of one device and the number of devices."""
    work = {f"{SLOWEST} caches {views} views": (views, measured.loc[SLOWEST, ASKED]) for views in COUNTS}
    work |= {f"{STUDENT}, {EPOCHS} epochs": (EPOCHS, measured.loc[STUDENT, TRAINED])}
    return pd.DataFrame(
        [
            {"work": name, "images/s of a device": f"{rate:,.0f}{', this one' if rate == own else ''}"}
            | {f"{count} devices": f"{float(f'{passes * IMAGES / rate / count / 3600:.2g}'):,g} h" for count in DEVICES}
            for name, (passes, own) in work.items()
            for rate in (own, *RATES)
        ]
    ).rename(columns={"1 devices": "1 device"})


if __name__ == "__main__":
    errors.run(main)
