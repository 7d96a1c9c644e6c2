"""The logits cache: a teacher looks once at every look and every clean image, and every student is taught from disk.

One folder a teacher: `train.npy` (looks, samples, ...), `val.npy` and `test.npy` (1, samples, ...), logits as
pipeline.logits.topk encodes them, and `manifest.json` with what they were computed from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.params import Logits
from pipeline.project import files
from pipeline.project.data import Info
from pipeline.project.errors import PipelineError
from pipeline.training.views import Looks


@dataclass(frozen=True)
class Origin:
    """What cached logits belong to; a cache of another origin is refused."""

    weights: list[str]
    data: dict[str, str]
    classes: list[str]
    views: dict[str, Any]
    view_seed: int
    logits: dict[str, Any]

    @classmethod
    def of(cls, weights: list[Path], info: Info, looks: Looks, stored: Logits) -> "Origin":
        views = looks.spec.model_dump()
        return cls(
            [files.sha256(path) for path in weights], info.sha256, info.classes, views, looks.seed, stored.model_dump()
        )


def seal(folder: Path, origin: Origin) -> None:
    """Write the manifest: what the arrays belong to, and their checksums."""
    digests = {path.stem: files.sha256(path) for path in sorted(folder.glob("*.npy"))}
    files.write_json(folder / "manifest.json", {**vars(origin), "sha256": digests})


def open_cache(folder: Path, split: str, origin: Origin) -> np.ndarray:
    """Memory-map one split's logits, or say in a sentence which part of the manifest differs from `origin`."""
    manifest = files.read_json(folder / "manifest.json")
    if not isinstance(manifest, dict) or "sha256" not in manifest:
        raise PipelineError(f"{folder / 'manifest.json'} is not what `cache_logits` wrote; delete it, `dvc repro`.")
    for key, expected in vars(origin).items():
        if manifest.get(key) != expected:
            raise PipelineError(
                f"The logits in {folder} were cached from other {_MEANINGS[key]}; `dvc repro` caches them anew."
            )
    path = folder / f"{split}.npy"
    array = files.open_array(path)
    if files.sha256(path) != manifest["sha256"].get(split):
        raise PipelineError(f"{path} is not what `cache_logits` wrote (its checksum differs); delete it, `dvc repro`.")
    return array


_MEANINGS = {
    "weights": "weights of the teacher",
    "data": "prepared data",
    "classes": "class names",
    "views": "`views` in params.yaml",
    "view_seed": "`seed` in params.yaml",
    "logits": "`logits` in params.yaml",
}
