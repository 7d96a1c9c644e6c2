"""What the tests of several ranks run in each: `python -m tests.ranked DEVICES FOLDER [MODEL] [STEP]`.

Three epochs on the digits, evaluation of a split of awkward size, and cached logits; the first rank writes them. At
STEP of training the last rank dies.
"""

import os
import signal
from pathlib import Path

import numpy as np
import torch

from pipeline.images import sources
from pipeline.logits import caching
from pipeline.logits.caching import Labeller
from pipeline.project import errors
from pipeline.project.data import Info, Split
from pipeline.scoring import metrics
from pipeline.training import models, ranks
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.inference import predict
from pipeline.training.loop import Lesson, Trainer
from pipeline.training.losses import label_loss
from tests import toys

PLAIN = toys.architecture(model="test_nfnet", kwargs={})  # without BatchNorm
ARCHITECTURES = {"plain": PLAIN, "frozen": PLAIN, "normalised": toys.ARCHITECTURE, "tiny": toys.ARCHITECTURE}
SETTINGS = toys.training(epochs=3, batch_size=50, lr=1e-3)


def main(devices: str, folder: str, model: str = "plain", step: str = "-1") -> None:
    together, device = ranks.start(toys.compute(devices=int(devices)))
    digits, root = sources.load(toys.data_params(), Path(folder)), Path(folder)
    first = slice(0, 1 if model == "tiny" else 1003)
    train, val = (Split(digits.images[part], digits.labels[part]) for part in (first, slice(1003, 1502)))
    info = Info(digits.classes, 8, [0.3], [0.37], {})
    torch.manual_seed(0)
    net = models.build(ARCHITECTURES[model], info)
    steps, settings = 0, SETTINGS.model_copy(update={"freeze_epochs": int(model == "frozen")})

    def loss(logits: torch.Tensor, labels: torch.Tensor, *_: object) -> torch.Tensor:
        nonlocal steps
        if steps == int(step) and together.number == together.world - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1
        return label_loss(logits, labels)

    lesson = Lesson(train, train.labelled, toys.VIEWS, loss)
    trainer = Trainer(net, settings, lesson, device, seed=0, name="toy", ranks=together)
    trainer.fit(val, Checkpoint(root / ".toy.checkpoint", "toy", devices, {}, device))
    torch.manual_seed(1)
    fresh, caching.CHUNK = models.build(ARCHITECTURES[model], info), 100
    labeller = Labeller([fresh], device, 0)
    caching.cache(root / "cached.npy", labeller, train, toys.VIEWS, top_k=None, name="toy", ranks=together)
    logits = predict(fresh, val.images, device, exact=True, ranks=together)
    if together.first:
        models.save(net, root / "weights.safetensors")
        np.savez(root / "evaluated.npz", logits=logits, **metrics.scores(logits, val.labels))


if __name__ == "__main__":
    errors.run(main)
