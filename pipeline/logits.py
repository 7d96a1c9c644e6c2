"""The logits cache: a teacher looks once at every look and every clean image, and every student is taught from disk.

One folder a teacher: `train.npy` (looks, samples, classes), `val.npy` and `test.npy` (1, samples, classes), float16
logits, and `manifest.json` with what they were computed from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pipeline import files
from pipeline.data import Info, Split
from pipeline.errors import PipelineError
from pipeline.models import Classifier
from pipeline.params import Views
from pipeline.training import predict
from pipeline.views import render

CHUNK = 2000  # samples rendered at once


@dataclass(frozen=True)
class Origin:
    """What cached logits belong to; a cache of another origin is refused."""

    weights: str
    data: dict[str, str]
    classes: list[str]
    views: dict[str, Any]
    view_seed: int

    @classmethod
    def of(cls, weights: Path, info: Info, views: Views, view_seed: int) -> "Origin":
        return cls(files.sha256(weights), info.sha256, info.classes, views.model_dump(), view_seed)


def looks(model: Classifier, split: Split, views: Views, view_seed: int, device: torch.device, name: str) -> np.ndarray:
    """(looks, samples, classes) float16 logits of every augmented look that training replays."""
    logits = np.empty((views.count, len(split), len(model.info.classes)), np.float16)
    starts = [(view, start) for view in range(views.count) for start in range(0, len(split), CHUNK)]
    for view, start in tqdm(starts, f"{name}: looks", leave=False, disable=None):
        ids = np.arange(start, min(start + CHUNK, len(split)))
        pixels = render(split.images[ids], ids, view, view_seed, views)
        logits[view, ids] = _half(predict(model, pixels, device, exact=False))
    return logits


def clean(model: Classifier, split: Split, device: torch.device) -> np.ndarray:
    """(1, samples, classes) float16 logits of the images as they are, computed as the exported model does."""
    return _half(predict(model, split.images, device, exact=True))[None]


def _half(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = logits.astype(np.float16)
    if not np.isfinite(half).all():
        raise PipelineError("A teacher's logits do not fit into float16; lower its `lr` or its `epochs`.")
    return half


def save(folder: Path, arrays: dict[str, np.ndarray], origin: Origin) -> None:
    for split, array in arrays.items():
        files.write_array(folder / f"{split}.npy", array)
    digests = {split: files.sha256(folder / f"{split}.npy") for split in arrays}
    files.write_json(folder / "manifest.json", {**vars(origin), "sha256": digests})


def open_cache(folder: Path, split: str, origin: Origin) -> np.ndarray:
    """Memory-map one split's logits, or say in a sentence which part of the manifest differs from `origin`."""
    manifest = files.read_json(folder / "manifest.json")
    for key, expected in vars(origin).items():
        if manifest.get(key) != expected:
            raise PipelineError(
                f"The logits in {folder} were cached from other {_MEANINGS[key]}; `dvc repro` caches them anew."
            )
    path = folder / f"{split}.npy"
    array = files.open_array(path)
    if files.sha256(path) != manifest["sha256"][split]:
        raise PipelineError(f"{path} is not what `cache_logits` wrote (its checksum differs); delete it, `dvc repro`.")
    return array


_MEANINGS = {
    "weights": "weights of the teacher",
    "data": "prepared data",
    "classes": "class names",
    "views": "`views` in params.yaml",
    "view_seed": "`seed` in params.yaml",
}
