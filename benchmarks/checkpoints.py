"""What a checkpoint costs, as a share of the interval at which it is written: `python -m benchmarks.checkpoints`."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks import page
from benchmarks.page import Figure
from benchmarks.setting import INFO
from benchmarks.timing import alternate
from pipeline import params
from pipeline.params import Training
from pipeline.project import errors
from pipeline.training import checkpoint, devices, models
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.loop import adamw

ROUNDS = 15


def main() -> None:
    settings = params.load()
    device = devices.device(settings.compute)
    trained = {**settings.teachers, "student": settings.student}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        place = Path(folder)
        saves = {name: _save(place / name, name, architecture, device) for name, architecture in trained.items()}
        seconds = {name: float(np.median(taken)) for name, taken in alternate(saves, ROUNDS).items()}
        sizes = {name: (place / name).stat().st_size / 1e6 for name in trained}
    interval = checkpoint.INTERVAL
    rows = [(name, f"{sizes[name]:.1f} MB", f"{1000 * seconds[name]:.0f} ms", f"{seconds[name] / interval:.3%}")
            for name in trained]  # fmt: skip
    table = pd.DataFrame(rows, columns=["model", "checkpoint", "to write", f"of {interval:.0f} s"])
    worst = max(seconds.values()) / interval
    page.publish("checkpoints", table, [Figure("checkpoints, share of training time", worst, 0.02)])


def _save(path: Path, name: str, architecture: Training, device: torch.device) -> partial:
    """A function that writes the state of a training after its first step."""
    model = models.build(architecture, INFO).to(device).train()
    optimizer = adamw(model, architecture)
    side = INFO.image_size
    model(torch.zeros(2, side, side, 1, dtype=torch.uint8, device=device)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    return partial(Checkpoint(path, name, {}, {}, device).save, state)


if __name__ == "__main__":
    errors.run(main)
