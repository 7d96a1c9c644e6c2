from collections import Counter

import numpy as np
import onnx
import pytest
import torch

from pipeline.deployment import export, latency, quantisation
from pipeline.project.data import Info
from pipeline.project.errors import PipelineError
from tests import toys

INFO = Info(["a", "b", "c"], 16, [0.4], [0.2], {})
IMAGES = toys.images(64, size=16)


def operators(path):
    """How often each operator that multiplies occurs, by whether its input and weights are integers.

    `Conv` counts those in floating point, `int8 Conv` those between dequantised input and dequantised weights, which a
    runtime computes in integers.
    """
    graph = onnx.load(path).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    counts = Counter()
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            integer = all(made_by.get(name) == "DequantizeLinear" for name in node.input[:2])
            counts[f"int8 {node.op_type}" if integer else node.op_type] += 1
    return counts


@pytest.fixture(scope="module", params=["test_resnet", "test_byobnet"])
def pair(request, tmp_path_factory):
    """A trained-like model's ONNX file and its INT8 version."""
    folder = tmp_path_factory.mktemp("int8")
    model = toys.classifier(architecture=toys.architecture(model=request.param, kwargs={}), info=INFO).train()
    with torch.no_grad():
        for _ in range(5):
            model(torch.from_numpy(IMAGES))
    export.to_onnx(model.eval(), folder / "fp32.onnx")
    quantisation.to_int8(folder / "fp32.onnx", folder / "int8.onnx", IMAGES)
    return folder / "fp32.onnx", folder / "int8.onnx"


def test_every_convolution_and_product_is_in_integers(pair):
    before, after = (operators(path) for path in pair)
    assert before["Conv"] > 5 and "int8 Conv" not in before
    assert after == {f"int8 {kind}": count for kind, count in before.items()}


def test_the_file_is_much_smaller(pair):
    before, after = (path.stat().st_size for path in pair)
    assert before / after > 2.5


def test_no_two_products_overflow_16_bits(pair):
    """Where a processor has no VNNI, they are added in 16 bits."""
    graph = onnx.load(pair[1]).graph
    made = {node.input[0]: node.op_type for node in graph.node}
    arrays = [
        onnx.numpy_helper.to_array(each) for each in graph.initializer if made.get(each.name) == "DequantizeLinear"
    ]
    weights = [each for each in arrays if each.dtype == np.int8 and each.ndim > 1]
    assert len(weights) > 5
    largest = max(int(np.abs(each.astype(int)).max()) for each in weights)
    assert largest > 32 and 2 * 255 * largest < 2**15


def test_answers_are_nearly_the_same_on_other_images(pair):
    before, after = (latency.onnx_logits(path, toys.images(200, size=16, seed=1)) for path in pair)
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.99


def test_the_same_images_give_the_same_bytes(pair, tmp_path):
    quantisation.to_int8(pair[0], tmp_path / "again.onnx", IMAGES)
    assert (tmp_path / "again.onnx").read_bytes() == pair[1].read_bytes()


def test_class_names_survive(pair):
    for path in pair:
        assert "classes" in latency.session(path, 1).get_modelmeta().custom_metadata_map


def test_a_model_that_can_not_be_calibrated_is_a_sentence_and_leaves_no_file(tmp_path):
    model = toys.classifier()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    export.to_onnx(model, tmp_path / "fp32.onnx")
    with pytest.raises(PipelineError, match=r"answers NaN.*stem_stride: 1"):
        quantisation.to_int8(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", toys.images(64))
    assert [path.name for path in tmp_path.iterdir()] == ["fp32.onnx"]
