"""Static INT8 of an exported model, calibrated on real images."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from pipeline.deployment import latency
from pipeline.project import files
from pipeline.project.errors import PipelineError

BATCH = 100  # images whose ranges are taken at once


class _Images(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self.batches: Iterator[np.ndarray] = (
            np.array(images[start : start + BATCH]) for start in range(0, len(images), BATCH)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch}


def to_int8(source: Path, target: Path, images: np.ndarray) -> None:
    """Write the INT8 version of an ONNX file: weights per output channel, activations by the range they have on images.

    Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference".
    Weights are signed and activations unsigned, which x86 processors multiply fastest. Weights have 7 bits, as those
    without VNNI add each two products in 16 bits, where products of 8 bits overflow without a word.

    Args:
        images: (samples, height, width, channels) uint8, to calibrate with; not those that accuracy is read on.
    Raises:
        PipelineError: ONNX Runtime answers NaN when it runs operator by operator, as it must to read ranges.
    """
    logging.getLogger().addFilter(_unprepared)
    with tempfile.TemporaryDirectory() as folder, files.replacing(target) as temporary:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        if not np.isfinite(latency.onnx_logits(prepared, images, optimised=False)).all():
            raise PipelineError(
                f"{source} can't become INT8: operator by operator ONNX Runtime answers NaN, as it does for a 3x3 "
                "convolution of stride 2 on a map of one pixel; give the model `stem_stride: 1`, or use larger images."
            )
        quantize_static(
            prepared,
            temporary,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
        )


def _unprepared(record: logging.LogRecord) -> bool:
    return "pre-processing before quantization" not in record.getMessage()


def operators(path: Path) -> dict[str, int]:
    """How often each operator that multiplies occurs, by whether its input and weights are integers.

    `Conv` counts those in floating point, `int8 Conv` those between dequantised input and dequantised weights, which a
    runtime computes in integers.
    """
    import onnx

    graph = onnx.load(path).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    counts: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            integer = all(made_by.get(name) == "DequantizeLinear" for name in node.input[:2])
            kind = f"int8 {node.op_type}" if integer else node.op_type
            counts[kind] = counts.get(kind, 0) + 1
    return counts
