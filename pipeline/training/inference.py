"""What a model says of clean images, and in which precision it computes."""

import numpy as np
import torch
from torch import Tensor

from pipeline.training import devices
from pipeline.training.models import Classifier
from pipeline.training.ranks import ALONE, Ranks

BATCH = {"cpu": 128, "cuda": 2048, "mps": 1024}  # on a CPU, what fits its cache is nearly twice as fast


@torch.inference_mode()
def predict(
    model: Classifier, images: np.ndarray | Tensor, device: torch.device, *, exact: bool, ranks: Ranks = ALONE
) -> np.ndarray:
    """(samples, classes) float32 logits of images in eval mode, in fp32 where `exact`, as the exported model.

    Ranks take whole batches in turn, so that the bits don't depend on how many there are.
    """
    model.eval().to(device)
    size = BATCH[device.type]
    starts = range(0, len(images), size)
    logits = []
    for start in starts[ranks.number :: ranks.world]:
        batch = images[start : start + size]
        batch = (batch if isinstance(batch, Tensor) else torch.from_numpy(np.array(batch))).to(device)
        with precision(model, device, exact):
            logits.append(model(batch).cpu().numpy())
    of_rank = ranks.gather(logits)
    return np.concatenate([of_rank[number % ranks.world][number // ranks.world] for number in range(len(starts))])


def precision(model: Classifier, device: torch.device, exact: bool = False) -> torch.autocast:
    """The model's own precision, `auto` being bf16 where the device computes in it; fp32 where `exact`."""
    wanted = model.architecture.precision
    bf16 = wanted == "bf16" or (wanted == "auto" and devices.computes_in_bf16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16 and not exact)
