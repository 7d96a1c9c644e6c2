"""How much of a step is arithmetic, and what the input pipeline can feed: `python -m benchmarks.loop`, two minutes."""

from collections.abc import Iterator

import pandas as pd
import torch

from benchmarks import online, page, setting
from benchmarks.page import Figure
from benchmarks.timing import alternate, ratio
from pipeline.project import errors
from pipeline.training.loop import Batch, Lesson
from pipeline.training.prefetch import ahead

SAMPLES, ROUNDS = 20_480, 11
FEW = 2560  # samples of a pass over a slow loader


def main() -> None:
    settings, device = setting.start()
    train, stepper = setting.noise(SAMPLES), setting.Stepper.of(settings, device)
    size = settings.student.batch_size
    soft = setting.taught(online.random_targets(settings.student_views.count, SAMPLES), settings)
    order = setting.batches(SAMPLES, size)
    lesson = Lesson(train, train.labelled, setting.views(settings), setting.loss_of(settings.distill), soft)
    trained, compiled = setting.Stepper.of(settings, device), setting.Stepper.of(settings, device)
    fixed = tuple(part.to(device) for part in lesson.batch(order[0], 0, setting.INFO))

    def prepared() -> Iterator[Batch]:
        return (lesson.batch(ids, 0, setting.INFO) for ids in order)

    def bare() -> None:
        for _ in order:
            stepper.step(*fixed)

    def threaded() -> None:
        for batch in ahead(prepared(), torch.device("cuda")):
            stepper.step(*batch)

    steps = alternate(
        {
            "bare step, one batch in memory": bare,
            "training loop": lambda: trained.train(train, taught_by=soft),
            "steps with a thread that prepares": threaded,
            "training loop, torch.compile": lambda: compiled.train(train, taught_by=soft, compiled=True),
        },
        ROUNDS,
    )
    in_memory, ours, *_ = steps
    few = setting.noise(FEW)
    loaders = {workers: online.loader(few, settings, workers) for workers in range(online.WORKERS + 1)}
    feeds = alternate(
        {
            "ours, alone": lambda: [None for _ in prepared()],
            **{f"torchvision, {count} workers": lambda of=of: [None for _ in of] for count, of in loaders.items()},
        },
        5,
    )
    rates = {name: (FEW if "torchvision" in name else SAMPLES) / seconds for name, seconds in (steps | feeds).items()}
    median = {name: float(pd.Series(rate).median()) for name, rate in rates.items()}
    table = pd.DataFrame({"loop": list(median), "images/s": [f"{rate:,.0f}" for rate in median.values()]})
    best = max(rate for name, rate in median.items() if "torchvision" in name)
    figures = [
        Figure("training loop / bare step, images per second", ratio(steps, in_memory, ours), 0.95, at_least=True),
        Figure("input pipeline / torchvision in a DataLoader", median["ours, alone"] / best, 10, at_least=True),
    ]
    page.publish("loop", table, figures)


if __name__ == "__main__":
    errors.run(main)
