"""Q/DQ pairs where TensorRT fuses them: a pass over the graph of our own.

TensorRT computes a convolution, the addition behind it and their Relu in one 8-bit kernel if there are pairs on the
inputs of the convolution and on the skip input alone of the addition (its guide, "Q/DQ placement recommendations"). No
quantiser that installs beside the other libraries places them so: NNCF and ONNX Runtime's quantise both inputs of an
addition, and whoever leaves additions out loses the skip inputs that come from a convolution. Ranges are NNCF's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stagebench.errors import StagebenchError
from stagebench.model.checks import INPUT, OUTPUT

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Operations in front of the network, which stay in float32.
_PREPROCESSING = ("Cast", "Transpose", "Sub", "Div")
# Operations that hand values on as they are, behind which the range is the one before them.
_PASSING = ("MaxPool", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Identity", "Slice")
# Largest value of an 8-bit float with four bits of exponent.
_LARGEST_FP8 = 448.0
_SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
# TensorRT's fp8 kernels take channels in multiples of this; what does not fit falls back to slower arithmetic.
_FP8_CHANNELS = 16


@dataclass(frozen=True)
class Ranges:
    """What calibration says of activations by the tensor's name: its largest magnitude, and its channels' means."""

    magnitudes: Mapping[str, float]
    means: Mapping[str, NDArray[np.float32]]


def place(model: onnx.ModelProto, ranges: Ranges, *, fp8: bool, weight_bits: int, exclude: Collection[str]) -> None:
    """Quantise a simplified model in place, with fp16 as the precision of all else behind the preprocessing.

    Args:
        fp8: in fp8 instead of int8; what TensorRT has no fp8 kernels for stays in fp16.
        weight_bits: bits of int8 weights.
        exclude: names of nodes that stay in fp16.

    Raises:
        StagebenchError: there is nothing to quantise.
    """
    _Placement(model, ranges, fp8, weight_bits).run(exclude)


def front(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes of the preprocessing in front of the network, in order."""
    found: list[onnx.NodeProto] = []
    tensor = INPUT
    while True:
        takers = [node for node in graph.node if tensor in node.input]
        if len(takers) != 1 or takers[0].op_type not in _PREPROCESSING:
            return found
        found.append(takers[0])
        tensor = takers[0].output[0]


