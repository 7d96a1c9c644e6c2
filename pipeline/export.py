"""ONNX out of torch, checked against torch on real images."""

import io
import json
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch

from pipeline import files
from pipeline.latency import onnx_logits
from pipeline.models import Classifier
from pipeline.training import predict


def to_onnx(model: Classifier, path: Path) -> None:
    """Write `model` with uint8 images in, normalisation inside, a dynamic batch, and the class names as metadata."""
    import onnx

    info = model.info
    example = torch.zeros(2, info.image_size, info.image_size, len(info.mean), dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter's own making
        program = torch.onnx.export(
            model.cpu().eval(),
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"classes": json.dumps(info.classes)})
    with files.replacing(path) as temporary:
        onnx.save(proto, temporary)


def parity(model: Classifier, path: Path, images: np.ndarray) -> dict[str, float]:
    """The largest difference of logits between torch and the exported file, and how many decisions it changes."""
    expected = predict(model, images, torch.device("cpu"), exact=True)
    exported = onnx_logits(path, images)
    return {
        "images": len(images),
        "largest_difference": float(np.abs(expected - exported).max()),
        "changed_decisions": int((expected.argmax(1) != exported.argmax(1)).sum()),
    }
