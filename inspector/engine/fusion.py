"""Bias, sum and ReLU in the convolution's own kernel: the same function, without their passes over memory.

What a GPU runs as up to four kernels, `relu(convolution(x) + bias + z)`, becomes one. A convolution of 1×1, and a
transposed one of 2×2 with stride 2, may run as a matrix product. Which form a layer runs in is chosen on the device,
see `layer_choice.py`; until then, and wherever no pattern fits, each runs as it was.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

_Convolution = nn.Conv2d | nn.ConvTranspose2d


@dataclass(frozen=True, slots=True)
class Operators:
    """What runs fused layers, with the arguments of torch's operators of these names.

    Attributes:
        convolve_relu: input, weight, bias, stride, padding, dilation, groups.
        convolve_add_relu: input, weight, z, alpha, bias, stride, padding, dilation, groups.
        multiply_relu: bias (n), two matrices.
    """

    convolve_relu: Callable[..., Tensor]
    convolve_add_relu: Callable[..., Tensor]
    multiply_relu: Callable[..., Tensor]


CUDNN = Operators(torch.cudnn_convolution_relu, torch.cudnn_convolution_add_relu, torch._addmm_activation)
"""cuDNN's fused convolutions and cuBLASLt's products with an epilogue, which only CUDA devices have.

