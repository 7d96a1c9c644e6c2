"""Does the cache cost accuracy? Students taught from V cached looks, and by the teacher online on the same pictures.

`python -m benchmarks.views`, after `make repro`: eleven minutes on two cores. `python -m benchmarks.views mixing` asks
instead whether mixed looks pay: seven minutes. Everything is read on val.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import fixed, page
from benchmarks.fixed import EPOCHS, SEEDS
from benchmarks.page import Figure
from pipeline import params
from pipeline.distillation.students import train_student
from pipeline.ensembles.ensemble import Ensemble
from pipeline.logits import caching, targets
from pipeline.params import Views
from pipeline.project import data, errors, files, paths
from pipeline.project.errors import PipelineError
from pipeline.scoring import metrics, statistics
from pipeline.training import devices, models
from pipeline.training.loop import Targets, predict
from pipeline.training.views import Looks, render

VIEWS = (1, 2, 4)
MIXED = {"mixup 0.2": {"mixup": 0.2}, "cutmix 1.0": {"cutmix": 1.0}}


def main(question: str = "views") -> None:
    if not paths.ENSEMBLES.exists():
        raise PipelineError("This needs the trained teachers; run `make repro` first.")
    settings = params.load()
    device, student = devices.device(settings.compute), fixed.student(settings)
    info = data.open_info(paths.PREPARED)
    train, val = data.open_split(paths.PREPARED, "train"), data.open_split(paths.PREPARED, "val")
    fitted = files.read_json(paths.ENSEMBLES)
    teacher = Ensemble(**fitted["singles"][fitted["best"]])
    member = models.load(paths.weights(teacher.members[0]))

    def students(name: str, views: Views, taught_by: Targets | None) -> np.ndarray:
        """(seeds, samples, classes) log-probabilities on val."""
        found = []
        for seed in SEEDS:
            model, _ = train_student(
                info, train, val, student, views, seed=settings.seed, student_seed=seed, device=device,
                name=f"{name}, seed {seed}", distill=settings.distill, targets=taught_by,
            )  # fmt: skip
            found.append(metrics.log_softmax(predict(model, val.images, device, exact=True)))
        return np.stack(found)

    def read(rows: np.ndarray) -> Targets:
        return targets.reader(rows, (len(rows), len(train), len(info.classes)), settings.distill.temperature)

    with tempfile.TemporaryDirectory() as folder:

        def cache(views: Views) -> np.ndarray:
            cached, path = Path(folder) / "cached.npy", Path(folder) / "targets.npy"
            looks = Looks.cached(views, settings.seed)
            caching.cache(cached, [member], train, looks, top_k=None, device=device, name="cache")
            targets.write(path, teacher.log_probs, [files.open_array(cached)], len(info.classes), None)
            return np.load(path, allow_pickle=False)

        every = settings.views.model_copy(update={"count": EPOCHS})
        rows = cache(every)  # a look has the same number whatever their count is, so fewer looks are the first of them
        of = {}
        if question == "views":
            of["no teacher"] = students("no teacher", every, None)
            for count in [count for count in VIEWS if count < EPOCHS]:
                fewer = every.model_copy(update={"count": count})
                of[f"{count} cached"] = students(f"{count} cached", fewer, read(rows[:count]))
        of[f"{EPOCHS} cached, one an epoch"] = students(f"{EPOCHS} cached", every, read(rows))
        if question == "mixing":
            for name, mixing in MIXED.items():
                mixed = every.model_copy(update=mixing)
                of[name] = students(name, mixed, read(cache(mixed)))

    def online(view: int, ids: np.ndarray) -> np.ndarray:
        pixels = render(train.images, ids, view, Looks.cached(every, settings.seed).seed, every)
        answer = predict(member, pixels, device, exact=False).astype(np.float64)
        return teacher.log_probs(answer[None]).astype(np.float32)

    if question == "views":
        of["online, one an epoch"] = students("online", every, online)

    hits = {name: (log_probs.argmax(axis=2) == val.labels).mean(axis=0) for name, log_probs in of.items()}
    first, last = next(iter(hits)), list(hits)[-1]
    against = last if question == "views" else first
    reference, table = hits[against], []
    for name, log_probs in of.items():
        per_seed = 100 * (log_probs.argmax(axis=2) == val.labels).mean(axis=1)
        table.append(
            {
                "looks": name,
                "val accuracy %": f"{per_seed.mean():.2f}",
                "± seeds": f"{per_seed.std(ddof=1):.2f}" if len(per_seed) > 1 else "",
                f"minus {against} [95 %]": page.difference(100 * (hits[name] - reference)),
                "NLL": f"{np.mean([metrics.nll(each, val.labels) for each in log_probs]):.3f}",
            }
        )
    difference = 100 * (hits[f"{EPOCHS} cached, one an epoch"] - reference)
    low, high = statistics.bootstrap_interval(difference, 10_000, 0)
    name = "V = epochs against online, points (limit: half the interval)"
    figure = Figure(name, abs(difference.mean()), (high - low) / 2)
    page.publish(question, pd.DataFrame(table), [figure] if question == "views" else [])


if __name__ == "__main__":
    errors.run(main)
