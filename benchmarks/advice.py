"""The usual advice on distillation, measured: `python -m benchmarks.advice QUESTION`, after `make repro`.

Questions: baseline, baseline_of_default, temperature, alpha, objective, duration, size. Each varies one thing of a
brief student, with three seeds, taught from the cached targets of the ensemble, and is read on val, where advice is
chosen. Five to twenty-five minutes each on two cores, objective and size longer; students train side by side, one a
core. baseline_of_default and objective are about params.yaml's own student instead: what suits it with and without a
teacher, and what each objective is worth to it.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

import matplotlib
import numpy as np
import pandas as pd
import torch

from benchmarks import fixed, page, setting
from benchmarks.fixed import SEEDS, STUDENT
from pipeline import params
from pipeline.deployment import export, measuring
from pipeline.deployment.latency import OnnxFile
from pipeline.logits import targets
from pipeline.params import Distill, Model, Params, Teacher
from pipeline.project import data, errors, files, paths
from pipeline.project.errors import PipelineError
from pipeline.scoring import metrics
from pipeline.training import devices, models
from pipeline.training.views import Views

matplotlib.use("agg")
import matplotlib.pyplot as plt

ALONE, DISTILL = {"lr": 0.024}, {"alpha": 0.9}  # what suits so brief a student
TEMPERATURES = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
ALPHAS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
OBJECTIVES = get_args(Distill.model_fields["objective"].annotation)
DURATIONS = (5, 10, 15)  # epochs
CHANNELS = (
    (4, 8, 16, 24), (8, 16, 32, 48), (16, 32, 48, 64), (16, 32, 64, 96), (24, 48, 96, 144), (40, 80, 160, 240),
)  # fmt: skip
RATES, SMOOTHINGS = (0.006, 0.012, 0.018, 0.024, 0.036), (0.0, 0.1)
FACTORS = (0.25, 0.5, 1, 2)  # of the rates in params.yaml
PAGE = Path(__file__).parent / "advice.md"
PICTURES = Path(__file__).parent / "pictures"


@dataclass(frozen=True)
class Arm:
    """A way to train the student: what the table calls it, where it is on the picture's axis, and what it changes."""

    name: str
    x: float
    student: dict[str, Any]
    distill: dict[str, Any] | None  # None: without a teacher
    views: str = "cached"  # as `baseline.views`

    @property
    def line(self) -> str:
        return "student alone" if self.distill is None else "taught"


@dataclass(frozen=True)
class Question:
    axis: str
    arms: Callable[[Params], list[Arm]]
    log: bool = False


def main(name: str = "") -> None:
    if name not in QUESTIONS:
        raise PipelineError(f"`{name}` is no question; there are {', '.join(QUESTIONS)}.")
    if not paths.targets("ensemble").exists():
        raise PipelineError("This needs the ensemble's targets; run `make repro` first.")
    settings, question = params.load(), QUESTIONS[name]
    arms = question.arms(settings)
    answers = _students(arms, settings)
    table = _table(arms, answers, settings)
    if name == "size":
        table = pd.concat([table, _cost(arms, settings)], axis=1)
    if name == "objective":
        table["over kd [95 %]"] = _over_kd(arms, answers, settings)
    page.publish(name, table.drop(columns="line"), [], PAGE)
    for axis in [question.axis, *(["p50 ms"] if name == "size" else [])]:
        _draw(table, arms, axis, question, PICTURES / f"{name}{'_latency' if axis == 'p50 ms' else ''}.png")


def _alone(settings: Params, name: str = "student alone", x: float = float("nan"), **student: Any) -> Arm:
    return Arm(name, x, {**settings.baseline.training, **ALONE, **student}, None)


def _baseline_with(settings: Params, lr: float, smoothing: float, student: dict[str, Any] | None = None) -> Arm:
    changes = {**(student or {}), "lr": lr, "label_smoothing": smoothing}
    return _alone(settings, f"alone, lr {lr:g}, smoothing {smoothing:g}", lr, **changes)


def _baseline(settings: Params) -> list[Arm]:
    alone = [_baseline_with(settings, lr, smoothing) for smoothing in SMOOTHINGS for lr in RATES]
    return alone + _taught(RATES, {}, {})


def _taught(rates: Iterable[float], student: dict[str, Any], distill: dict[str, Any]) -> list[Arm]:
    return [Arm(f"taught, lr {lr:g}", lr, {**student, "lr": lr}, distill) for lr in rates]


def _own(student: Model) -> dict[str, Any]:
    """What makes the fixed student one of params.yaml."""
    return {key: getattr(student, key) for key in STUDENT}


