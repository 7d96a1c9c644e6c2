"""What an interrupted stage goes on from: its state, written at a steady interval and removed when it is done.

A checkpoint lies beside the stage's outputs under a hidden name, so DVC neither caches nor deletes it. It belongs to
params, data, code and a machine; the state of any others is not used, so a run that was interrupted gives the bytes of
one that was not.
"""

import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.project import files
from pipeline.project.machine import processor

INTERVAL = float(os.environ.get("CHECKPOINT_SECONDS", 30))
PACKAGES = ("pipeline", "stages")
DIGEST = hashlib.sha256().digest_size


class Checkpoint:
    """The state of one stage on disk.

    Args:
        path: where it lies.
        name: what messages call the stage.
        params: what the stage was asked for, as JSON has it.
        data: digests of what it reads.
        device: what it computes on; the thread count must have been set.
    """

    def __init__(self, path: Path, name: str, params: Any, data: Any, device: torch.device) -> None:
        self.path, self.name = path, name
        machine = [processor(), device.type, torch.get_num_threads(), torch.__version__]
        parts = {"params": params, "data": data, "code": _code(), "machine": machine}
        texts = {part: json.dumps(value, sort_keys=True) for part, value in parts.items()}
        self.belongs = {part: hashlib.sha256(text.encode()).hexdigest() for part, text in texts.items()}
        self._written, self.seconds = time.monotonic(), 0.0

    def due(self) -> bool:
        """Has the interval passed since the last one?"""
        return time.monotonic() - self._written >= INTERVAL

    def save(self, state: dict[str, Any]) -> None:
        """Write a state of tensors, numbers, strings, and lists and dictionaries of them."""
        body = io.BytesIO()
        torch.save({"belongs": self.belongs, "state": state}, body)
        content = body.getvalue()
        with files.atomic_write(self.path) as temporary, temporary.open("wb") as file:
            file.write(hashlib.sha256(content).digest())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._written = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state to go on from, if there is one of these very params, data, code and machine, and it is whole."""
        if not self.path.exists():
            return None
        content = self.path.read_bytes()
        if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
            return self._refuse("is damaged")
        try:
            saved = torch.load(io.BytesIO(content[DIGEST:]), map_location="cpu", weights_only=True)
        except Exception:  # torch raises what it likes; that the bytes are whole has been checked
            return self._refuse("was written by another version of torch")
        others = [part for part, digest in self.belongs.items() if saved["belongs"].get(part) != digest]
        if others:
            return self._refuse(f"belongs to other {' and '.join(others)}")
        return saved["state"]

    def _refuse(self, why: str) -> None:
        print(f"{self.name}: the checkpoint {self.path} {why} and is not used; starting anew", flush=True)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def grow(
        self, path: Path, shape: tuple[int, ...], dtype: np.dtype, chunks: Callable[[int], Iterator[np.ndarray]]
    ) -> None:
        """Write an array of that shape to `path` from consecutive parts of it, going on after those that are there.

        `seconds` is then what all of them took, those before an interruption too.

        Args:
            chunks: the parts from that number on. How they are cut must not change from run to run.
        """
        state, digest = self.load(), hashlib.sha256()
        if state and path.exists():
            os.truncate(path, state["bytes"])  # what came after the checkpoint comes again
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        if state and digest.hexdigest() != state["sha256"]:
            state = self._refuse(f"does not fit {path}")
        if not state:
            header = files.array_header(shape, dtype)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(header)
            state, digest = {"chunks": 0, "bytes": len(header), "seconds": 0.0}, hashlib.sha256(header)
        began = time.perf_counter() - state["seconds"]
        with files.naming(path), path.open("ab") as file:
            written = state["chunks"]
            for chunk in chunks(written):
                part = np.ascontiguousarray(chunk, dtype).tobytes()
                file.write(part)
                digest.update(part)
                written += 1
                if self.due():
                    self._mark(file, written, digest, time.perf_counter() - began)
            self.seconds = time.perf_counter() - began
            self._mark(file, written, digest, self.seconds)

    def _mark(self, file: Any, chunks: int, digest: Any, seconds: float) -> None:
        file.flush()
        os.fsync(file.fileno())
        self.save({"chunks": chunks, "bytes": file.tell(), "sha256": digest.hexdigest(), "seconds": seconds})


def _code() -> dict[str, str]:
    """The digest of every module of this project that has been imported."""
    specs = [module.__spec__ for module in list(sys.modules.values()) if getattr(module, "__spec__", None)]
    ours = {spec.name: spec.origin for spec in specs if spec.name.partition(".")[0] in PACKAGES and spec.origin}
    return {name: files.sha256(Path(origin)) for name, origin in sorted(ours.items())}
