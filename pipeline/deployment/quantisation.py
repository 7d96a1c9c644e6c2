"""Static INT8 of an exported model, calibrated on real images."""

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from pipeline.deployment import latency
from pipeline.project import files
from pipeline.project.errors import PipelineError

BATCH = 100  # images whose ranges are taken at once
COLLAPSED = 0.05  # share of decisions that INT8 changes, from which on one scale a channel is not taken for granted
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")  # the operators that take the time


class _Images(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        starts = range(0, len(images), BATCH)
        self.batches = ({"images": np.array(images[start : start + BATCH])} for start in starts)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


@dataclass(frozen=True)
class Int8:
    """How a file became INT8.

    per_channel: False where one scale a tensor was better. changed: the share of decisions on the images that it was
    calibrated on that are not those of fp32. fp32_products: convolutions and matrix products left in fp32, by operator.
    """

    per_channel: bool
    changed: float
    fp32_products: dict[str, int]

    def __str__(self) -> str:
        left = ", ".join(f"{count} {kind}" for kind, count in self.fp32_products.items()) or "no product"
        scales = "channel" if self.per_channel else "tensor"
        return f"a scale a {scales}, {100 * self.changed:.2f} % other decisions on train, {left} left in fp32"


def to_int8(source: Path, target: Path, images: np.ndarray) -> Int8:
    """Write the INT8 version of an ONNX file: weights per output channel, activations by the range they have on images.

    Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference".
    Weights are signed and activations unsigned, which x86 processors multiply fastest. Weights have 7 bits, as those
    without VNNI add each two products in 16 bits, where products of 8 bits overflow without a word. Where more than
    COLLAPSED of the decisions on `images` change, weights with one scale a tensor are tried too, and what changes fewer
    of them is kept.

    Args:
        images: (samples, height, width, channels) uint8, to calibrate with; not those that accuracy is read on.
    Raises:
        PipelineError: ONNX Runtime answers NaN when it runs operator by operator, as it must to read ranges.
    """
    with tempfile.TemporaryDirectory() as folder, files.atomic_write(target) as temporary:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        expected = latency.onnx_logits(prepared, images, optimised=False)
        if not np.isfinite(expected).all():
            raise PipelineError(
                f"{source} can't become INT8: operator by operator ONNX Runtime answers NaN, as it does for a 3x3 "
                "convolution of stride 2 on a map of one pixel; give the model `stem_stride: 1`, or use larger images."
            )
        tried: list[tuple[float, bool, Path]] = []
        for per_channel in (True, False):
            path = Path(folder) / f"{per_channel}.onnx"
            _quantise(prepared, path, images, per_channel)
            decided = latency.onnx_logits(path, images).argmax(axis=1)
            tried.append((float((decided != expected.argmax(axis=1)).mean()), per_channel, path))
            if tried[0][0] <= COLLAPSED:
                break
        changed, per_channel, path = min(tried, key=lambda each: each[0])
        shutil.copyfile(path, temporary)
        return Int8(per_channel, changed, _fp32_products(path))


def _quantise(source: Path, target: Path, images: np.ndarray, per_channel: bool) -> None:
    quantize_static(
        source,
        target,
        _Images(images),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        reduce_range=True,
    )


def _fp32_products(path: Path) -> dict[str, int]:
    graph = onnx.load(path).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    left = Counter(
        node.op_type
        for node in graph.node
        if node.op_type in PRODUCTS and any(made_by.get(name) != "DequantizeLinear" for name in node.input[:2])
    )
    return dict(sorted(left.items()))
