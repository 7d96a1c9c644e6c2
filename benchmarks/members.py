"""Which members make an ensemble worth it: three architectures against three seeds of one, and a bad member.

`python -m benchmarks.members`, after `make repro`: a quarter of an hour on two cores, for seeds and architectures that
are trained here, each for about the same time. `python -m benchmarks.members spoilt`: half a minute, for a bad member
beside the teachers of the last run. Ensembles are fitted on val; the test split is read once, for the table.
"""

from itertools import combinations

import numpy as np
import pandas as pd
import torch

from benchmarks import page, setting
from benchmarks.fixed import TEACHERS
from benchmarks.page import Figure
from pipeline import params
from pipeline.ensembles import diversity, fitting
from pipeline.params import Params
from pipeline.project import data, errors, files, paths
from pipeline.project.errors import PipelineError
from pipeline.project.randomness import derive
from pipeline.scoring import metrics
from pipeline.training import devices, models
from pipeline.training.inference import predict
from pipeline.training.loop import Lesson, Trainer
from pipeline.training.views import Views

EPOCHS = {"resnet": 4, "wide_resnet": 4, "efficientnet": 10}  # in like times
SEEDS = range(5)
BAD = "bad"  # a resnet trained for a twentieth of the time


class Members:
    """Trained members' logits of val and test, and what their training took."""

    def __init__(self, settings: Params) -> None:
        self.settings, self.device = settings, devices.device(settings.compute)
        self.info = data.open_info(paths.PREPARED)
        self.splits = {split: data.open_split(paths.PREPARED, split) for split in ("train", "val", "test")}
        self.logits: dict[str, dict[str, np.ndarray]] = {"val": {}, "test": {}}
        self.seconds: dict[str, float] = {}

    def add(self, name: str, block: str, epochs: int, part: float = 1.0) -> None:
        """Train one as `train_teacher` does, on the first `part` of the training images."""
        teacher = TEACHERS[block].model_copy(update={"epochs": epochs})
        seed = derive(self.settings.seed, "member", name)
        torch.manual_seed(seed)
        model, train = models.build(teacher, self.info), self.splits["train"]
        train = data.Split(train.images[: int(part * len(train))], train.labels[: int(part * len(train))])
        loss = setting.loss_of(None, teacher.label_smoothing)
        lesson = Lesson(train, train.labelled, Views.fresh(self.settings.views, seed), loss)
        trained = Trainer(model, teacher, lesson, self.device, seed=seed, name=name).fit(self.splits["val"])
        self.seconds[name] = trained.cost["seconds"]
        for split, of in self.logits.items():
            of[name] = predict(model, self.splits[split].images, self.device, exact=True).astype(np.float64)

    def fitted(self, methods: list[str], names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Each method's (samples, classes) log-probabilities of test, fitted on val."""
        val, test = (np.stack([self.logits[split][name] for name in names]) for split in ("val", "test"))
        seed = derive(self.settings.seed, "folds")
        labels = self.splits["val"].labels
        found = fitting.fit(methods, list(names), val, labels, self.settings.ensemble, seed)
        return {method: one.log_probs(test) for method, one in found.items()}

    def load(self, name: str) -> None:
        """Take a teacher of the last `make repro` from its logits cache."""
        for split, of in self.logits.items():
            of[name] = files.open_array(paths.logits(name) / f"{split}.npy")[0].astype(np.float64)

    def hits(self, log_probs: np.ndarray) -> np.ndarray:
        return metrics.correct(log_probs, self.splits["test"].labels) * 100.0


def main(question: str = "members") -> None:
    if not paths.ENSEMBLES.exists():
        raise PipelineError("This needs the trained teachers; run `make repro` first.")
    members = Members(params.load())
    if question == "spoilt":
        members.add(BAD, "resnet", 1, part=TEACHERS["resnet"].epochs / 20)
        spoil(members)
        return
    for seed in SEEDS:
        members.add(f"resnet-{seed}", "resnet", EPOCHS["resnet"])
    for name in ("wide_resnet", "efficientnet"):
        members.add(name, name, EPOCHS[name])
    choose(members)


def choose(members: Members) -> None:
    """One row a kind of ensemble, averaged over every ensemble of that kind."""
    seeds, labels = [f"resnet-{seed}" for seed in SEEDS], members.splits["test"].labels
    others = ("wide_resnet", "efficientnet")
    kinds = {
        "one resnet": [(name,) for name in seeds],
        **{name: [(name,)] for name in others},
        "2 seeds": list(combinations(seeds, 2)),
        "3 seeds": list(combinations(seeds, 3)),
        "3 architectures": [(name, *others) for name in seeds],
        "5 seeds": [tuple(seeds)],
        "5 seeds and 2 architectures": [(*seeds, *others)],
    }
    single = {name: members.hits(members.logits["test"][name]) for name in (*seeds, *others)}
    rows, hits = [], {}
    for kind, ensembles in kinds.items():
        answers = [members.fitted(["simple", "weighted"], names) for names in ensembles]
        hits[kind] = np.mean([members.hits(answer["simple"]) for answer in answers], axis=0)
        weighted = np.mean([members.hits(answer["weighted"]) for answer in answers], axis=0)
        mean_single = np.mean([single[name] for names in ensembles for name in names], axis=0)
        pairs = pd.concat(
            diversity.pairwise({name: members.logits["test"][name].argmax(axis=1) for name in names}, labels)
            for names in ensembles
        )
        seconds = np.mean([sum(members.seconds[name] for name in names) for names in ensembles])
        several = len(ensembles[0]) > 1
        rows.append(
            {
                "members": kind,
                "ensembles": len(ensembles),
                "training": f"{seconds:.0f} s",
                "simple average %": f"{hits[kind].mean():.2f}",
                "over its mean member [95 %]": page.difference(hits[kind] - mean_single) if several else "",
                "weighted %": f"{weighted.mean():.2f}",
                "NLL, weighted": f"{np.mean([metrics.nll(answer['weighted'], labels) for answer in answers]):.3f}",
                "disagreement": f"{pairs['disagreement'].mean():.3f}" if several else "",
                "Q": f"{pairs['q_statistic'].mean():.3f}" if several else "",
            }
        )
    difference = page.difference(hits["3 seeds"] - hits["3 architectures"])
    rows.append({"members": "3 seeds minus 3 architectures", "over its mean member [95 %]": difference})
    page.publish("members", pd.DataFrame(rows, dtype=object).fillna(""), [])


def spoil(members: Members) -> None:
    """Every method of the default teachers, and of the same with a bad one beside them."""
    methods, good = list(fitting.METHODS), tuple(members.settings.teachers)
    for name in good:
        members.load(name)
    without, spoilt = members.fitted(methods, good), members.fitted(methods, (*good, BAD))
    rows, lost = [], {}
    for method in methods:
        before, after = members.hits(without[method]), members.hits(spoilt[method])
        lost[method] = before.mean() - after.mean()
        rows.append(
            {
                "method": method,
                "the teachers %": f"{before.mean():.2f}",
                "with the bad one %": f"{after.mean():.2f}",
                "change [95 %]": page.difference(after - before),
            }
        )
    accuracy = members.hits(members.logits["test"][BAD]).mean()
    rows.append({"method": "the bad member alone", "with the bad one %": f"{accuracy:.2f}"})
    figures = [Figure(f"{method}, points lost by a bad member", lost[method], 0.1) for method in ("weighted", "greedy")]
    page.publish("spoilt", pd.DataFrame(rows, dtype=object).fillna(""), figures)


if __name__ == "__main__":
    errors.run(main)
