"""An ensemble as one ONNX graph: images in, log-probabilities out, weights and temperatures inside.

Here because `onnx.compose.merge_models` joins the outputs of one model to the inputs of the next, and has none for
models side by side under one input.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from pipeline.ensembles.ensemble import FLOOR, Ensemble
from pipeline.project import files

OUTPUT = "logits"  # as single models call theirs; log-probabilities are logits


def fuse(system: Ensemble, members: dict[str, Path], path: Path) -> None:
    """Write the graph of what `Ensemble.log_probs` computes from its members' logits, in float32.

    Args:
        members: the ONNX file of each member.
    """
    parts = [onnx.load(members[name]) for name in system.members]
    graph = _Graph(parts)
    answers = [graph.log_softmax(graph.divide(logits, temperature))
               for logits, temperature in zip(graph.logits, system.temperatures, strict=True)]  # fmt: skip
    combined = _combine(graph, system, answers)
    if system.temperature != 1:
        combined = graph.log_softmax(graph.divide(combined, system.temperature))
    graph.add("Identity", combined, output=OUTPUT)
    with files.atomic_write(path) as temporary:
        onnx.save(graph.model(), temporary)


def _combine(graph: "_Graph", system: Ensemble, answers: list[str]) -> str:
    weights = np.array(system.weights, np.float32)[:, None, None]
    if system.coefficients is not None:
        scaled = [graph.divide(graph.add("Max", each, graph.constant(FLOOR)), -FLOOR) for each in answers]
        features = graph.add("Concat", *scaled, axis=1)
        product = graph.add("MatMul", features, graph.constant(system.coefficients))
        return graph.log_softmax(graph.add("Add", product, graph.constant(system.intercept)))
    rows = graph.add("Concat", *answers, axis=1)
    rows = graph.add("Reshape", rows, graph.constant([-1, len(answers), graph.classes], np.int64))
    rows = graph.add("Transpose", rows, perm=[1, 0, 2])  # (members, samples, classes)
    first = graph.constant([0], np.int64)
    if system.method == "mean_logits":
        return graph.log_softmax(graph.add("ReduceSum", graph.add("Mul", rows, graph.constant(weights)), first,
                                           keepdims=0))  # fmt: skip
    with np.errstate(divide="ignore"):
        weighted = graph.add("Add", rows, graph.constant(np.log(weights)))
    mean = graph.add("ReduceLogSumExp", weighted, first, keepdims=0)
    if system.method != "vote":
        return mean
    ballots = graph.add("OneHot", graph.add("ArgMax", rows, axis=2, keepdims=0),
                        graph.constant(graph.classes, np.int64), graph.constant([0.0, 1.0]))  # fmt: skip
    votes = graph.add("Add", graph.add("ReduceSum", ballots, first, keepdims=0), graph.add("Exp", mean))
    return graph.add("Log", graph.divide(votes, len(answers) + 1))


class _Graph:
    """The members' graphs side by side under one input, and the nodes that are added to them."""

    def __init__(self, parts: list[ModelProto]) -> None:
        self._opset = max(opset.version for part in parts for opset in part.opset_import if opset.domain == "")
        self._ir_version = parts[0].ir_version
        self._properties = {entry.key: entry.value for entry in parts[0].metadata_props}
        self._input = parts[0].graph.input[0]
        self.classes = parts[0].graph.output[0].type.tensor_type.shape.dim[1].dim_value
        self._nodes, self._constants, self.logits = [], [], []
        for number, part in enumerate(parts):
            renamed = onnx.compose.add_prefix_graph(part.graph, f"member{number}/", rename_inputs=False)
            self._nodes += renamed.node
            self._constants += renamed.initializer
            self.logits.append(renamed.output[0].name)

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: object) -> str:
        name = output or f"combine/{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: object, dtype: type = np.float32) -> str:
        name = f"constant/{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def divide(self, name: str, by: float) -> str:
        return self.add("Div", name, self.constant(by)) if by != 1 else name

    def log_softmax(self, name: str) -> str:
        return self.add("LogSoftmax", name, axis=1)

    def model(self) -> ModelProto:
        output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", self.classes])
        graph = helper.make_graph(self._nodes, "ensemble", [self._input], [output], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)])
        model.ir_version = self._ir_version
        helper.set_model_props(model, self._properties)
        onnx.checker.check_model(model)
        return model
