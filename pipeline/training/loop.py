"""The one training loop: teachers, the baseline and taught students all go through it."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from pipeline.params import Training
from pipeline.project import files
from pipeline.project.data import Info, Split
from pipeline.project.errors import PipelineError
from pipeline.project.randomness import derive
from pipeline.scoring import metrics
from pipeline.training import models
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.inference import precision, predict
from pipeline.training.models import Classifier
from pipeline.training.prefetch import ahead
from pipeline.training.ranks import ALONE, Ranks
from pipeline.training.views import CPU, Views, mixed_labels, render

WINDOW = 8192  # samples that are shuffled with one another

Loss = Callable[[Tensor, Tensor, Tensor | None, float], Tensor]
"""(logits, labels, soft targets or None, the share of training that is done) to a scalar."""

Targets = Callable[[int, np.ndarray], np.ndarray]
"""(view, ids) to (batch, classes) float32 teacher's logits of exactly those views."""

Batch = tuple[Tensor, Tensor, Tensor | None]
"""Pixels of this rank's share, all labels, all soft targets."""


@dataclass(frozen=True)
class Lesson:
    """What a model learns from: samples of a split, in which views, by which loss.

    ids: (samples,) the positions in the split. targets: a teacher's logits of the same views, if there is a teacher.
    """

    train: Split
    ids: np.ndarray
    views: Views
    loss: Loss
    targets: Targets | None = None

    def batch(self, ids: np.ndarray, epoch: int, info: Info, device: torch.device = CPU, ranks: Ranks = ALONE) -> Batch:
        """An epoch's views of these samples, the pixels on the device. info: of the model that is to see them."""
        view, size = self.views.number(epoch), info.image_size
        pixels = render(self.train, ranks.share(ids), view, self.views, size, device)
        labels = mixed_labels(self.train.labels, ids, view, self.views, size, len(info.classes))
        soft = None if self.targets is None else torch.from_numpy(self.targets(view, ids))
        files.forget(self.train.images)
        return pixels, torch.from_numpy(labels), soft


@dataclass(frozen=True)
class Trained:
    """What training leaves besides the weights: a row an epoch, val's final scores, and what it cost.

    answers: (samples,) the class that the model answers for each image of val.
    """

    curve: list[dict[str, float]]
    scores: dict[str, float]
    cost: dict[str, float]
    answers: np.ndarray


@dataclass
class Progress:
    """How far training is. order: of the epoch's samples, before they were drawn. total: of the epoch's losses."""

    order: dict[str, Any]
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    total: Tensor | None = None


