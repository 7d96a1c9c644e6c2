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


def test_weights_that_collapse_with_a_scale_a_channel_are_tried_with_one_a_tensor(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(quantisation, "COLLAPSED", -1.0)  # whatever it changes
    int8 = quantisation.to_int8(pair[0], tmp_path / "int8.onnx", IMAGES)
    shares, scales = {}, {}
    for per_channel in (True, False):
        path = tmp_path / f"{per_channel}.onnx"
        quantisation._quantise(pair[0], path, IMAGES, per_channel)
        decided, exact = (latency.onnx_logits(each, IMAGES).argmax(axis=1) for each in (path, pair[0]))
        shares[per_channel], scales[per_channel] = (decided != exact).mean(), largest_scale(path)
    assert scales[False] == 1 < scales[True]
    assert int8.changed == min(shares.values()) == shares[int8.per_channel]
    assert largest_scale(tmp_path / "int8.onnx") == scales[int8.per_channel]


def largest_scale(path):
    """How many scales the tensor of most scales has."""
    return max(onnx.numpy_helper.to_array(each).size for each in onnx.load(path).graph.initializer
               if each.name.endswith("_scale"))  # fmt: skip


def test_products_that_stay_in_fp32_are_counted(tmp_path):
    pixels = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [None, 4])
    answers = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [None, 4])
    weights = onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "weights")
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["images", "weights"], ["logits"])], "g",
                                   [pixels], [answers], [weights])  # fmt: skip
    onnx.save(onnx.helper.make_model(graph), tmp_path / "fp32.onnx")
    assert quantisation._fp32_products(tmp_path / "fp32.onnx") == {"MatMul": 1}
    assert str(quantisation.Int8(False, 0.5, {"MatMul": 1})) == (
        "a scale a tensor, 50.00 % other decisions on train, 1 MatMul left in fp32"
    )