`cudnn_convolution_relu` gives its own output, unwritten, as `z` with the factor 0: a kernel that multiplies instead of
leaving it out makes NaN of what lay there. And whether a NaN outlives cuDNN's ReLU is a default of its front end, once
no and now yes. `layer_choice.py` tries both out on the device.
"""

REFERENCE = Operators(
    lambda x, weight, bias, *conv: F.relu(torch.conv2d(x, weight, bias, *conv)),
    lambda x, weight, z, alpha, bias, *conv: F.relu(torch.conv2d(x, weight, bias, *conv) + alpha * z),
    lambda bias, left, right: F.relu(torch.addmm(bias, left, right)),
)
"""The same by operators that every device has."""


class Form(StrEnum):
    """How a layer runs."""

    PLAIN = "plain"
    CONVOLUTION = "convolution"
    PRODUCT = "product"


class Layer(nn.Module):
    """`relu(convolution(x) + bias + z)`; `z` and ReLU may be absent.

    Attributes:
        form: how it runs.
        forms: how it may run, `PLAIN` first.
    """

    _weight: Tensor
    _bias: Tensor | None
    _matrix: Tensor
    _matrix_bias: Tensor | None

    def __init__(
        self, convolution: _Convolution, bias: Tensor | None, operators: Operators, *, relu: bool, z: bool
    ) -> None:
        """Share the weight of `convolution`, with `bias` (n) in place of its own."""
        super().__init__()
        self.form = Form.PLAIN
        self._operators = operators
        self._relu = relu
        self._transposed = isinstance(convolution, nn.ConvTranspose2d)
        padding = tuple(int(side) for side in convolution.padding)
        self._settings = (convolution.stride, padding, convolution.dilation, convolution.groups)
        self.register_buffer("_weight", convolution.weight.detach(), persistent=False)
        self.register_buffer("_bias", None if bias is None else bias.detach(), persistent=False)
        self.forms = (Form.PLAIN, *self._find_fused(convolution, z=z))
        product = self._build_product() if Form.PRODUCT in self.forms else (None, None)
        for name, tensor in zip(("_matrix", "_matrix_bias"), product, strict=True):
            self.register_buffer(name, tensor, persistent=False)

    def _find_fused(self, convolution: _Convolution, *, z: bool) -> list[Form]:
        shape = (convolution.kernel_size, *self._settings)
        is_product = shape == (((2, 2), (2, 2)) if self._transposed else ((1, 1), (1, 1))) + ((0, 0), (1, 1), 1)
        forms = [Form.CONVOLUTION] if self._relu and self._bias is not None and not self._transposed else []
        return forms + ([Form.PRODUCT] if is_product and not z else [])

    def _build_product(self) -> tuple[Tensor, Tensor | None]:
        """Matrix (inputs, outputs), and the bias of its columns; transposed: the four outputs of an input, by rows."""
        weight, bias = self._weight, self._bias
        if not self._transposed:
            return weight.flatten(1).T, bias
        return weight.permute(0, 2, 3, 1).flatten(1).contiguous(), None if bias is None else bias.repeat(4)

    def describe(self, x: Tensor, z: Tensor | None = None) -> str:
        """What its speed depends on, beside the device."""
        weight, settings = list(self._weight.shape), [list(each) for each in self._settings[:3]]
        facts = (weight, *settings, self._settings[3], self._transposed, self._relu, self._bias is not None)
        return f"{facts} {z is not None} {list(x.shape)} {list(x.stride())} {x.dtype}"

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """(B, n, h', w') of `x` (B, m, h, w) and `z` (B, n, h', w')."""
        return self.run(self.form, x, z)

    def run(self, form: Form, x: Tensor, z: Tensor | None = None) -> Tensor:
        """As `forward`, in one of `forms`."""
        if form is Form.PRODUCT:
            return self._run_product(x)
        if form is Form.PLAIN:
            return self._run_plain(x, z)
        if z is None:
            return self._operators.convolve_relu(x, self._weight, self._bias, *self._settings)
        return self._operators.convolve_add_relu(x, self._weight, z, 1.0, self._bias, *self._settings)

    def _run_plain(self, x: Tensor, z: Tensor | None) -> Tensor:
        stride, padding, dilation, groups = self._settings
        if self._transposed:
            out = F.conv_transpose2d(x, self._weight, self._bias, stride, padding, 0, groups, dilation)
        else:
            out = F.conv2d(x, self._weight, self._bias, stride, padding, dilation, groups)
        if z is not None:
            out += z
        return out.relu_() if self._relu else out

    def _run_product(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)  # of channels last: no copy
        rows = pixels.flatten(0, 2)
        if self._matrix_bias is None:
            out = rows @ self._matrix
        else:
            multiply = self._operators.multiply_relu if self._relu else torch.addmm
            out = multiply(self._matrix_bias, rows, self._matrix)
        if self._transposed:  # each pixel's four outputs, 2×2 (h and w), to their places
            count, height, width = pixels.shape[:3]
            out = out.view(count, height, width, 2, 2, -1).transpose(2, 3)
            return out.reshape(count, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)
        return out.view(*pixels.shape[:3], -1).permute(0, 3, 1, 2)


def fuse(network: nn.Module, operators: Operators) -> fx.GraphModule:
    """The network with its convolutions, and what follows them, as `Layer`s; it is untouched, its weights are shared.

    A convolution whose sum with another one's output is fused takes over the other's bias. Only a convolution that is
    read by what is fused with it, and by nothing else, is fused.
    """
    traced = fx.symbolic_trace(network)
    fusing = _Fusing(traced, operators)
    fusing.drop_identities()
    fusing.fuse_relus()
    fusing.wrap_others()
    traced.delete_all_unused_submodules()
    traced.graph.lint()
    traced.recompile()
    return traced


def get_layers(fused: nn.Module) -> list[Layer]:
    """All layers of a fused network."""
    return [module for module in fused.modules() if isinstance(module, Layer)]


class _Fusing:
    """One graph, rewritten in place."""

    def __init__(self, traced: fx.GraphModule, operators: Operators) -> None:
        self._graph = traced.graph
        self._modules = dict(traced.named_modules())
        self._operators = operators
        self._layers = nn.ModuleList()
        traced.add_module("layers", self._layers)

    def drop_identities(self) -> None:
        for node in self._list_calls(nn.Identity):
            node.replace_all_uses_with(node.all_input_nodes[0])
            self._graph.erase_node(node)

    def fuse_relus(self) -> None:
        for relu in self._list_calls(nn.ReLU):
            (last,) = relu.all_input_nodes
            if len(last.users) > 1:
                continue
            if last.target in {operator.add, operator.iadd}:
                self._fuse_sum(relu, last)
            elif (convolution := self._find_convolution(last)) is not None:
                layer = Layer(convolution, _get_bias(convolution), self._operators, relu=True, z=False)
                self._replace(relu, last.all_input_nodes, layer)
                self._graph.erase_node(last)

    def wrap_others(self) -> None:
        for node in list(self._graph.nodes):
            if (convolution := self._find_convolution(node)) is not None:
                layer = Layer(convolution, convolution.bias, self._operators, relu=False, z=False)
                self._replace(node, node.all_input_nodes, layer)

    def _fuse_sum(self, relu: fx.Node, sum_: fx.Node) -> None:
        addends = sum_.all_input_nodes
        fusible = [node for node in addends if type(self._find_convolution(node)) is nn.Conv2d and len(node.users) == 1]
        if len(addends) != 2 or not fusible:
            return
        (z,) = (node for node in addends if node is not fusible[0])
        convolution = self._find_convolution(fusible[0])
        assert convolution is not None  # noqa: S101 (it is fusible)
        bias, other = _get_bias(convolution), self._find_convolution(z)
        if other is not None and other.bias is not None and len(z.users) == 1:
            bias = (bias.float() + other.bias.float()).to(bias.dtype)
            z = self._replace(z, z.all_input_nodes, Layer(other, None, self._operators, relu=False, z=False))
        layer = Layer(convolution, bias, self._operators, relu=True, z=True)
        self._replace(relu, [*fusible[0].all_input_nodes, z], layer)
        self._graph.erase_node(sum_)
        self._graph.erase_node(fusible[0])

    def _list_calls(self, kind: type[nn.Module]) -> list[fx.Node]:
        calls = (node for node in self._graph.nodes if node.op == "call_module")
        return [node for node in calls if type(self._modules[str(node.target)]) is kind]

    def _find_convolution(self, node: fx.Node) -> _Convolution | None:
        """The convolution that a node calls; None: none, or one that is padded in another way than with zeros."""
        module = self._modules.get(str(node.target)) if node.op == "call_module" else None  # not one of `layers`
        if not isinstance(module, _Convolution) or type(module) not in {nn.Conv2d, nn.ConvTranspose2d}:
            return None
        is_simple = module.padding_mode == "zeros" and not isinstance(module.padding, str)
        return module if is_simple and not any(module.output_padding) else None

    def _replace(self, node: fx.Node, inputs: list[fx.Node], layer: Layer) -> fx.Node:
        self._layers.append(layer)
        with self._graph.inserting_before(node):
            new = self._graph.call_module(f"layers.{len(self._layers) - 1}", tuple(inputs))
        node.replace_all_uses_with(new)
        self._graph.erase_node(node)
        return new


def _get_bias(convolution: _Convolution) -> Tensor:
    return convolution.weight.new_zeros(convolution.out_channels) if convolution.bias is None else convolution.bias
