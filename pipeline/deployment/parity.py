"""Whether an exported file is the model that it was exported from."""

import math
from pathlib import Path

from pipeline.project.errors import PipelineError

OTHERWISE = 0.001  # share of decisions that rounding may change; one is always allowed, as it may be a tie


def check(path: Path, agreement: dict[str, float]) -> None:
    """Refuse a file that decides otherwise than what it was exported from.

    Args:
        agreement: of pipeline.scoring.metrics.agreement, on val.
    Raises:
        PipelineError: more decisions differ than OTHERWISE, or logits are no numbers.
    """
    changed, images, largest = (agreement[key] for key in ("changed_decisions", "images", "largest_difference"))
    if changed > max(1, OTHERWISE * images) or not math.isfinite(largest):
        raise PipelineError(
            f"{path} is another model than the one it was exported from: {changed} of {images} decisions on val "
            f"differ, more than {100 * OTHERWISE:g} %, and logits by up to {largest:.3g}. torch's exporter or ONNX "
            "Runtime computes this model wrongly; use another `model`."
        )
