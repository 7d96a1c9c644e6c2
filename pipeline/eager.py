"""A model in eager torch, timed beside ONNX Runtime."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline import compute, models
from pipeline.params import Compute


@dataclass(frozen=True)
class Eager:
    """Loads the weights of one model in the process that times it; an answer is there once it is on the CPU."""

    file: Path
    compute: Compute

    def __call__(self, threads: int) -> Callable[[np.ndarray], object]:
        device = compute.device(self.compute)
        if threads:
            torch.set_num_threads(threads)
        model = models.load(self.file).to(device)

        def run(images: np.ndarray) -> object:
            with torch.inference_mode():
                return model(torch.from_numpy(images).to(device)).cpu()

        return run