class Trainer:
    """A model on its way: its optimiser, its learning rate, its lesson, and where it is.

    AdamW (Loshchilov and Hutter 2019) under a one-cycle rate (Smith and Topin 2019). For `freeze_epochs` epochs the
    head alone learns, and the rest stays as it is, statistics of batch norm included. With `layer_decay`, a layer has
    the rate of the next one times that (Howard and Ruder 2018, section 3.2). With `ema`, what is evaluated and left is
    the exponential moving average of the weights over steps.

    Args:
        seed: of the order of samples; equal seeds give equal batches whatever the loss and the number of ranks.
        ranks: which part of each batch is this process's.
    Raises:
        PipelineError: a batch has fewer images than there are ranks.
    """

    def __init__(
        self,
        model: Classifier,
        settings: Training,
        lesson: Lesson,
        device: torch.device,
        *,
        seed: int,
        name: str,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.settings, self.lesson = model.to(device), settings, lesson
        self.device, self.name, self.ranks = device, name, ranks
        torch.manual_seed(derive(seed, "dropout") + ranks.number)
        self.steps = -(-len(lesson.ids) // settings.batch_size)
        if len(lesson.ids) // self.steps < ranks.world:
            raise PipelineError(
                f"`{name}` learns from {len(lesson.ids)} images in batches of {settings.batch_size}, too few to share "
                f"out among {ranks.world} devices; lower `compute.devices` or `compute.num_nodes`."
            )
        self.optimizer = adamw(model, settings)
        rates = [settings.lr * group.get("lr_scale", 1.0) for group in self.optimizer.param_groups]
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, rates, settings.epochs * self.steps, pct_start=0.2
        )
        self.parts = {"model": model, "optimizer": self.optimizer, "schedule": self.schedule}
        self.averaged = None
        if settings.ema:
            self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)
            self.parts["averaged"] = self.averaged
        self.order = np.random.default_rng(derive(seed, "order"))
        self.forward = self.model
        self.progress, self.curve = Progress(self.order.bit_generator.state), []

    def fit(self, val: Split, checkpoint: Checkpoint | None = None, *, compiled: bool = False) -> Trained:
        """Train to the end.

        Args:
            checkpoint: what an interrupted training of this model goes on from, to the same bytes.
            compiled: run the model through torch.compile.
        Raises:
            PipelineError: the loss, the model or what it says of val is no longer finite.
        """
        if checkpoint and (state := checkpoint.load()):
            self._restore(state)
            at = f"step {self.progress.step} of epoch {self.progress.epoch + 1}/{self.settings.epochs}"
            self._say(f"{self.name}: going on from {at}")
        engine = torch.compile(self.model) if compiled else self.model
        first, started = self.progress.epoch, time.perf_counter() - self.progress.seconds
        for epoch in range(first, self.settings.epochs):
            self.model.train()
            if self.settings.freeze_epochs:
                freeze_body(self.model, epoch < self.settings.freeze_epochs)
            if epoch in (first, self.settings.freeze_epochs):
                self.forward = self.ranks.wrap(engine)  # which shares the gradients of what learns from here on
            loss, rate = self._epoch(epoch, started, checkpoint)
            answers = self._evaluate(epoch, val, loss, rate)
        if self.averaged:
            self.model.load_state_dict(self.averaged.module.state_dict())
        self.model.eval()
        scores = {key.removeprefix("val_"): value for key, value in self.curve[-1].items() if key.startswith("val_")}
        images = float(self.settings.epochs * len(self.lesson.ids))
        return Trained(self.curve, scores, {"seconds": time.perf_counter() - started, "images": images}, answers)

    def _epoch(self, epoch: int, started: float, checkpoint: Checkpoint | None) -> tuple[float, float]:
        """The mean loss, and images a second; an epoch that was begun goes on where it was."""
        skipped, samples, began = self.progress.step, len(self.lesson.ids), time.perf_counter()
        self.progress.order = self.order.bit_generator.state
        ids = self.lesson.ids[shuffled(samples, self.order)]
        total = self.progress.total.to(self.device) if skipped else torch.zeros((), device=self.device)
        for step, batch in enumerate(self._batches(np.array_split(ids, self.steps)[skipped:], epoch), skipped):
            if checkpoint and self.ranks.asks(step) and self.ranks.broadcast(checkpoint.due()):
                self.progress.epoch, self.progress.step, self.progress.total = epoch, step, total.cpu()
                self.progress.seconds = time.perf_counter() - started
                state = self._state()
                if self.ranks.first:
                    checkpoint.save(state)
            total += self.step(batch, (epoch * self.steps + step) / (self.settings.epochs * self.steps))
        self.progress.step = 0
        mean = float(total) / samples
        if not np.isfinite(mean):
            raise self._diverged(epoch, f"the loss is {mean}")
        return mean, samples * (1 - skipped / self.steps) / (time.perf_counter() - began)

    def _batches(self, chosen: list[np.ndarray], epoch: int) -> Iterator[Batch]:
        prepared = (self.lesson.batch(ids, epoch, self.model.info, self.device, self.ranks) for ids in chosen)
        return tqdm(
            ahead(prepared, self.device), f"{self.name} {epoch + 1}/{self.settings.epochs}", total=self.steps,
            initial=self.steps - len(chosen), leave=False, disable=None if self.ranks.first else True,
        )  # fmt: skip

    def step(self, batch: Batch, done: float) -> Tensor:
        """Learn from one batch; the sum of its losses. done: the share of training that is."""
        images, labels, soft = (part if part is None else part.to(self.device) for part in batch)
        with precision(self.model, self.device):
            logits = self.ranks.join(self.forward(images), len(labels))
        loss = self.lesson.loss(logits, labels, soft, done)
        self.optimizer.zero_grad(set_to_none=True)
        (loss * self.ranks.world if self.ranks.world > 1 else loss).backward()  # their gradients are averaged
        self.optimizer.step()
        self.schedule.step()
        if self.averaged:
            self.averaged.update_parameters(self.model)
        return loss.detach() * len(labels)

    def _evaluate(self, epoch: int, val: Split, loss: float, rate: float) -> np.ndarray:
        """Val's scores become a row of the curve; (samples,) answers for val."""
        last = epoch + 1 == self.settings.epochs
        evaluated = self.averaged.module if self.averaged else self.model
        self.ranks.agree_on(evaluated.buffers())
        for name, tensor in evaluated.state_dict().items():  # the last step's loss was computed before that step
            if not tensor.isfinite().all():
                raise self._diverged(epoch, f"`{name}` of the model is not finite")
        logits = predict(evaluated, val.images, self.device, exact=last, ranks=self.ranks)
        if not np.isfinite(logits).all():
            raise self._diverged(epoch, "what it says of val is not finite")
        scores = {f"val_{key}": value for key, value in metrics.scores(logits, val.labels).items()}
        self.curve.append({"epoch": epoch + 1, "train_loss": loss, **scores})
        self._say(f"{self.name} epoch {epoch + 1}/{self.settings.epochs}: loss {loss:.4f}, "
                  f"val accuracy {100 * scores['val_accuracy']:.2f} %, {rate:.0f} images/s")  # fmt: skip
        return logits.argmax(axis=1)

    def _diverged(self, epoch: int, sign: str) -> PipelineError:
        return PipelineError(
            f"Training of `{self.name}` diverged in epoch {epoch + 1}: {sign}; "
            f"lower its `lr` (now {self.settings.lr}) in params.yaml."
        )

    def _state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        return {"parts": parts, "random": self.ranks.gather(random), "curve": self.curve, "at": vars(self.progress)}

    def _restore(self, state: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        random = state["random"][self.ranks.number]
        torch.set_rng_state(random["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"], self.device)
        self.curve, self.progress = state["curve"], Progress(**state["at"])
        self.order.bit_generator.state = self.progress.order

    def _say(self, line: str) -> None:
        if self.ranks.first:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()


def shuffled(samples: int, random: np.random.Generator) -> np.ndarray:
    """(samples,) an epoch's order: slices of neighbours, cut and ordered anew each time, each shuffled within.

    So an epoch reads the mapped files slice by slice, whatever their size. Who is whose neighbour, `prepare` has drawn.
    """
    order = np.roll(np.arange(samples, dtype=np.int32), random.integers(samples))
    slices = [order[start : start + WINDOW] for start in range(0, samples, WINDOW)]
    return np.concatenate([random.permutation(slices[number]) for number in random.permutation(len(slices))])


def freeze_body(model: Classifier, frozen: bool) -> None:
    """Keep all but the head, or both heads, from learning, or let it learn; a frozen body is in eval mode."""
    model.requires_grad_(not frozen)
    model.train(not frozen)
    for head in models.heads(model):
        head.requires_grad_(True)
        head.train()


def adamw(model: Classifier, settings: Training) -> torch.optim.Optimizer:
    """Without weight decay on biases, normalisation, and what the model exempts; each group has its `lr_scale`."""
    from timm.optim import create_optimizer_v2

    layer_decay = settings.layer_decay if settings.layer_decay < 1 else None
    return create_optimizer_v2(model.net, "adamw", lr=settings.lr, weight_decay=settings.weight_decay,
                               layer_decay=layer_decay, fused=True)  # fmt: skip
