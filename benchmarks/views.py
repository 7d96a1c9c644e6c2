"""Does the cache cost accuracy? Students taught from V cached views, and by the teacher online on the same pictures.

`python -m benchmarks.views`, after `make repro`: eleven minutes on two cores. `python -m benchmarks.views mixing` asks
instead whether mixed views pay: seven minutes. Everything is read on val.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import fixed, page
from benchmarks.fixed import EPOCHS, SEEDS
from benchmarks.page import Figure
from benchmarks.setting import Prepared
from pipeline import params
from pipeline.ensembles.ensemble import Ensemble
from pipeline.logits import caching, targets
from pipeline.logits.caching import Labeller
from pipeline.project import errors, files, paths
from pipeline.project.errors import PipelineError
from pipeline.scoring import metrics, statistics
from pipeline.training import devices, models
from pipeline.training.inference import predict
from pipeline.training.loop import Targets
from pipeline.training.views import Views, render

COUNTS = (1, 2, 4)
MIXED = {"mixup 0.2": {"mixup": 0.2}, "cutmix 1.0": {"cutmix": 1.0}}
EVERY, ONLINE = f"{EPOCHS} cached, one an epoch", "online, one an epoch"


class Teaching:
    """The best single teacher of the last `make repro`, and the brief student."""

    def __init__(self) -> None:
        settings = params.load()
        self.prepared = Prepared.open(settings, devices.device(settings.compute))
        self.student, self.distill = fixed.student(settings), settings.distill
        fitted = files.read_json(paths.ENSEMBLES)
        self.teacher = Ensemble(**fitted["singles"][fitted["best"]])
        self.model = models.load(paths.weights(self.teacher.members[0]))
        every = settings.student_views.model_copy(update={"count": EPOCHS})
        self.views = Views.replayed(settings.views, every, settings.seed)

    def students(self, name: str, views: Views, taught_by: Targets | None) -> np.ndarray:
        """(seeds, samples, classes) log-probabilities on val."""
        distill = self.distill if taught_by else None
        return np.stack([
            self.prepared.train_student(self.student, seed, f"{name}, seed {seed}", views, distill, taught_by)
            for seed in SEEDS
        ])  # fmt: skip

    def read(self, rows: np.ndarray) -> Targets:
        shape = (len(rows), len(self.prepared.train), len(self.prepared.info.classes))
        return targets.reader(rows, shape, self.distill.temperature)

    def online(self, view: int, ids: np.ndarray) -> np.ndarray:
        """The teacher's answer to what the student sees in that step."""
        pixels = render(self.prepared.train, ids, view, self.views, self.prepared.info.image_size)
        answer = predict(self.model, pixels, self.prepared.device, exact=False).astype(np.float64)
        return self.teacher.log_probs(answer[None]).astype(np.float32)

    @contextmanager
    def cache(self) -> Iterator[Callable[[Views], np.ndarray]]:
        """A function that caches the teacher's logits of those views, and gives its targets."""
        classes = len(self.prepared.info.classes)
        with tempfile.TemporaryDirectory() as folder:
            cached, path = Path(folder) / "cached.npy", Path(folder) / "targets.npy"

            def make(views: Views) -> np.ndarray:
                labeller = Labeller([self.model], self.prepared.device, self.prepared.settings.seed)
                caching.cache(cached, labeller, self.prepared.train, views, top_k=None, name="cache")
                targets.write(path, self.teacher.log_probs, [files.open_array(cached)], classes, None)
                return np.load(path, allow_pickle=False)

            yield make


def main(question: str = "views") -> None:
    if not paths.ENSEMBLES.exists():
        raise PipelineError("This needs the trained teachers; run `make repro` first.")
    teaching = Teaching()
    with teaching.cache() as cache:
        found = _by_count(teaching, cache) if question == "views" else _mixed(teaching, cache)
    labels = teaching.prepared.val.labels
    against = ONLINE if question == "views" else EVERY
    page.publish(question, _table(found, labels, against), [_figure(found, labels)] if question == "views" else [])


def _by_count(teaching: Teaching, cache: Callable[[Views], np.ndarray]) -> dict[str, np.ndarray]:
    """Students of no teacher, of few and of many cached views, and of the teacher online."""
    rows, every = cache(teaching.views), teaching.views
    found = {"no teacher": teaching.students("no teacher", every, None)}
    for count in COUNTS:  # a view has the same number whatever their count is, so fewer views are the first of them
        name = f"{count} cached"
        found[name] = teaching.students(name, replace(every, count=count), teaching.read(rows[:count]))
    found[EVERY] = teaching.students(EVERY, every, teaching.read(rows))
    found[ONLINE] = teaching.students(ONLINE, every, teaching.online)
    return found


def _mixed(teaching: Teaching, cache: Callable[[Views], np.ndarray]) -> dict[str, np.ndarray]:
    found = {EVERY: teaching.students(EVERY, teaching.views, teaching.read(cache(teaching.views)))}
    for mixing, changes in MIXED.items():
        mixed, name = replace(teaching.views, **changes), f"{EPOCHS} cached, {mixing}"
        found[name] = teaching.students(name, mixed, teaching.read(cache(mixed)))
    return found


def _table(found: dict[str, np.ndarray], labels: np.ndarray, against: str) -> pd.DataFrame:
    hits, rows = _hits(found, labels), []
    for name, log_probs in found.items():
        per_seed = 100 * (log_probs.argmax(axis=2) == labels).mean(axis=1)
        rows.append(
            {
                "views": name,
                "val accuracy %": f"{per_seed.mean():.2f}",
                "± seeds": f"{per_seed.std(ddof=1):.2f}" if len(per_seed) > 1 else "",
                f"minus {against} [95 %]": page.difference(100 * (hits[name] - hits[against])),
                "NLL": f"{np.mean([metrics.nll(each, labels) for each in log_probs]):.3f}",
            }
        )
    return pd.DataFrame(rows)


def _figure(found: dict[str, np.ndarray], labels: np.ndarray) -> Figure:
    hits = _hits(found, labels)
    difference = 100 * (hits[EVERY] - hits[ONLINE])
    low, high = statistics.bootstrap_interval(difference, 10_000, 0)
    name = "V = epochs against online, points (limit: half the interval)"
    return Figure(name, abs(difference.mean()), (high - low) / 2)


def _hits(found: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
    """(samples,) by name: the share of seeds that are right."""
    return {name: (log_probs.argmax(axis=2) == labels).mean(axis=0) for name, log_probs in found.items()}


if __name__ == "__main__":
    errors.run(main)
