"""How long fit_ensemble takes with five members and 10,000 val images: `python -m benchmarks.fitting`, two minutes."""

import sys

import numpy as np
import pandas as pd

from benchmarks import page, scratch
from benchmarks.page import Figure
from benchmarks.timing import seconds_of
from pipeline.project import errors
from pipeline.scoring import statistics

PARAMS = """
seed: 0
data: {source: fashion_mnist, path: data/none/images, unlabelled: data/none/unlabelled,
       val_fraction: 0.16666666666666666, train_samples: 2000}
student_views: {count: 1}
teachers:
  member_0: &member {model: test_resnet, kwargs: {channels: [8, 16, 16, 32]}, epochs: 1, batch_size: 64, lr: 0.01}
  member_1: {<<: *member, seed: 1}
  member_2: {<<: *member, seed: 2}
  member_3: {<<: *member, seed: 3}
  member_4: {<<: *member, seed: 4}
student: {model: test_resnet, epochs: 1, lr: 0.01}
student_seeds: [0]
baseline: {lr: 0.01}
distill: {sources: [ensemble]}
views: {}
loss: {}
cross_fit: {}
logits: {}
compute: {}
ensemble: {}
benchmark: {}
deploy: {}
tracking: {}
ci: {}
"""
METHODS, SAMPLES, RESAMPLES = 10, 10_000, 10_000


def main() -> None:
    with scratch.checkout(PARAMS) as root:
        print("five small members", flush=True)
        scratch.run(root, "dvc", "repro", "fit_ensemble")
        stage = seconds_of(lambda: scratch.run(root, sys.executable, "-m", "stages.fit_ensemble"))
    random = np.random.default_rng(0)
    hits = (random.random((METHODS, SAMPLES)) < 0.9).astype(float)
    alike = np.where(random.random((METHODS, SAMPLES)) < 0.9, hits[0], hits)  # as classifiers of one test set are
    cases = {
        "fit_ensemble, 5 members, 10,000 images, start-up included": stage,
        "bootstrap of 10 methods' hits": seconds_of(lambda: statistics.bootstrap_means(alike, RESAMPLES, 0)),
        "bootstrap of 10 methods' losses": seconds_of(
            lambda: statistics.bootstrap_means(random.random((METHODS, SAMPLES)), RESAMPLES, 0)
        ),
    }
    table = pd.DataFrame({"what": list(cases), "seconds": [f"{seconds:.2f}" for seconds in cases.values()]})
    limits = (60, 10, 10)
    figures = [Figure(f"{name}, seconds", cases[name], limit) for name, limit in zip(cases, limits, strict=True)]
    page.publish("fitting", table, figures)


if __name__ == "__main__":
    errors.run(main)
