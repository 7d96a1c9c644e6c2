"""The logits cache: a teacher answers once for every view and every clean image, and students are taught from disk.

One folder a teacher: `train.npy` (views, samples, ...), `val.npy` and `test.npy` (1, samples, ...), logits as
pipeline.logits.topk encodes them, and `manifest.json` with what they were computed from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.params import Params
from pipeline.project import files, paths
from pipeline.project.data import Info
from pipeline.project.errors import PipelineError
from pipeline.training.views import Views


@dataclass(frozen=True)
class Fingerprint:
    """What cached logits belong to; a cache of another fingerprint is refused."""

    weights: list[str]
    data: dict[str, str]
    classes: list[str]
    views: dict[str, Any]
    logits: dict[str, Any]

    @classmethod
    def read(cls, settings: Params, teacher: str, info: Info) -> "Fingerprint":
        """What a teacher's cache must belong to, by params and the files of its weights."""
        weights = [paths.weights(name) for name in (teacher, *settings.fold_teachers(teacher))]
        views = Views.replayed(settings.views, settings.student_views, settings.seed)
        return cls([files.sha256(path) for path in weights], info.sha256, info.classes, vars(views),
                   settings.logits.model_dump())  # fmt: skip


def seal(folder: Path, fingerprint: Fingerprint) -> None:
    """Write the manifest: what the arrays in the folder belong to."""
    files.write_json(folder / "manifest.json", vars(fingerprint))


def open_cache(folder: Path, split: str, fingerprint: Fingerprint) -> np.ndarray:
    """Memory-map one split's logits, or say in a sentence which part of the manifest differs from `fingerprint`."""
    manifest = files.read_json(folder / "manifest.json")
    if not isinstance(manifest, dict):
        raise PipelineError(f"{folder / 'manifest.json'} is not what `cache_logits` wrote; delete it, `dvc repro`.")
    for key, expected in vars(fingerprint).items():
        if manifest.get(key) != expected:
            raise PipelineError(
                f"The logits in {folder} were cached from other {_MEANINGS[key]}; `dvc repro` caches them anew."
            )
    return files.open_array(folder / f"{split}.npy")


_MEANINGS = {
    "weights": "weights of the teacher",
    "data": "prepared data",
    "classes": "class names",
    "views": "`seed`, `views` or `student_views` in params.yaml",
    "logits": "`logits` in params.yaml",
}
