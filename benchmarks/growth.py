"""How cost grows with samples, views, teachers and classes: `python -m benchmarks.growth`, three minutes."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import online, page, setting
from benchmarks.page import Figure
from benchmarks.timing import alternate, ratio
from pipeline.ensembles import ensemble
from pipeline.logits import caching, targets, topk
from pipeline.logits.caching import Labeller
from pipeline.project import errors, files
from pipeline.project.data import Split
from pipeline.training.models import Classifier

SAMPLES, TIMES, ROUNDS = 4000, 4, 5
FEW, MANY, PROCESSES = 10_000, 60_000, 3


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows, figures = [], []
        for measure in (_time_of_cache, _time_of_distill, _bytes, _memory):
            more_rows, more_figures = measure(Path(folder))
            rows, figures = rows + more_rows, figures + more_figures
    page.publish("growth", pd.DataFrame(rows, columns=["what", "small", "large"]), figures)


def _time_of_cache(folder: Path) -> tuple[list, list[Figure]]:
    settings, device = setting.start()
    members = setting.teachers(device)
    few, many = setting.noise(SAMPLES), setting.noise(TIMES * SAMPLES)

    def cache(member: Classifier, split: Split, count: int) -> None:
        views, labeller = setting.views(settings, count), Labeller([member], device, settings.seed)
        caching.cache(folder / "x.npy", labeller, split, views, top_k=None, name="teacher")

    seconds = alternate(
        {
            "one": lambda: cache(members[0], few, 1),
            "samples": lambda: cache(members[0], many, 1),
            "views": lambda: cache(members[0], few, TIMES),
            "teachers": lambda: [cache(members[0], few, 1) for _ in range(TIMES)],
        },
        ROUNDS,
    )
    shown = {name: f"{np.median(values):.2f} s" for name, values in seconds.items()}
    rows = [(f"cache_logits, {TIMES} times the {by}", shown["one"], shown[by]) for by in list(seconds)[1:]]
    grows = {by: ratio(seconds, by, "one") / TIMES for by in list(seconds)[1:]}
    return rows, [Figure(f"cache_logits, time per view at {TIMES} times the {by}", grows[by], 1.1) for by in grows]


def _time_of_distill(folder: Path) -> tuple[list, list[Figure]]:
    settings, device = setting.start()
    train = setting.noise(2 * SAMPLES)
    student = setting.Stepper.of(settings, device)
    taught = {}
    for count in (1, 6):
        cached = [online.random_targets(1, len(train)) for _ in range(count)]
        teacher = ensemble.uniform([str(number) for number in range(count)])
        targets.write(folder / f"{count}.npy", teacher.log_probs, cached, setting.CLASSES, None)
        rows = files.open_array(folder / f"{count}.npy")
        taught[count] = setting.taught(np.concatenate([rows] * settings.student_views.count), settings)
    seconds = alternate({n: lambda by=by: student.train(train, taught_by=by) for n, by in taught.items()}, 2 * ROUNDS)
    shown = [f"{np.median(seconds[count]):.2f} s" for count in (1, 6)]
    figure = Figure("distill, epoch with 6 teachers / with 1", ratio(seconds, 6, 1), 1.05)
    return [("distill, 6 teachers instead of 1", *shown)], [figure]


def _bytes(folder: Path) -> tuple[list, list[Figure]]:
    random, sizes = np.random.default_rng(0), {}
    for classes, top_k in ((10, None), (1000, None), (1000, 10)):
        rows = topk.encode(random.normal(0, 3, (5000, classes)), top_k)
        files.write_array(folder / "rows.npy", rows)
        sizes[classes, top_k] = (folder / "rows.npy").stat().st_size / len(rows)
    rows = [("bytes a view on disk, 10 and 1,000 classes", f"{sizes[10, None]:.1f}", f"{sizes[1000, None]:.1f}"),
            ("bytes a view on disk, 1,000 classes, top-k 10", "", f"{sizes[1000, 10]:.1f}")]  # fmt: skip
    return rows, [
        Figure("bytes a view / (2 x classes), 10 classes", sizes[10, None] / 20, 1.01),
        Figure("bytes a view / (2 x classes), 1,000 classes", sizes[1000, None] / 2000, 1.01),
        Figure("bytes a view, 1,000 classes, top-k 10", sizes[1000, 10], 48),
    ]


def _memory(folder: Path) -> tuple[list, list[Figure]]:
    settings, _ = setting.start()
    peak = {}
    for samples in (FEW, MANY):
        of = folder / str(samples)
        train = setting.noise(samples)
        files.write_array(of / "images.npy", train.images)
        files.write_array(of / "labels.npy", train.labels)
        files.write_array(of / "targets.npy", online.random_targets(settings.student_views.count, samples))
        for work in ("start", "cache", "distill"):
            print(f"memory of {work} with {samples} samples, {PROCESSES} processes", flush=True)
            words = [sys.executable, "-m", "benchmarks.memory", work, str(of), str(MANY // samples)]
            runs = [subprocess.run(words, capture_output=True, text=True, check=True) for _ in range(PROCESSES)]
            peak[work, samples] = float(np.median([float(run.stdout) for run in runs]))
    rows = [(f"peak memory of {work}, {FEW:,} and {MANY:,} samples", f"{peak[work, FEW]:.0f} MB",
             f"{peak[work, MANY]:.0f} MB") for work in ("start", "cache", "distill")]  # fmt: skip
    figures = []
    for work in ("cache", "distill"):
        beyond = {samples: peak[work, samples] - peak["start", samples] for samples in (FEW, MANY)}
        figures.append(Figure(f"{work}, peak memory beyond the start, growth", beyond[MANY] / beyond[FEW] - 1, 0.1))
    return rows, figures


if __name__ == "__main__":
    errors.run(main)
