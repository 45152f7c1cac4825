"""The bytes that training a model takes: formulas that both trainers share, and the table that they fill.

Weights, adapters, gradients and optimizer state are exact. What autograd keeps was counted with saved-tensor hooks on
small Qwen2 models on a CPU, under autocast to bf16; tests/test_footprint.py repeats the count. What a GPU adds (the
CUDA context, NCCL's buffers, fragmentation) is not measured: CONTEXT and MARGIN are our assumptions.

In the formulas P is the model's parameters, A the adapter's, L the layers, h the hidden and i the intermediate size, q
and kv the widths of all query and all KV heads, V the vocabulary, t the tokens that a GPU processes at once, N the
number of GPUs; in and out are those of the largest adapted module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.model_shape import NotModelled, Shape
from common.node import gb

CONTEXT = 1_000_000_000  # CUDA context, cuBLAS, NCCL of one process
MARGIN = 0.1  # of what is allocated and freed in each step
BF16, FLOAT32 = 2, 4


@dataclass(frozen=True)
class Adapter:
    """A LoRA or DoRA adapter; `modules` are names of Shape.linears."""

    r: int
    modules: tuple[str, ...]
    dora: bool = True
    dropout: bool = False

    def __str__(self) -> str:
        return f"{'DoRA' if self.dora else 'LoRA'} {self.r} on {' '.join(self.modules)}"

    def sizes(self, shape: Shape) -> list[tuple[int, int]]:
        """(inputs, outputs) of the modules that it adapts in a layer."""
        return [shape.linears[name] for name in self.modules]

    def parameters(self, shape: Shape) -> int:
        """A: lora_A, lora_B and, for DoRA, the magnitudes, which peft keeps in float32 with a bf16 base."""
        a_layer = sum(self.r * (inputs + outputs) + self.dora * outputs for inputs, outputs in self.sizes(shape))
        return shape.layers * a_layer

    def target_weights(self, shape: Shape) -> int:
        """Parameters of the base's modules that it adapts."""
        return shape.layers * sum(inputs * outputs for inputs, outputs in self.sizes(shape))


def adapter_of(shape: Shape, r: int, targets: Sequence[str] | str, *, dora: bool, dropout: float) -> Adapter:
    """The adapter on `targets`: names of modules, or all-linear. Raises NotModelled for other modules."""
    names = [targets] if isinstance(targets, str) else list(targets)
    if names == ["all-linear"]:
        names = list(shape.linears)
    if unknown := [name for name in names if name not in shape.linears]:
        raise NotModelled(f"target module {unknown[0]} is not modelled, only {', '.join(shape.linears)}, all-linear")
    return Adapter(r, tuple(names), dora, dropout > 0)


def trained(shape: Shape, adapter: Adapter | None) -> int:
    """Parameters that are trained: A, or P."""
    return adapter.parameters(shape) if adapter else shape.parameters


# --- activations, in bytes for each token -----------------------------------------------------------------------------


def saved(shape: Shape, adapter: Adapter | None, weights: int = BF16) -> int:
    """What autograd keeps of one layer for a token.

    Frozen base: norms in float32; queries, keys, values (repeated for grouped queries) and the attention's output; the
    MLP's gate, its activation and up. An adapted module adds its input, lora_A's output, the dropout mask and, for
    DoRA, its output twice. All weights (no adapter): also the inputs of the linear modules and of the norms' weights.
    """
    h, i, q = shape.hidden, shape.intermediate, shape.queries
    attention = 8 * q + (4 * (q + shape.keys) if shape.family.head_norms else 0)
    if adapter is None:
        norms, inputs = (6, 4) if weights == BF16 else (8, 10)
        return shape.family.norms * norms * h + inputs * h + attention + 8 * i
    adapted = sum(
        2 * inputs + 2 * adapter.r + adapter.dropout * inputs + adapter.dora * 4 * outputs
        for inputs, outputs in adapter.sizes(shape)
    )
    return shape.family.norms * 4 * h + attention + 6 * i + adapted


def saved_once(shape: Shape, adapter: Adapter | None, weights: int = BF16) -> int:
    """What autograd keeps of one layer, whatever the tokens: bf16 copies of float32 weights that it computes with."""
    if adapter is None:
        return 0 if weights == BF16 else BF16 * shape.layer
    copies = BF16 * adapter.parameters(shape) // shape.layers
    if adapter.dora and adapter.dropout:  # peft computes the base product once more
        copies += BF16 * adapter.target_weights(shape) // shape.layers
    return copies


