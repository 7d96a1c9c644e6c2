"""An ensemble as a value: what becomes of its members' logits, (members, samples, classes).

scikit-learn's ensembles combine their own estimators, not logits that are there already.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy.special import logsumexp

from pipeline.project.errors import PipelineError
from pipeline.scoring.metrics import log_softmax

FLOOR = -12.0  # where stacking cuts log-probabilities, so that no single one decides


@dataclass(frozen=True)
class Ensemble:
    """Calibrated members, combined by the method's rule, and calibrated once more. pipeline.ensembles.fitting fits it.

    method: see pipeline.ensembles.fitting.fit; "alone" is a single model.
    weights: (members,), summing to 1. temperatures: (members,), each divides its member's logits.
    temperature: divides the combined log-probabilities.
    coefficients, intercept: of stacking, (members * classes, classes) and (classes,).
    """

    method: str
    members: list[str]
    weights: list[float]
    temperatures: list[float]
    temperature: float = 1.0
    coefficients: list[list[float]] | None = None
    intercept: list[float] | None = None

    def log_probs(self, logits: np.ndarray) -> np.ndarray:
        """(members, samples, classes) logits to (samples, classes) float64 log-probabilities."""
        if len(logits) != len(self.members):
            raise PipelineError(f"The ensemble has {len(self.members)} members, but logits of {len(logits)} came in.")
        members = log_softmax(logits / np.array(self.temperatures)[:, None, None])
        if self.coefficients is not None:
            combined = log_softmax(features(members) @ np.array(self.coefficients) + np.array(self.intercept))
        else:
            combined = _RULES.get(self.method, mean_probs)(members, np.array(self.weights))
        return combined if self.temperature == 1 else log_softmax(combined / self.temperature)

    def pruned(self) -> "Ensemble":
        """The same without the members of weight zero, which would cost time and change nothing."""
        kept = [index for index, weight in enumerate(self.weights) if weight > 0]
        lists = {key: [getattr(self, key)[index] for index in kept] for key in ("members", "weights", "temperatures")}
        return replace(self, **lists)

    def as_dict(self) -> dict:
        return {key: value for key, value in asdict(self).items() if value is not None}


def alone(member: str, temperature: float = 1.0) -> Ensemble:
    """A single model as an ensemble of one."""
    return Ensemble("alone", [member], [1.0], [temperature])


def uniform(members: Sequence[str]) -> Ensemble:
    """The mean of the members' probabilities as they are: the simple average."""
    count = len(members)
    return Ensemble("simple", list(members), [1 / count] * count, [1.0] * count)


def mean_probs(log_probs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """log Σ_m w_m p_m, the arithmetic mean of probabilities."""
    with np.errstate(divide="ignore"):  # a weight of zero is a member left out
        return logsumexp(np.log(weights)[:, None, None] + log_probs, axis=0)


def mean_logits(log_probs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """log softmax Σ_m w_m z_m, the geometric mean of probabilities."""
    return log_softmax(np.tensordot(weights, log_probs, axes=1))


def vote(log_probs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """log of the shares of votes, one vote a member and one more for their mean probability, which so breaks ties."""
    votes = np.eye(log_probs.shape[-1])[log_probs.argmax(axis=-1)].sum(axis=0)
    with np.errstate(divide="ignore"):
        return np.logaddexp(np.log(votes), mean_probs(log_probs, weights)) - np.log(len(log_probs) + 1)


def features(log_probs: np.ndarray) -> np.ndarray:
    """(members, samples, classes) to the (samples, members * classes), from -1 to 0, that stacking is fitted on."""
    scaled = np.maximum(log_probs, FLOOR) / -FLOOR
    return scaled.transpose(1, 0, 2).reshape(log_probs.shape[1], -1)


_RULES = {"mean_logits": mean_logits, "vote": vote}
