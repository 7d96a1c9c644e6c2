"""What a classifier is worth, and how sure that is. Everything takes numpy arrays."""

import numpy as np

ECE_BINS = 15


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def correct(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(samples,) bool: the largest score is the label's. scores: (samples, classes)."""
    return scores.argmax(axis=-1) == labels


def nll(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the labels, in nats. log_probs: (samples, classes)."""
    return float(0.0 - log_probs[np.arange(len(labels)), labels].mean())  # which of certain answers is 0, not -0


def reliability(log_probs: np.ndarray, labels: np.ndarray, bins: int = ECE_BINS) -> list[dict[str, float]]:
    """Confidence, accuracy and share of each non-empty bin of equal width over (0, 1] (Guo et al. 2017, eq. 2)."""
    confidence = np.exp(log_probs.max(axis=1))
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    hits = correct(log_probs, labels)
    rows = []
    for index in np.unique(bin_of):
        inside = bin_of == index
        rows.append(
            {
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(hits[inside].mean()),
                "share": float(inside.mean()),
            }
        )
    return rows


def ece(log_probs: np.ndarray, labels: np.ndarray, bins: int = ECE_BINS) -> float:
    """Expected calibration error (Guo et al. 2017, eq. 3)."""
    rows = reliability(log_probs, labels, bins)
    return sum(row["share"] * abs(row["confidence"] - row["accuracy"]) for row in rows)


def entropy(log_probs: np.ndarray) -> float:
    """Mean entropy of the predicted distributions, in nats: how unsure a model is of itself."""
    return float(-(np.exp(log_probs) * log_probs).sum(axis=1).mean())


def brier(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance between the probabilities and the label's one-hot vector, from 0 to 2 (Brier 1950)."""
    probabilities = np.exp(log_probs)
    probabilities[np.arange(len(labels)), labels] -= 1
    return float((probabilities**2).sum(axis=1).mean())


def balanced_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes that there are of the share of each that is right. scores: (samples, classes)."""
    counts = np.bincount(labels)
    right = np.bincount(labels, correct(scores, labels))
    return float((right[counts > 0] / counts[counts > 0]).mean())


def is_balanced(labels: np.ndarray) -> bool:
    """Every class that there is has as many samples, so that accuracy is balanced accuracy."""
    return len(set(np.unique(labels, return_counts=True)[1])) <= 1


def scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The numbers that every model is compared by; log-probabilities serve as logits.

    Balanced accuracy is among them where it can differ from accuracy.
    """
    log_probs = log_softmax(logits)
    balanced = {} if is_balanced(labels) else {"balanced_accuracy": balanced_accuracy(logits, labels)}
    return {
        "accuracy": float(correct(logits, labels).mean()),
        **balanced,
        "nll": nll(log_probs, labels),
        "brier": brier(log_probs, labels),
        "ece": ece(log_probs, labels),
    }


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes) counts, rows the label, columns the prediction."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def agreement(expected: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """How far two runtimes' (samples, classes) logits are apart, and how many decisions differ."""
    return {
        "images": len(expected),
        "largest_difference": float(np.abs(expected - other).max()),
        "changed_decisions": int((expected.argmax(axis=1) != other.argmax(axis=1)).sum()),
    }
