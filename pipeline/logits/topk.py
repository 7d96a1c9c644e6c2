"""Logits as they lie on disk: all of them in float16, or, for many classes, the k largest and what the rest is."""

import numpy as np
from scipy.special import logsumexp

from pipeline.project.errors import PipelineError


def row_type(classes: int, top_k: int | None) -> tuple[np.dtype, tuple[int, ...]]:
    """The dtype and the trailing shape of encoded rows; 46 bytes a row for k = 10 of 1,000 classes."""
    if top_k is None:
        return np.dtype(np.float16), (classes,)
    if top_k >= classes:
        raise PipelineError(f"`logits.top_k` is {top_k}, but there are only {classes} classes; null keeps all of them.")
    ids = np.min_scalar_type(classes - 1)
    return np.dtype([("logits", "<f2", top_k), ("classes", ids, top_k), ("rest", "<f4"), ("rest_mean", "<f2")]), ()


def encode(logits: np.ndarray, top_k: int | None) -> np.ndarray:
    """(samples, classes) logits to rows: float16, or the k largest, their classes, and the rest's log-sum-exp and mean.

    Raises:
        PipelineError: a logit does not fit into float16.
    """
    dtype, shape = row_type(logits.shape[1], top_k)
    if not (np.abs(logits) <= np.finfo(np.float16).max).all():
        raise PipelineError("A teacher's logits do not fit into float16; lower its `lr` or its `epochs`.")
    if top_k is None:
        return logits.astype(dtype)
    order = np.argpartition(-logits, top_k, axis=1)
    top, rest = order[:, :top_k], np.take_along_axis(logits, order[:, top_k:], axis=1)
    rows = np.empty((len(logits), *shape), dtype)
    rows["classes"], rows["logits"] = top, np.take_along_axis(logits, top, axis=1)
    rows["rest"], rows["rest_mean"] = logsumexp(rest.astype(np.float64), axis=1), rest.mean(axis=1)
    return rows


def decode(rows: np.ndarray, classes: int, temperature: float = 1.0) -> np.ndarray:
    """Rows to (samples, classes) float32 logits, whose softmax at `temperature` is meant.

    Of top-k rows, the rest shares its mass evenly. At temperature 1 that mass is exact; at others the rest's logits are
    taken as normal, with the variance that their mean and their log-sum-exp imply.
    """
    if rows.dtype.names is None:
        return rows.astype(np.float32)
    rest_mean = rows["rest_mean"].astype(np.float32)
    excess = rows["rest"] - np.log(np.float32(classes - rows["classes"].shape[1])) - rest_mean  # variance / 2
    logits = np.empty((len(rows), classes), np.float32)
    logits[:] = (rest_mean + np.maximum(excess, 0) / np.float32(temperature))[:, None]
    np.put_along_axis(logits, rows["classes"].astype(np.int64), rows["logits"].astype(np.float32), axis=1)
    return logits
