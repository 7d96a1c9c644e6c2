"""An architecture in eager torch, timed beside ONNX Runtime."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.params import Architecture, Compute
from pipeline.project.data import Info
from pipeline.training import devices, models


@dataclass(frozen=True)
class Eager:
    """A model with random weights, on which its speed does not depend; an answer is there once it is on the CPU."""

    architecture: Architecture
    info: Info
    compute: Compute

    def __call__(self, threads: int) -> Callable[[np.ndarray], object]:
        device = devices.device(self.compute)
        if threads:
            torch.set_num_threads(threads)
        model = models.build(self.architecture, self.info).eval().to(device)

        def run(images: np.ndarray) -> object:
            with torch.inference_mode():
                return model(torch.from_numpy(images).to(device)).cpu()

        return run