class _Placement:
    """The graph while pairs are placed."""

    def __init__(self, model: onnx.ModelProto, ranges: Ranges, fp8: bool, weight_bits: int) -> None:
        self.graph = model.graph
        self.ranges = ranges
        self.fp8 = fp8
        self.largest = _LARGEST_FP8 if fp8 else float(2 ** (weight_bits - 1) - 1)
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.made_by = {name: node for node in self.graph.node for name in node.output}
        self.takers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        #: Number of operations on the longest way from the input.
        self.depths: dict[str, int] = {}
        for node in self.graph.node:
            for name in node.input:
                self.takers[name].append(node)
            depth = 1 + max((self.depths.get(name, 0) for name in node.input), default=0)
            self.depths |= dict.fromkeys(node.output, depth)

    def run(self, exclude: Collection[str]) -> None:
        """Choose what is quantised, make the rest fp16, then insert the pairs."""
        multiplying = [node for node in self.graph.node if node.name not in exclude and self._takes(node)]
        multiplying = [node for node in multiplying if self._magnitude(node.input[0]) is not None]
        if not multiplying:
            raise StagebenchError("there is no convolution and no matrix product to quantise")
        outputs = {node.output[0] for node in multiplying}
        inputs = [(node, 0) for node in multiplying]
        inputs += [
            (node, skip)
            for node in self.graph.node
            if node.op_type == "Add" and node.name not in exclude and (skip := self._skip(node, outputs)) is not None
        ]
        scales = {
            node.input[k]: magnitude for node, k in inputs if (magnitude := self._magnitude(node.input[k])) is not None
        }
        dequantised = {node.name: self._dequantised_weights(node) for node in multiplying}
        kept = front(self.graph)
        self._to_half(kept)
        pairs = {name: self._pair(name, magnitude) for name, magnitude in scales.items()}
        for node, k in inputs:
            if node.input[k] not in pairs:
                continue
            node.input[k] = pairs[node.input[k]][1].output[0]
        made = {name: list(pair) for name, pair in pairs.items()}
        self._write(kept, made, dequantised)

    def _takes(self, node: onnx.NodeProto) -> bool:
        """Whether a node multiplies by constant weights, in shapes that there are kernels for."""
        if node.op_type not in ("Conv", "Gemm") or node.input[1] not in self.constants:
            return False
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if node.op_type == "Gemm" and (attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0):
            return False
        if not self.fp8:
            return True
        channels = self.constants[node.input[1]].dims[:2]
        return attributes.get("group", 1) == 1 and all(count % _FP8_CHANNELS == 0 for count in channels)

    def _skip(self, node: onnx.NodeProto, outputs: Collection[str]) -> int | None:
        """Return which input of an addition is the skip: the other one's convolution takes the addition in.

        If both are convolutions it is the shallower one. None if there is no such kernel to be had.
        """
        if any(name in self.constants or self.made_by[name].op_type == "Constant" for name in node.input):
            return None
        fusing = [k for k in (0, 1) if node.input[k] in outputs and len(self.takers[node.input[k]]) == 1]
        if not fusing or node.input[0] == node.input[1]:
            return None
        return 1 - max(fusing, key=lambda k: self.depths[node.input[k]])

    def _magnitude(self, tensor: str) -> float | None:
        """Return the largest magnitude of a tensor, from before operations that pass values on.

        None for what NNCF leaves in floating point, such as squeeze-and-excitation, whose small tensors cost more
        accuracy than time.
        """
        if tensor in self.ranges.magnitudes:
            return self.ranges.magnitudes[tensor]
        node = self.made_by.get(tensor)
        if node is None or node.op_type not in _PASSING:
            return None
        sources = node.input if node.op_type == "Concat" else node.input[:1]
        found = [self._magnitude(source) for source in sources]
        return max((magnitude for magnitude in found if magnitude is not None), default=None)

    def _correct_bias(self, node: onnx.NodeProto, error: NDArray[np.float32]) -> None:
        """Take from a bias what rounded weights add to it on average.

        Args:
            error: of the weights, (outputs, inputs, ...).
        """
        means = self.ranges.means.get(node.input[0])
        if means is None or len(node.input) < 3 or node.input[2] not in self.constants:
            return
        outputs, inputs = error.shape[:2]
        # The inputs of each group of outputs; a matrix product and most convolutions have one group.
        seen = means.reshape(-1, inputs)
        shift = np.einsum("gok,gk->go", error.reshape(len(seen), outputs // len(seen), inputs, -1).sum(-1), seen)
        bias = numpy_helper.to_array(self.constants[node.input[2]])
        node.input[2] = self._add(f"{node.name}/bias", (bias - shift.reshape(bias.shape)).astype(np.float32))

    def _add(self, name: str, values: NDArray[np.generic]) -> str:
        tensor = numpy_helper.from_array(values, name)
        self.graph.initializer.append(tensor)
        self.constants[name] = self.graph.initializer[-1]
        return name

    def _to_half(self, kept: list[onnx.NodeProto]) -> None:
        """Make what is behind the preprocessing fp16, and the logits float32 again."""
        untouched = {name for node in kept for name in node.input}
        for tensor in self.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT and tensor.name not in untouched:
                tensor.CopyFrom(_half(tensor))
        names = {node.name for node in kept}
        for node in self.graph.node:
            if node.name in names or untouched & set(node.output):
                continue
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
                    attribute.t.CopyFrom(_half(attribute.t))
                if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16
        # Types of tensors in between are no longer what they were; readers infer them.
        del self.graph.value_info[:]

    def _pair(self, tensor: str, magnitude: float) -> tuple[onnx.NodeProto, onnx.NodeProto]:
        """Return the pair behind a tensor."""
        largest = _LARGEST_FP8 if self.fp8 else 127.0
        scale = self._add(f"{tensor}/scale", self._scale(np.array(magnitude / largest)))
        zero = self._add(f"{tensor}/zero", np.zeros((), ml_dtypes.float8_e4m3fn if self.fp8 else np.int8))
        quantised, dequantised = f"{tensor}/quantised", f"{tensor}/dequantised"
        return (
            helper.make_node("QuantizeLinear", [tensor, scale, zero], [quantised], quantised),
            helper.make_node("DequantizeLinear", [quantised, scale, zero], [dequantised], dequantised),
        )

    def _dequantised_weights(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """Quantise the weights of a node by output channel; return what dequantises them."""
        weights: NDArray[np.float32] = numpy_helper.to_array(self.constants[node.input[1]])
        transposed = {entry.name: entry.i for entry in node.attribute}.get("transB", 0)
        axis = 1 if node.op_type == "Gemm" and not transposed else 0
        rows = np.moveaxis(weights, axis, 0)
        # A channel of zeros has any scale.
        largest = np.abs(rows).reshape(len(rows), -1).max(axis=1)
        scale = self._scale(np.where(largest > 0, largest, 1) / self.largest)
        steps = scale.astype(np.float32).reshape(-1, *[1] * (rows.ndim - 1))
        kind = ml_dtypes.float8_e4m3fn if self.fp8 else np.int8
        parts = rows / steps if self.fp8 else np.round(rows / steps)
        stored = np.clip(parts, -self.largest, self.largest).astype(kind)
        self._correct_bias(node, stored.astype(np.float32) * steps - rows)
        name = f"{node.name}/weights"
        inputs = [
            self._add(f"{name}/quantised", np.ascontiguousarray(np.moveaxis(stored, 0, axis))),
            self._add(f"{name}/scale", scale),
            self._add(f"{name}/zero", np.zeros(scale.shape, kind)),
        ]
        node.input[1] = name
        return helper.make_node("DequantizeLinear", inputs, [name], name, axis=axis)

    def _scale(self, scale: NDArray[np.floating]) -> NDArray[np.float16]:
        """Round scales up to fp16, so that the largest magnitude still has a code.

        Those of fp8 stay among the normal numbers: a float loses nothing by a larger scale, and reciprocals of smaller
        ones are beyond fp16.
        """
        half = np.maximum(scale, _SMALLEST_NORMAL if self.fp8 else 0).astype(np.float16)
        above: NDArray[np.float16] = np.nextafter(half, np.float16(np.inf))
        return np.asarray(np.where(half < scale, above, half), np.float16)

    def _write(
        self,
        kept: list[onnx.NodeProto],
        made: Mapping[str, list[onnx.NodeProto]],
        dequantised: Mapping[str, onnx.NodeProto],
    ) -> None:
        """Put all nodes in order: casts at both ends of the network, pairs behind tensors, weights before their use."""
        begin = kept[-1].output[0] if kept else INPUT
        inside, last = f"{begin}/half", f"{OUTPUT}/half"
        names = {node.name for node in kept}
        nodes: list[onnx.NodeProto] = []
        for node in self.graph.node:
            for k, name in enumerate(node.input):
                if name == begin and node.name not in names:
                    node.input[k] = inside
            for k, name in enumerate(node.output):
                if name == OUTPUT:
                    node.output[k] = last
            if node.name in dequantised:
                nodes.append(dequantised[node.name])
            nodes.append(node)
            if begin in node.output:
                nodes.append(helper.make_node("Cast", [begin], [inside], inside, to=TensorProto.FLOAT16))
            for name in node.output:
                for pair in made.get(name, ()):
                    if pair.input[0] == begin:
                        pair.input[0] = inside
                    nodes.append(pair)
            if last in node.output:
                nodes.append(helper.make_node("Cast", [last], [OUTPUT], OUTPUT, to=TensorProto.FLOAT))
        used = {name for node in nodes for name in node.input}
        constants = [tensor for tensor in self.graph.initializer if tensor.name in used]
        fresh = onnx.GraphProto()
        fresh.node.extend(nodes)
        fresh.initializer.extend(constants)
        del self.graph.node[:]
        del self.graph.initializer[:]
        self.graph.node.extend(fresh.node)
        self.graph.initializer.extend(fresh.initializer)


def _half(tensor: TensorProto) -> TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