def _baseline_of_default(settings: Params) -> list[Arm]:
    own, chosen = _own(settings.baseline_student()), settings.baseline
    smoothings = dict.fromkeys((*SMOOTHINGS, chosen.label_smoothing))
    around = [(chosen.lr, smoothing, views) for views in ("new", "cached") for smoothing in smoothings]
    around += [(chosen.lr * factor, chosen.label_smoothing, chosen.views) for factor in FACTORS if factor != 1]
    arms = [(_baseline_with(settings, lr, smoothing, own), views) for lr, smoothing, views in around]
    alone = [replace(arm, name=f"{arm.name}, {views} views", views=views) for arm, views in arms]
    rates = [settings.student.lr * factor for factor in FACTORS]
    return alone + _taught(rates, _own(settings.student), {"alpha": settings.distill.alpha})


def _temperature(settings: Params) -> list[Arm]:
    return [_alone(settings), *(Arm(f"T = {value:g}", value, {}, {"temperature": value}) for value in TEMPERATURES)]


def _alpha(settings: Params) -> list[Arm]:
    return [_alone(settings, x=0), *(Arm(f"alpha = {value:g}", value, {}, {"alpha": value}) for value in ALPHAS)]


def _objective(settings: Params) -> list[Arm]:
    own, alpha = _own(settings.student), settings.distill.alpha
    arms = [_alone(settings, **_own(settings.baseline_student()))]
    for name in OBJECTIVES:
        arms.append(Arm(name, float("nan"), own, {"alpha": alpha, "objective": name, "weights": {}}))
    return arms


def _duration(settings: Params) -> list[Arm]:
    arms = []
    for epochs in DURATIONS:
        arms.append(_alone(settings, f"alone, {epochs} epochs", epochs, epochs=epochs))
        arms.append(Arm(f"taught, {epochs} epochs", epochs, {"epochs": epochs}, {}))
    return arms


def _size(settings: Params) -> list[Arm]:
    arms = []
    for channels in CHANNELS:
        student = {"kwargs": {"channels": list(channels)}}
        count = _parameters(fixed.student(settings, **student))
        arms.append(_alone(settings, f"alone, {count / 1e6:.2f} M", count / 1e6, **student))
        arms.append(Arm(f"taught, {count / 1e6:.2f} M", count / 1e6, student, {}))
    return arms


QUESTIONS = {
    "baseline": Question("learning rate", _baseline, log=True),
    "baseline_of_default": Question("learning rate", _baseline_of_default, log=True),
    "temperature": Question("temperature", _temperature, log=True),
    "alpha": Question("alpha", _alpha),
    "objective": Question("", _objective),
    "duration": Question("epochs", _duration),
    "size": Question("million parameters", _size, log=True),
}


def _parameters(model: Model | Teacher) -> int:
    return models.parameters(models.build(model, data.open_info(paths.PREPARED)))


def _students(arms: list[Arm], settings: Params) -> np.ndarray:
    """(arms, seeds, samples, classes) float32 log-probabilities on val."""
    jobs = [(arm, seed) for arm in arms for seed in SEEDS]
    side_by_side = os.cpu_count() if devices.device(settings.compute).type == "cpu" else 1
    found = []
    with ProcessPoolExecutor(side_by_side, get_context("spawn")) as pool:
        for (arm, seed), answer in zip(jobs, pool.map(_train, *zip(*jobs, strict=True)), strict=True):
            found.append(answer)
            print(f"{len(found)}/{len(jobs)} {arm.name}, seed {seed}", flush=True)
    return np.stack(found).reshape(len(arms), len(SEEDS), *found[0].shape)


def _train(arm: Arm, seed: int) -> np.ndarray:
    settings = params.load()
    device = devices.device(settings.compute.model_copy(update={"threads": 1}))
    prepared, student = setting.Prepared.open(settings, device), fixed.student(settings, **arm.student)
    views = Views.alone(settings.views, settings.student_views, arm.views, settings.seed)
    distill, taught_by = None, None
    if arm.distill is not None:
        distill = settings.distill.model_copy(update={**DISTILL, **arm.distill})
        shape = (settings.student_views.count, len(prepared.train), len(prepared.info.classes))
        taught_by = targets.reader(files.open_array(paths.targets("ensemble")), shape, distill.target_temperature)
    with setting.silence():
        return prepared.train_student(student, seed, arm.name, views, distill, taught_by).astype(np.float32)


