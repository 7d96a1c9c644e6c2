"""The one training loop: teachers, the control arm and students all go through it."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from pipeline.params import Training
from pipeline.project import files
from pipeline.project.data import Split
from pipeline.project.errors import PipelineError
from pipeline.project.randomness import derive
from pipeline.scoring import metrics
from pipeline.training import devices
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.models import Classifier
from pipeline.training.prefetch import ahead
from pipeline.training.ranks import ALONE, Ranks
from pipeline.training.views import Looks, labels_of, render

EVALUATION_BATCH = {"cpu": 128, "cuda": 2048, "mps": 1024}  # on a CPU, what fits its cache is nearly twice as fast

WINDOW = 8192  # samples that are shuffled with one another

Loss = Callable[[Tensor, Tensor, Tensor | None, float], Tensor]
"""(logits, labels, soft targets or None, the share of training that is done) to a scalar."""

Targets = Callable[[int, np.ndarray], np.ndarray]
"""(view, ids) to (batch, classes) float32 teacher's logits of exactly those looks."""


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
    ranks: Ranks = ALONE,
    targets: Targets | None = None,
    ids: np.ndarray | None = None,
    compiled: bool = False,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train `model` in place with AdamW (Loshchilov and Hutter 2019) under a one-cycle rate (Smith and Topin 2019).

    For `freeze_epochs` epochs the head alone learns, and the rest stays as it is, statistics of batch norm included.
    With `layer_decay`, a layer has the rate of the next one times that (Howard and Ruder 2018, section 3.2).
    With `ema`, what is evaluated and left is the exponential moving average of the weights over steps.

    Args:
        seed: of the order of samples; equal seeds give equal batches whatever the loss and the number of ranks.
        ids: the samples of `train` that are learned from; None is all of them.
        ranks: which part of each batch is this process's.
        compiled: run the model through torch.compile.
        checkpoint: what an interrupted training of this model goes on from, to the same bytes.
    Raises:
        PipelineError: the loss is no longer finite, or a batch has fewer images than there are ranks.
    """
    model.to(device)
    torch.manual_seed(derive(seed, "dropout") + ranks.number)
    ids = np.arange(len(train), dtype=np.int32) if ids is None else ids
    steps = -(-len(ids) // settings.batch_size)
    if len(ids) // steps < ranks.world:
        raise PipelineError(
            f"`{name}` learns from {len(ids)} images in batches of {settings.batch_size}, too few to share out among "
            f"{ranks.world} devices; lower `compute.devices` or `compute.num_nodes`."
        )
    groups = decayed_groups(model, settings.weight_decay, settings.layer_decay)
    rates = [settings.lr * group.get("lr_scale", 1.0) for group in groups]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, settings.epochs * steps, pct_start=0.2)
    order = np.random.default_rng(derive(seed, "order"))
    engine = torch.compile(model) if compiled else model
    parts, averaged = {"model": model, "optimizer": optimizer, "schedule": schedule}, None
    if settings.ema:
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)
        parts["averaged"] = averaged
    state = checkpoint.load() if checkpoint else None
    if state:
        _restore(state, parts, device, ranks)
        _say(f"{name}: going on from step {state['step']} of epoch {state['epoch'] + 1}/{settings.epochs}", ranks)
    state = state or {"epoch": 0, "step": 0, "order": order.bit_generator.state, "curve": [], "total": torch.zeros(()),
                      "seconds": 0.0}  # fmt: skip
    order.bit_generator.state, curve, skipped = state["order"], state["curve"], state["step"]
    started = time.perf_counter() - state["seconds"]
    for epoch in range(state["epoch"], settings.epochs):
        model.train()
        if settings.freeze_epochs:
            freeze_body(model, epoch < settings.freeze_epochs)
        if epoch in (state["epoch"], settings.freeze_epochs):
            forward = ranks.wrap(engine)  # which shares the gradients of what learns from here on
        total, began = state["total"].to(device) if skipped else torch.zeros((), device=device), time.perf_counter()
        drawn = order.bit_generator.state
        batches = np.array_split(ids[shuffled(len(ids), order)], steps)[skipped:]
        prepared = (batch(train, chosen, looks, epoch, targets, len(model.info.classes), ranks)
                    for chosen in batches)  # fmt: skip
        bar = tqdm(
            ahead(prepared, device), f"{name} {epoch + 1}/{settings.epochs}", initial=skipped, total=steps,
            leave=False, disable=None if ranks.first else True,
        )  # fmt: skip
        for step, (images, labels, soft) in enumerate(bar, skipped):
            if checkpoint and ranks.of_first(checkpoint.due()):
                now = _state(parts, device, ranks) | {
                    "epoch": epoch, "step": step, "order": drawn, "curve": curve, "total": total.cpu(),
                    "seconds": time.perf_counter() - started,
                }  # fmt: skip
                if ranks.first:
                    checkpoint.save(now)
            images, labels = images.to(device), labels.to(device)
            with precision(model, device):
                logits = ranks.whole(forward(images), len(labels))
            progress = (epoch * steps + step) / (settings.epochs * steps)
            batch_loss = loss(logits, labels, None if soft is None else soft.to(device), progress)
            optimizer.zero_grad(set_to_none=True)
            (batch_loss * ranks.world if ranks.world > 1 else batch_loss).backward()  # their gradients are averaged
            optimizer.step()
            schedule.step()
            if averaged:
                averaged.update_parameters(model)
            total += batch_loss.detach() * len(labels)
        mean_loss = float(total) / len(ids)
        if not np.isfinite(mean_loss):
            raise PipelineError(
                f"Training of `{name}` diverged in epoch {epoch + 1}: the loss is {mean_loss}; "
                f"lower its `lr` (now {settings.lr}) in params.yaml."
            )
        rate = len(ids) * (1 - skipped / steps) / (time.perf_counter() - began)
        skipped, last = 0, epoch + 1 == settings.epochs
        evaluated = averaged.module if averaged else model
        ranks.agree_on(evaluated.buffers())
        scores = metrics.scores(predict(evaluated, val.images, device, exact=last, ranks=ranks), val.labels)
        curve.append({"epoch": epoch + 1, "train_loss": mean_loss, **{f"val_{k}": v for k, v in scores.items()}})
        _say(f"{name} epoch {epoch + 1}/{settings.epochs}: loss {mean_loss:.4f}, "
             f"val accuracy {100 * scores['accuracy']:.2f} %, {rate:.0f} images/s", ranks)  # fmt: skip
    if averaged:
        model.load_state_dict(averaged.module.state_dict())
    model.eval()
    cost = {"seconds": time.perf_counter() - started, "images": float(settings.epochs * len(ids))}
    return Trained(curve, scores, cost)


def _state(parts: dict[str, Any], device: torch.device, ranks: Ranks) -> dict[str, Any]:
    """All that the next step depends on, but for the order of samples."""
    random = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(device)
    return {name: part.state_dict() for name, part in parts.items()} | {"random": ranks.all(random)}


def _restore(state: dict[str, Any], parts: dict[str, Any], device: torch.device, ranks: Ranks) -> None:
    for name, part in parts.items():
        part.load_state_dict(state[name])
    random = state["random"][ranks.number]
    torch.set_rng_state(random["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(random["cuda"], device)


def shuffled(samples: int, random: np.random.Generator) -> np.ndarray:
    """(samples,) an epoch's order: slices of neighbours, cut and ordered anew each time, each shuffled within.

    So an epoch reads the mapped files slice by slice, whatever their size. Who is whose neighbour, `prepare` has drawn.
    """
    order = np.roll(np.arange(samples, dtype=np.int32), random.integers(samples))
    slices = [order[start : start + WINDOW] for start in range(0, samples, WINDOW)]
    return np.concatenate([random.permutation(slices[number]) for number in random.permutation(len(slices))])


def batch(
    train: Split,
    ids: np.ndarray,
    looks: Looks,
    epoch: int,
    targets: Targets | None,
    classes: int,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """An epoch's looks at these samples, on the CPU: pixels of this rank's share, all labels, all soft targets."""
    view = looks.view(epoch)
    pixels = render(train.images, ranks.share(ids), view, looks.seed, looks.spec)
    labels = labels_of(train.labels, ids, view, looks.seed, looks.spec, train.images.shape[1], classes)
    soft = None if targets is None else torch.from_numpy(targets(view, ids))
    files.forget(train.images)
    return torch.from_numpy(pixels), torch.from_numpy(labels), soft


@torch.inference_mode()
def predict(
    model: Classifier, images: np.ndarray, device: torch.device, *, exact: bool, ranks: Ranks = ALONE
) -> np.ndarray:
    """(samples, classes) float32 logits of clean images in eval mode, in fp32 where `exact`, as the exported model.

    Ranks take whole batches in turn, so that the bits don't depend on how many there are.
    """
    model.eval().to(device)
    size = EVALUATION_BATCH[device.type]
    starts = range(0, len(images), size)
    logits = []
    for start in starts[ranks.number :: ranks.world]:
        batch = torch.from_numpy(np.array(images[start : start + size])).to(device)
        with precision(model, device, exact):
            logits.append(model(batch).cpu().numpy())
    found = ranks.all(logits)
    return np.concatenate([found[number % ranks.world][number // ranks.world] for number in range(len(starts))])


def precision(model: Classifier, device: torch.device, exact: bool = False) -> torch.autocast:
    """The model's own precision, `auto` being bf16 where the device computes in it; fp32 where `exact`."""
    wanted = model.architecture.precision
    bf16 = wanted == "bf16" or (wanted == "auto" and devices.computes_in_bf16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16 and not exact)


def freeze_body(model: Classifier, frozen: bool) -> None:
    """Keep all but the head from learning, or let it learn; a frozen body is in eval mode."""
    head = model.net.get_classifier()
    model.requires_grad_(not frozen)
    model.train(not frozen)
    head.requires_grad_(True)
    head.train()


def decayed_groups(model: Classifier, weight_decay: float, layer_decay: float = 1.0) -> list[dict]:
    """Weight decay on matrices and kernels, none on biases and normalisation; `lr_scale` is of a layer's rate."""
    if layer_decay < 1:
        from timm.optim import param_groups_layer_decay

        return param_groups_layer_decay(model.net, weight_decay, layer_decay=layer_decay)
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _say(line: str, ranks: Ranks) -> None:
    if not ranks.first:
        return
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
