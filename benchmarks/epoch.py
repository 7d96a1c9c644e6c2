"""What a teacher costs: an epoch with the cache, without a teacher, and with teachers online; then twelve students.

`python -m benchmarks.epoch`: some five minutes on two cores.
"""

import itertools
import tempfile
import time
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from benchmarks import online, page, setting
from benchmarks.page import Figure
from benchmarks.timing import alternate, ratio
from pipeline.ensembles import ensemble
from pipeline.logits import caching, targets
from pipeline.logits.caching import Labeller
from pipeline.params import Params
from pipeline.project import errors
from pipeline.project.files import open_array

SAMPLES, ROUNDS = 7680, 5
TEMPERATURES, ALPHAS, SEEDS, EPOCHS = (2.0, 4.0), (0.5, 0.9, 1.0), (0, 1), 4


def main() -> None:
    settings, device = setting.start()
    train, members = setting.noise(SAMPLES), setting.teachers(device)
    soft = setting.taught(online.random_targets(settings.student_views.count, SAMPLES), settings)
    alone_in, taught_in = setting.Stepper.of(settings, device), setting.Stepper.of(settings, device)
    by_timm = partial(online.timm_epoch, settings, device, train, members, setting.Stepper.of(settings, device))
    loader = online.loader(train, settings, online.WORKERS)
    plain = [online.plain(model) for model in setting.teachers(device)]
    student = online.plain(setting.Stepper.of(settings, device).model)
    cases = {
        "no teacher": lambda: alone_in.train(train),
        "three teachers, cached": lambda: taught_in.train(train, taught_by=soft),
        "three teachers, online: timm.task": partial(by_timm, own_precision=False),
        "the same, each teacher in its best precision": partial(by_timm, own_precision=True),
        "three teachers, online: tutorial": lambda: online.tutorial_epoch(settings, device, loader, plain, student),
    }
    alone, cached, timm, ideal, tutorial = cases
    seconds = alternate(cases, ROUNDS)
    close = alternate({name: cases[name] for name in (alone, cached)}, 4 * ROUNDS)
    table = pd.DataFrame(
        {
            "epoch": list(cases),
            "images/s": [f"{SAMPLES / pd.Series(seconds[name]).median():,.0f}" for name in cases],
            "times the epoch without a teacher": [f"{ratio(seconds, name, alone):.2f}" for name in cases],
        }
    )
    figures = [
        Figure("cached epoch / epoch without a teacher", ratio(close, cached, alone), 1.05),
        Figure("cached epoch / timm.task online", ratio(seconds, cached, timm), 0.2),
        Figure(
            "cached epoch / timm.task online, each teacher in its best precision", ratio(seconds, cached, ideal), 0.2
        ),
        Figure("cached epoch / tutorial online", ratio(seconds, cached, tutorial), 0.2),
        Figure("twelve students, cache included / timm.task online, best precision", _twelve(settings, device), 0.25),
    ]
    page.publish("epoch", table, figures)


def _twelve(settings: Params, device: torch.device) -> float:
    """Seconds of cache, combination and twelve students by those of twelve students with timm.task."""
    train, members, views = setting.noise(SAMPLES), setting.teachers(device), setting.views(settings)
    grid = list(itertools.product(TEMPERATURES, ALPHAS, SEEDS))
    ours = theirs = 0.0
    with tempfile.TemporaryDirectory() as folder:
        began, cached = time.perf_counter(), []
        for number, member in enumerate(members):
            path = Path(folder) / f"{number}.npy"
            labeller = Labeller([member], device, settings.seed)
            caching.cache(path, labeller, train, views, top_k=None, name=f"teacher {number}")
            cached.append(open_array(path))
        teacher = ensemble.uniform([str(number) for number in range(len(members))])
        targets.write(Path(folder) / "targets.npy", teacher.log_probs, cached, setting.CLASSES, None)
        soft = setting.taught(open_array(Path(folder) / "targets.npy"), settings)
        ours += time.perf_counter() - began
        for student, (temperature, alpha, seed) in enumerate(grid):  # in turn, so that both see the same machine
            print(f"student {student + 1}/{len(grid)}: T {temperature}, alpha {alpha}, seed {seed}", flush=True)
            changes = {"alpha": alpha, "temperature": temperature}
            varied = settings.model_copy(update={"distill": settings.distill.model_copy(update=changes)})
            stepper, began = setting.Stepper.of(varied, device), time.perf_counter()
            stepper.train(train, seed, EPOCHS, soft)
            ours += time.perf_counter() - began
            stepper, began = setting.Stepper.of(varied, device), time.perf_counter()
            for _ in range(EPOCHS):
                online.timm_epoch(varied, device, train, members, stepper, own_precision=True)
            theirs += time.perf_counter() - began
    return ours / theirs


if __name__ == "__main__":
    errors.run(main)