def in_flight(shape: Shape, adapter: Adapter | None) -> int:
    """Gradients of one layer for a token while it runs backward: the MLP's and, in float32, those of the largest
    adapted module: of its input, or of DoRA's two products."""
    sizes = adapter.sizes(shape) if adapter else []
    adapted = max((8 * outputs if adapter and adapter.dora else 4 * inputs for inputs, outputs in sizes), default=0)
    return 6 * shape.intermediate + 4 * shape.hidden + adapted


def forward(shape: Shape) -> int:
    """One layer for a token without gradients: the MLP's three products and the residual stream."""
    return 6 * shape.intermediate + 8 * shape.hidden


def kept(shape: Shape, adapter: Adapter | None, tokens: int, checkpointing: bool, weights: int = BF16) -> int:
    """What `tokens` keep until the backward pass: each layer's input, or all that autograd saves, and the last norm."""
    last = 8 * shape.hidden * tokens
    if checkpointing:
        stream = weights if adapter is None else BF16
        return shape.layers * stream * shape.hidden * tokens + last
    return shape.layers * (saved(shape, adapter, weights) * tokens + saved_once(shape, adapter, weights)) + last


def dora_norm(shape: Shape, adapter: Adapter | None) -> int:
    """peft's float32 temporaries for the norm of W + BA, of the largest module: an identity of inputs x inputs with its
    bf16 copy, BA, W, their sum and the norm's input."""
    if adapter is None or not adapter.dora:
        return 0
    return max(6 * inputs * inputs + 16 * inputs * outputs for inputs, outputs in adapter.sizes(shape))


def backward(shape: Shape, adapter: Adapter | None, tokens: int, checkpointing: bool, weights: int = BF16) -> int:
    """The layer that runs backward: what checkpointing computes again, during which DoRA's norm is computed, or after
    which the gradients are: the larger of the two."""
    again = saved(shape, adapter, weights) * tokens + saved_once(shape, adapter, weights) if checkpointing else 0
    return again + max(in_flight(shape, adapter) * tokens, dora_norm(shape, adapter))


def cache_token(shape: Shape) -> int:
    """The KV cache of a token, in bf16."""
    return 2 * BF16 * shape.layers * shape.keys


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One row: bytes on a GPU in each phase of a step. `working` memory is allocated and freed in every step."""

    name: str
    formula: str
    phases: Mapping[str, float]
    working: bool = False


@dataclass(frozen=True)
class Estimate:
    """Memory of the fullest GPU, and what a node needs besides: bytes; problems are lines for the user."""

    phases: tuple[str, ...]
    lines: tuple[Line, ...]
    memory: int  # RAM of a node
    disk: int
    problems: tuple[str, ...] = ()

    def total(self, phase: str) -> float:
        return sum(line.phases.get(phase, 0) for line in self.lines)

    @property
    def peak(self) -> float:
        return max(self.total(phase) for phase in self.phases)

    def fits(self, card: int) -> bool:
        return not self.problems and self.peak <= card


def with_margin(phases: Sequence[str], lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines that are not 0, and MARGIN of the working ones."""
    working = {phase: MARGIN * sum(one.phases.get(phase, 0) for one in lines if one.working) for phase in phases}
    rest = Line("margin", f"{MARGIN:.0%} of what a step allocates and frees", working)
    return (*(one for one in lines if any(one.phases.values())), rest)


# --- rows that both trainers have -------------------------------------------------------------------------------------


def layer_lines(
    shape: Shape, adapter: Adapter | None, tokens: int, scored: int, checkpointing: bool, weights: int = BF16
) -> list[Line]:
    """Activations: of an update with `tokens` at once, and of `scored` without gradients."""
    how = (shape, adapter, tokens, checkpointing, weights)
    label, formula = "activations of layers", "saved L t"
    if checkpointing:
        label, formula = "inputs of layers", "(2 L + 8) h t"
    one = {"update": backward(*how), "scoring": forward(shape) * scored}
    name = "one layer, again and backward" if checkpointing else "one layer, backward"
    return [
        Line(label, formula, {"update": kept(*how)}, working=True),
        Line(name, "saved t + max(gradients t, norm)", one, working=True),
    ]


def norm_line(shape: Shape, adapter: Adapter | None, phase: str) -> Line:
    return Line("DoRA's norm", "6 in² + 16 in out", {phase: dora_norm(shape, adapter)}, working=True)


def vllm_needs(shape: Shape, tensor_parallel: int, context: int, overhead: int) -> float:
    """The least that vLLM starts with: its shard of the weights, and the KV cache of one full context."""
    return (BF16 * shape.parameters + cache_token(shape) * context) / tensor_parallel + overhead


def too_small(share: float, needs: float) -> tuple[str, ...]:
    """The problem of a share of the GPU with which vLLM does not start."""
    problem = f"vLLM's share of {gb(share)} is below the {gb(needs)} that it starts with"
    return (problem,) if share < needs else ()
