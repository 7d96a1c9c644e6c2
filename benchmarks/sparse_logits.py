"""A sparse cache of a teacher's answers, at equal bytes: `python -m benchmarks.sparse_logits`, a few minutes.

Made-up data of 500 overlapping classes, a wide net as the teacher, a narrow one as the student. Each sparse target p'
takes the place of the teacher's softened probabilities p in T² times the cross entropy, whose gradient is that of kd.
`sampled` is that of Anshumann et al. 2025, "Sparse logit sampling" (arXiv 2503.16870): draws from p with replacement,
p' = counts / draws. `largest and sampled` keeps the k largest of p as they are and draws from the rest.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.special import softmax
from torch import Tensor, nn

from benchmarks import page
from benchmarks.page import Figure
from pipeline.logits import topk
from pipeline.project import errors

CLASSES, GROUPS, INPUTS = 500, 25, 32
TRAIN, TEST, LABELLED = 10_000, 10_000, 20_000  # samples: of the student, of the table, of the teacher
TEMPERATURES, SEEDS, EPOCHS, BATCH = (1.0, 4.0), range(3), 8, 256
K = 10  # of the present cache; all others have at most its bytes
CACHES = 10  # drawn anew, for the bias of what is drawn
MEASURED = 1000  # samples, for the bias
ID, SHARE, COUNT = 2, 2, 1  # bytes of a class, of a float16, of a count
BYTES = topk.row_type(CLASSES, K)[0].itemsize


@dataclass(frozen=True)
class Way:
    """make: (samples, classes) logits, a temperature and a generator to sparse probabilities and bytes a sample."""

    make: Callable[[np.ndarray, float, np.random.Generator], tuple[np.ndarray, float]]
    drawn: bool = False


def main() -> None:
    torch.set_num_threads(1)
    inputs, labels = samples(LABELLED + TEST)
    teacher = train(net(256, seed=0), inputs[:LABELLED], F.one_hot(labels[:LABELLED], CLASSES).float(), 1.0, seed=0)
    with torch.inference_mode():
        logits = teacher(inputs[:TRAIN]).numpy().astype(np.float32)
    rows, figures = [], []
    test = inputs[LABELLED:], labels[LABELLED:]
    print(f"teacher: {hits(teacher, *test).mean():.2f} % right", flush=True)
    for temperature in TEMPERATURES:
        begun = train(net(48, seed=9), inputs[:TRAIN], full(logits, temperature), temperature, seed=9, epochs=2)
        right = {}
        for name, way in WAYS.items():
            row = {"T": f"{temperature:g}", "cache": name, **_errors(way, logits, begun, inputs[:TRAIN], temperature)}
            right[name] = np.stack([hits(_taught(way, logits, inputs, temperature, seed), *test) for seed in SEEDS])
            by_seed = right[name].mean(axis=1)
            over = right[name].mean(axis=0) - right[ALL].mean(axis=0)
            row |= {"accuracy %": f"{by_seed.mean():.2f}", "± seeds": f"{by_seed.std(ddof=1):.2f}"}
            row["over all logits [95 %]"] = "" if name == ALL else page.difference(over)
            rows.append(row)
            print(row, flush=True)
        lead = float((right[DRAWN] - right[PRESENT]).mean())
        figures.append(Figure(f"sampled targets over the {K} largest, T = {temperature:g}, points", lead, 0.3))
    page.publish("sparse_logits", pd.DataFrame(rows), figures)


def samples(count: int) -> tuple[Tensor, Tensor]:
    """Classes in groups, which overlap within a group more than between groups, bent by a fixed random net."""
    random = np.random.default_rng(0)
    centres = random.normal(0, 1.0, (GROUPS, INPUTS)).repeat(CLASSES // GROUPS, axis=0)
    centres += random.normal(0, 0.35, (CLASSES, INPUTS))
    labels = random.integers(0, CLASSES, count)
    points = centres[labels] + random.normal(0, 0.7, (count, INPUTS))
    bent = np.tanh(points @ random.normal(0, 1 / np.sqrt(INPUTS), (INPUTS, 2 * INPUTS)))
    return torch.from_numpy(bent.astype(np.float32)), torch.from_numpy(labels)


def net(width: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2 * INPUTS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                         nn.Linear(width, CLASSES))  # fmt: skip


def loss_of(model: nn.Module, inputs: Tensor, targets: Tensor, temperature: float) -> Tensor:
    return temperature**2 * F.cross_entropy(model(inputs) / temperature, targets)


def train(
    model: nn.Module, inputs: Tensor, targets: Tensor, temperature: float, seed: int, epochs: int = EPOCHS
) -> nn.Module:
    """By AdamW under a one-cycle rate."""
    random, steps = np.random.default_rng(seed), -(-len(inputs) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.004, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.004, epochs * steps, pct_start=0.2)
    for _ in range(epochs):
        for ids in np.array_split(random.permutation(len(inputs)), steps):
            optimizer.zero_grad()
            loss_of(model, inputs[ids], targets[ids], temperature).backward()
            optimizer.step()
            schedule.step()
    return model


def hits(model: nn.Module, inputs: Tensor, labels: Tensor) -> np.ndarray:
    """(samples,) 100 where the model is right, else 0."""
    with torch.inference_mode():
        return 100.0 * (model(inputs).argmax(dim=1) == labels).numpy()


def full(logits: np.ndarray, temperature: float) -> Tensor:
    return torch.from_numpy(softmax(logits / temperature, axis=1))


def _all(logits: np.ndarray, temperature: float, random: np.random.Generator) -> tuple[np.ndarray, float]:
    return softmax(logits / temperature, axis=1), SHARE * CLASSES


def _present(logits: np.ndarray, temperature: float, random: np.random.Generator) -> tuple[np.ndarray, float]:
    rows = topk.encode(logits, K)
    return softmax(topk.decode(rows, CLASSES, temperature) / temperature, axis=1), BYTES


def _largest(logits: np.ndarray, temperature: float, random: np.random.Generator) -> tuple[np.ndarray, float]:
    k = BYTES // (ID + SHARE)
    kept = np.where(logits >= np.partition(logits, -k, axis=1)[:, [-k]], logits, -np.inf)
    return softmax(kept / temperature, axis=1), k * (ID + SHARE)


def _sampled(logits: np.ndarray, temperature: float, random: np.random.Generator) -> tuple[np.ndarray, float]:
    """As many draws, at most 255, as give the bytes on average; classes that were drawn are kept with their counts."""
    probabilities = softmax(logits.astype(np.float64) / temperature, axis=1)
    few = probabilities[:500]
    size = bisect_right(range(1, 256), BYTES, key=lambda n: (1 - (1 - few) ** n).sum(axis=1).mean() * (ID + COUNT))
    counts = random.multinomial(size, probabilities)
    return (counts / size).astype(np.float32), float((counts > 0).sum(axis=1).mean() * (ID + COUNT))


def _largest_and_sampled(
    logits: np.ndarray, temperature: float, random: np.random.Generator
) -> tuple[np.ndarray, float]:
    """The k largest as they are; the mass of the rest goes to as many draws from it, each with its class."""
    k = (BYTES - SHARE) // (2 * ID + SHARE)
    probabilities = softmax(logits.astype(np.float64) / temperature, axis=1)
    largest = np.argpartition(-probabilities, k, axis=1)[:, :k]
    rest = probabilities.copy()
    np.put_along_axis(rest, largest, 0, axis=1)
    mass = rest.sum(axis=1, keepdims=True)
    drawn = random.multinomial(k, rest / mass) / k * mass
    np.put_along_axis(drawn, largest, np.take_along_axis(probabilities, largest, axis=1), axis=1)
    return drawn.astype(np.float32), k * (2 * ID + SHARE) + SHARE


ALL, PRESENT, DRAWN = "all logits", f"the {K} largest and the rest's mass", "sampled"
WAYS = {
    ALL: Way(_all),
    PRESENT: Way(_present),
    "the largest alone": Way(_largest),
    DRAWN: Way(_sampled, drawn=True),
    "the largest and sampled": Way(_largest_and_sampled, drawn=True),
}


def _taught(way: Way, logits: np.ndarray, inputs: Tensor, temperature: float, seed: int) -> nn.Module:
    """A student of one cache."""
    targets, _ = way.make(logits, temperature, np.random.default_rng(seed))
    return train(net(48, seed), inputs[:TRAIN], torch.from_numpy(targets), temperature, seed)


def _errors(way: Way, logits: np.ndarray, model: nn.Module, inputs: Tensor, temperature: float) -> dict[str, str]:
    """Of a student on its way: of what is drawn the mean over caches, and what a single batch has beside it.

    The bias of the loss is in nats, relative to T² KL of full logits; those of gradients to the gradient's norm.
    """
    logits, inputs = logits[:MEASURED], inputs[:MEASURED]
    exact = full(logits, temperature)
    loss, whole = _loss_and_gradient(model, inputs, exact, temperature)
    divergence = loss + temperature**2 * float((exact * exact.clamp_min(1e-30).log()).sum(dim=1).mean())
    _, one = _loss_and_gradient(model, inputs[:BATCH], exact[:BATCH], temperature)
    losses, wholes, ones = [], [], []
    for seed in range(CACHES if way.drawn else 1):
        values, size = way.make(logits, temperature, np.random.default_rng(seed))
        of_all = _loss_and_gradient(model, inputs, torch.from_numpy(values), temperature)
        _, of_one = _loss_and_gradient(model, inputs[:BATCH], torch.from_numpy(values[:BATCH]), temperature)
        losses.append(of_all[0])
        wholes.append(of_all[1])
        ones.append(float((of_one - one).norm() / one.norm()))
    bias = (np.mean(losses) - loss) / divergence
    return {
        "bytes": f"{size:.0f}",
        "bias of the loss": f"{100 * bias:+.1f} %",
        "of the gradient": f"{100 * float((torch.stack(wholes).mean(dim=0) - whole).norm() / whole.norm()):.1f} %",
        f"error of a batch of {BATCH}": f"{100 * np.mean(ones):.0f} %",
    }


def _loss_and_gradient(model: nn.Module, inputs: Tensor, targets: Tensor, temperature: float) -> tuple[float, Tensor]:
    loss = loss_of(model, inputs, targets, temperature)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return float(loss.detach()), torch.cat([part.flatten() for part in gradients])


if __name__ == "__main__":
    errors.run(main)
