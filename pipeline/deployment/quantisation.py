"""Static INT8 of an exported model, calibrated on real images."""

import tempfile
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
        starts = range(0, len(images), BATCH)
        self.batches = ({"images": np.array(images[start : start + BATCH])} for start in starts)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


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
    with tempfile.TemporaryDirectory() as folder, files.atomic_write(target) as temporary:
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
