"""Ways to combine members, and how each is fitted. Logits are (members, samples, classes), labels (samples,)."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp

from pipeline.errors import PipelineError
from pipeline.metrics import log_softmax, nll

METHODS = ("simple", "weighted")


@dataclass(frozen=True)
class Ensemble:
    """log Σ_m w_m softmax(z_m / T_m): a mixture of the members' calibrated probabilities.

    A single teacher is an ensemble of one: fit("weighted", [name], ...) gives it its temperature.
    """

    method: str
    members: list[str]
    weights: list[float]
    temperatures: list[float]

    def log_probs(self, logits: np.ndarray) -> np.ndarray:
        """(members, samples, classes) logits to (samples, classes) float64 log-probabilities."""
        if len(logits) != len(self.members):
            raise PipelineError(f"The ensemble has {len(self.members)} members, but logits of {len(logits)} came in.")
        return _mix(_member_log_probs(logits, self.temperatures), np.array(self.weights))

    def as_dict(self) -> dict:
        return asdict(self)


def fit(method: str, members: list[str], logits: np.ndarray, labels: np.ndarray) -> Ensemble:
    """Fit `method` on these logits.

    simple: the mean of the members' probabilities as they are; nothing is fitted.
    weighted: softmax weights that minimise the mixture's NLL, each member at its own fitted temperature.
    """
    count = len(members)
    if method == "simple":
        return Ensemble(method, members, [1 / count] * count, [1.0] * count)
    if method != "weighted":
        raise PipelineError(f"`{method}` is no way to combine members; known are {', '.join(METHODS)}.")
    temperatures = [fit_temperature(member, labels) for member in logits]
    weights = fit_weights(_member_log_probs(logits, temperatures), labels)
    return Ensemble(method, members, weights.tolist(), temperatures)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises NLL (Guo et al. 2017, sec. 4.2), searched in [0.05, 20]."""
    found = minimize_scalar(
        lambda log_t: nll(log_softmax(logits / np.exp(log_t)), labels), bounds=np.log([0.05, 20]), method="bounded"
    )
    return float(np.exp(found.x))


def fit_weights(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(members,) weights on the simplex, softmax-parametrised, that minimise the mixture's NLL; L-BFGS from uniform.

    Args:
        log_probs: (members, samples, classes).
    """
    true = log_probs[:, np.arange(len(labels)), labels]  # (members, samples)

    def objective(scores: np.ndarray) -> tuple[float, np.ndarray]:
        log_weights = log_softmax(scores)
        joint = log_weights[:, None] + true
        evidence = logsumexp(joint, axis=0)
        responsibility = np.exp(joint - evidence).mean(axis=1)  # d(-NLL)/d(log w)
        return -evidence.mean(), np.exp(log_weights) - responsibility

    found = minimize(objective, np.zeros(len(log_probs)), jac=True, method="L-BFGS-B", options={"ftol": 1e-12})
    return np.exp(log_softmax(found.x))


def cross_fit(
    method: str, members: list[str], logits: np.ndarray, labels: np.ndarray, folds: int, seed: int
) -> np.ndarray:
    """(samples, classes) log-probabilities, each by an ensemble fitted without that sample; stratified K-fold."""
    from sklearn.model_selection import StratifiedKFold

    smallest = int(np.bincount(labels).min())
    if smallest < folds:
        raise PipelineError(
            f"`ensemble.folds` is {folds}, but a class has only {smallest} validation images; "
            "use fewer folds or a larger `data.val_fraction`."
        )
    held_out = np.empty(logits.shape[1:])
    for fitted, left in StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels):
        held_out[left] = fit(method, members, logits[:, fitted], labels[fitted]).log_probs(logits[:, left])
    return held_out


def _member_log_probs(logits: np.ndarray, temperatures: list[float]) -> np.ndarray:
    return log_softmax(logits / np.array(temperatures)[:, None, None])


def _mix(log_probs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):  # a weight of zero is a member left out
        return logsumexp(np.log(weights)[:, None, None] + log_probs, axis=0)
