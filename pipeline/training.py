"""The one training loop: teachers, the control arm and students all go through it."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from pipeline import metrics
from pipeline.data import Split
from pipeline.errors import PipelineError
from pipeline.models import Classifier
from pipeline.params import Augmentation, Training
from pipeline.randomness import derive
from pipeline.views import render

EVALUATION_BATCH = 500

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(logits, labels, soft targets or None) to a scalar."""


@dataclass(frozen=True)
class Looks:
    """Which augmented looks training sees: epoch e sees look e modulo `count`, or a fresh one where that is None."""

    spec: Augmentation
    seed: int
    count: int | None

    def view(self, epoch: int) -> int:
        return epoch if self.count is None else epoch % self.count


@dataclass(frozen=True)
class Trained:
    """What training leaves besides the weights: a row an epoch, val's final scores, and what it cost."""

    curve: list[dict[str, float]]
    scores: dict[str, float]
    cost: dict[str, float]


def fit(
    model: Classifier,
    train: Split,
    val: Split,
    settings: Training,
    looks: Looks,
    loss: Loss,
    *,
    device: torch.device,
    seed: int,
    name: str,
    targets: np.ndarray | None = None,
) -> Trained:
    """Train `model` in place with AdamW (Loshchilov and Hutter 2019) under a one-cycle rate (Smith and Topin 2019).

    Args:
        targets: (looks, samples, classes) soft targets of exactly the looks that are trained on, or None.
        seed: of the order of samples; equal seeds give equal batches whatever the loss.
    Raises:
        PipelineError: the loss is no longer finite.
    """
    model.to(device)
    torch.manual_seed(derive(seed, "dropout"))
    steps = -(-len(train) // settings.batch_size)
    optimizer = torch.optim.AdamW(_decayed_groups(model, settings.weight_decay), lr=settings.lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, settings.epochs * steps, pct_start=0.2)
    order = np.random.default_rng(derive(seed, "order"))
    curve, started = [], time.perf_counter()
    for epoch in range(settings.epochs):
        model.train()
        view, total, began = looks.view(epoch), torch.zeros((), device=device), time.perf_counter()
        batches = np.array_split(order.permutation(len(train)), steps)
        for ids in tqdm(batches, f"{name} {epoch + 1}/{settings.epochs}", leave=False, disable=None):
            pixels = render(train.images[ids], ids, view, looks.seed, looks.spec)
            images = torch.from_numpy(pixels).to(device)
            labels = torch.from_numpy(train.labels[ids]).to(device)
            soft = None if targets is None else torch.from_numpy(targets[view, ids].astype(np.float32)).to(device)
            with _precision(model, device):
                logits = model(images)
            batch_loss = loss(logits, labels, soft)
            optimizer.zero_grad(set_to_none=True)
            batch_loss.backward()
            optimizer.step()
            schedule.step()
            total += batch_loss.detach() * len(ids)
        mean_loss = float(total) / len(train)
        if not np.isfinite(mean_loss):
            raise PipelineError(
                f"Training of `{name}` diverged in epoch {epoch + 1}: the loss is {mean_loss}; "
                f"lower its `lr` (now {settings.lr}) in params.yaml."
            )
        rate, last = len(train) / (time.perf_counter() - began), epoch + 1 == settings.epochs
        scores = metrics.scores(predict(model, val.images, device, exact=last), val.labels)
        curve.append({"epoch": epoch + 1, "train_loss": mean_loss, **{f"val_{k}": v for k, v in scores.items()}})
        _say(f"{name} epoch {epoch + 1}/{settings.epochs}: loss {mean_loss:.4f}, "
             f"val accuracy {100 * scores['accuracy']:.2f} %, {rate:.0f} images/s")  # fmt: skip
    model.eval()
    cost = {"seconds": time.perf_counter() - started, "images": float(settings.epochs * len(train))}
    return Trained(curve, scores, cost)


@torch.inference_mode()
def predict(model: Classifier, images: np.ndarray, device: torch.device, *, exact: bool) -> np.ndarray:
    """(samples, classes) float32 logits of clean images in eval mode, in fp32 where `exact`, as the exported model."""
    model.eval().to(device)
    logits = []
    for start in range(0, len(images), EVALUATION_BATCH):
        batch = torch.from_numpy(np.array(images[start : start + EVALUATION_BATCH])).to(device)
        with _precision(model, device, exact):
            logits.append(model(batch).cpu().numpy())
    return np.concatenate(logits)


def _precision(model: Classifier, device: torch.device, exact: bool = False) -> torch.autocast:
    bf16 = model.architecture.precision == "bf16" and not exact
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def _decayed_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay on matrices and kernels, none on biases and normalisation."""
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