def _table(arms: list[Arm], answers: np.ndarray, settings: Params) -> pd.DataFrame:
    """A row an arm; each gain is over the best arm alone at the same x, or over the best alone where none has one."""
    labels = data.open_split(paths.PREPARED, "val").labels
    hits = answers.argmax(axis=3) == labels
    accuracy, rows = hits.mean(axis=(1, 2)), []
    for number, arm in enumerate(arms):
        alone = [i for i, other in enumerate(arms) if other.distill is None]
        best = max([i for i in alone if arms[i].x == arm.x] or alone, key=lambda i: accuracy[i])
        over_alone = _difference(hits[number], hits[best], settings.seed)
        by_seed = page.p_over_seeds(hits[number].mean(axis=1) - hits[best].mean(axis=1))
        taught = arm.distill is not None
        rows.append(
            {
                "line": arm.line,
                "student": arm.name,
                "val accuracy %": f"{100 * accuracy[number]:.2f}",
                "± seeds": f"{100 * hits[number].mean(axis=1).std(ddof=1):.2f}" if len(hits[number]) > 1 else "",
                "over alone [95 %]": over_alone if taught else "",
                "p over seeds": by_seed if taught else "",
                "NLL": f"{np.mean([metrics.nll(each, labels) for each in answers[number]]):.3f}",
            }
        )
    return pd.DataFrame(rows)


def _difference(hits: np.ndarray, others: np.ndarray, seed: int) -> str:
    """Points of accuracy of one arm over another, paired over images; hits: (seeds, samples) bool."""
    return page.difference(100 * (hits.mean(axis=0) - others.mean(axis=0)), seed)


def _over_kd(arms: list[Arm], answers: np.ndarray, settings: Params) -> list[str]:
    hits = answers.argmax(axis=3) == data.open_split(paths.PREPARED, "val").labels
    kd = hits[[arm.name for arm in arms].index("kd")]
    return [
        "" if arm.distill is None or arm.name == "kd" else _difference(each, kd, settings.seed)
        for arm, each in zip(arms, hits, strict=True)
    ]


def _cost(arms: list[Arm], settings: Params) -> pd.DataFrame:
    """Size and latency of each arm's student, exported with random weights: neither depends on them."""
    info, val = data.open_info(paths.PREPARED), data.open_split(paths.PREPARED, "val")
    timing = settings.benchmark
    with tempfile.TemporaryDirectory() as folder:
        onnx = {arm.name: Path(folder) / f"{number}.onnx" for number, arm in enumerate(arms)}
        for arm in arms:
            torch.manual_seed(0)
            export.to_onnx(models.build(fixed.student(settings, **arm.student), info), onnx[arm.name])
        systems = {name: OnnxFile(path) for name, path in onnx.items()}
        wanted = measuring.Timing(timing.threads, timing.calls, timing.warmup)
        speed = measuring.measure(systems, val.images[: max(timing.calls)], wanted)
        sizes = {name: f"{path.stat().st_size / 1e6:.2f} MB" for name, path in onnx.items()}
    teachers = sum(map(_parameters, settings.teachers.values()))
    return pd.DataFrame(
        [
            {
                "of its teachers": f"{100 * 1e6 * arm.x / teachers:.1f} %",
                "file": sizes[arm.name],
                "p50 ms": f"{speed[arm.name]['p50_ms']:.3f}",
            }
            for arm in arms
        ]
    )


def _draw(table: pd.DataFrame, arms: list[Arm], axis: str, question: Question, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(5.2, 4), layout="constrained")
    table = table.assign(x=table["p50 ms"].astype(float) if axis == "p50 ms" else [arm.x for arm in arms])
    accuracy, spread = table["val accuracy %"].astype(float), pd.to_numeric(table["± seeds"])
    for line, colour in (("student alone", "#7f7f7f"), ("taught", "#d62728")):
        chosen = table["line"] == line
        if not chosen.any():
            continue
        if line == "student alone" and table.loc[chosen, "x"].nunique() < 2:
            axes.axhline(accuracy[chosen].max(), color=colour, linestyle="--", linewidth=1, label=line)
        elif axis:
            order = table.loc[chosen, "x"].groupby(table["x"]).apply(lambda x: accuracy[x.index].idxmax())
            axes.errorbar(order.index, accuracy[order], spread[order], color=colour, marker="o", capsize=2, label=line)
        else:
            names = table.loc[chosen, "student"]
            axes.errorbar(names, accuracy[chosen], spread[chosen], color=colour, marker="o", capsize=2, linestyle="",
                          label=line)  # fmt: skip
            plt.setp(axes.get_xticklabels(), rotation=30, ha="right")
    if question.log and axis != "p50 ms":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(matplotlib.ticker.FixedLocator(sorted(table["x"].dropna().unique())))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%.3g"))
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set(
        xlabel=axis.replace("p50 ms", "latency of one image, ms (p50)"), ylabel="accuracy on val, % (± over seeds)"
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with files.atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    errors.run(main)
