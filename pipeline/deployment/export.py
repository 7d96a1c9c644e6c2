"""ONNX out of torch."""

import io
import json
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch

from pipeline.project import files
from pipeline.training.models import Classifier


def to_onnx(model: Classifier, path: Path) -> None:
    """Write `model` with uint8 images in, normalisation inside, a dynamic batch, and the class names as metadata.

    `images`: (batch, height, width, channels) uint8 to `logits`: (batch, classes) float32.
    """
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
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output, proto.graph):
        part.ClearField("metadata_props")  # of the exporter: where in this machine's folders each node's code stands
    onnx.helper.set_model_props(proto, {"classes": json.dumps(info.classes)})
    with files.atomic_write(path) as temporary:
        onnx.save(proto, temporary)
