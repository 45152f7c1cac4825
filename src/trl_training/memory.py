"""Memory and time of a GRPO or SFT run, as trl 1.16 lays it out, and the one key that would make it fit.

A step has the phases rollout (sampling), scoring (log-probabilities without gradients: the reference's and, with vLLM
or several updates, the old policy's), update and, with ZeRO-2, optimizer: it copies its gradients to float32. trl's LM
head works in tiles of 4,096 tokens x 32,768 words (trl/kernels/chunked_logprob.py): all logits never exist at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from common import footprint
from common.footprint import BF16, CONTEXT, FLOAT32, Adapter, Estimate, Line, with_margin
from common.model_shape import Shape
from common.step_time import SYNC, GpuType, Lengths, Part, eager_token, forward_seconds, update_part, vllm_token
from trl_training.arguments import Batch, plan_batch

TILE_TOKENS, TILE_WORDS = 4096, 32768  # trl's TOKEN_CHUNK_SIZE and _CHUNKED_LOGPROB_CHUNK_SIZE
VLLM_OVERHEAD = 1_500_000_000  # assumed: its activations for 4,096 tokens, CUDA graphs
BUCKET = 500_000_000  # parameters: DeepSpeed's reduce_bucket_size; counted twice: filled, and being reduced
PROCESS = 4 * 10**9  # assumed RAM of a process besides the weights: libraries, CUDA's pinned buffers


@dataclass(frozen=True)
class Vllm:
    """vLLM on the GPUs that train."""

    utilization: float
    sleep: bool
    tensor_parallel: int
    context: int  # tokens


@dataclass(frozen=True)
class Run:
    """What a GRPO or SFT configuration says about memory and time. Lengths are the configuration's limits."""

    batch: Batch
    prompt: int
    completion: int
    adapter: Adapter | None  # None: all weights are trained
    weights: int  # bytes of a parameter
    checkpointing: bool
    zero2: bool = False
    rollouts: str | None = None  # merge, cache, stock, colocate, server; None: SFT
    vllm: Vllm | None = None
    updates: int = 1  # optimizer steps on a batch of rollouts
    reference: bool = False  # beta above 0
    old_policy: bool = False  # its log-probabilities are computed: with vLLM, or for several updates
    steps: int | None = None
    checkpoints: int = 1  # kept on disk

    @property
    def length(self) -> int:
        return self.prompt + self.completion

    @property
    def sampled(self) -> int:
        """Completions that a process samples at once."""
        return self.batch.per_device * self.batch.accumulation * self.updates

    @property
    def phases(self) -> tuple[str, ...]:
        scoring = self.reference or self.old_policy
        given = {"rollout": self.rollouts is not None, "scoring": scoring, "update": True, "optimizer": self.zero2}
        return tuple(phase for phase, is_there in given.items() if is_there)


def state_lines(shape: Shape, run: Run) -> list[Line]:
    """What is there in every step: weights, adapter, optimizer, gradients."""
    phases, n, count = run.phases, run.batch.processes, footprint.trained(shape, run.adapter)
    letter = "A" if run.adapter else "P"
    size = run.weights
    whole = dict.fromkeys(phases, size * shape.parameters)
    lines = [Line("weights", f"{size} P", whole)]
    if run.reference and not run.adapter:
        lines.append(Line("reference model", f"{size} P", whole))
    if run.adapter:
        own = BF16 if run.zero2 else FLOAT32
        lines.append(Line("adapter", f"{own} A", dict.fromkeys(phases, own * count)))
    if run.zero2:
        lines.append(Line("AdamW, float32 copies", f"12 {letter} / N", dict.fromkeys(phases, 12 * count / n)))
        lines.append(Line("gradients", f"2 {letter} / N", dict.fromkeys(("update", "optimizer"), 2 * count / n)))
        lines.append(Line("their float32 copies", f"4 {letter} / N", {"optimizer": 4 * count / n}, working=True))
        buckets = 2 * BF16 * min(BUCKET, count)
        lines.append(Line("DeepSpeed's buckets", "4 x 5e8, assumed", {"update": buckets}, working=True))
    else:
        gradient = FLOAT32 if run.adapter else run.weights
        lines.append(Line("AdamW", f"8 {letter}", dict.fromkeys(phases, 8 * count)))
        lines.append(Line("gradients", f"{gradient} {letter}", {"update": gradient * count}))
        if n > 1:
            lines.append(Line("DDP's buckets", f"{gradient} {letter}", dict.fromkeys(phases, gradient * count)))
    if run.adapter is None and run.weights == FLOAT32:
        copies = BF16 * shape.parameters
        lines.append(Line("autocast's bf16 copies", "2 P", {"scoring": copies, "update": copies}))
    return lines


def rollout_lines(shape: Shape, run: Run, card: int) -> list[Line]:
    """Sampling: by transformers with merged copies, cached products or neither, or by vLLM."""
    if run.rollouts is None:
        return []
    targets = run.adapter.target_weights(shape) if run.adapter else 0
    kept = Line("base weights kept in the sync", f"{run.weights} x targets", {"rollout": run.weights * targets})
    if run.rollouts == "server":
        return [kept]
    if run.vllm:
        share = run.vllm.utilization * card
        where = ("rollout",) if run.vllm.sleep else run.phases
        return [Line("vLLM", f"{run.vllm.utilization:g} of the GPU", dict.fromkeys(where, share)), kept]
    tokens, prefill = run.sampled * run.length, run.sampled * run.prompt
    cache = footprint.cache_token(shape) * tokens * (1 + 1 / shape.layers)  # transformers copies a layer to extend it
    copies = {"merge": run.weights * targets, "cache": FLOAT32 * targets, "stock": 0}[str(run.rollouts)]
    formula = "4 x targets" if run.rollouts == "cache" else f"{run.weights} x targets"
    return [
        Line(f"{run.rollouts}: copies of targets", formula, {"rollout": copies}, working=True),
        Line(f"KV cache, {run.sampled} x {run.length}", "4 L kv t (1 + 1/L)", {"rollout": cache}, working=True),
        Line("prompts, one layer", "(6 i + 8 h) t", {"rollout": footprint.forward(shape) * prefill}, working=True),
        *([footprint.norm_line(shape, run.adapter, "rollout")] if run.rollouts == "stock" else ()),
    ]


def update_lines(shape: Shape, run: Run) -> list[Line]:
    """Log-probabilities and gradients of per_device sequences of full length."""
    tokens, scored = run.batch.per_device * run.length, run.batch.per_device * run.completion
    tile = BF16 * min(scored, TILE_TOKENS) * TILE_WORDS
    head = tile + 6 * shape.hidden * scored + (0 if run.adapter else FLOAT32 * shape.embedding)
    heads = {"update": head, "scoring": tile + BF16 * shape.hidden * scored}
    return [
        *footprint.layer_lines(shape, run.adapter, tokens, tokens, run.checkpointing, run.weights),
        Line("log-probabilities, tiles", "2 x 4096 x 32768 + 6 h t", heads, working=True),
        *([footprint.norm_line(shape, run.adapter, "scoring")] if run.old_policy else ()),
    ]


def least_share(shape: Shape, vllm: Vllm) -> float:
    """Bytes of a GPU with which vLLM starts."""
    return footprint.vllm_needs(shape, vllm.tensor_parallel, vllm.context, VLLM_OVERHEAD)


def estimate(shape: Shape, run: Run, card: int, nodes: int = 1) -> Estimate:
    """The table for GPUs of `card` bytes."""
    phases = run.phases
    lines = [
        *state_lines(shape, run),
        *rollout_lines(shape, run, card),
        *update_lines(shape, run),
        Line("CUDA, NCCL", "assumed", dict.fromkeys(phases, CONTEXT)),
    ]
    problems = footprint.too_small(run.vllm.utilization * card, least_share(shape, run.vllm)) if run.vllm else ()
    processes = run.batch.processes // nodes
    memory = processes * (run.weights * shape.parameters + PROCESS)
    if run.adapter:
        state = 12 * footprint.trained(shape, run.adapter)
    else:  # DeepSpeed saves the weights too, beside transformers' file
        state = ((2 * run.weights + 12) if run.zero2 else (run.weights + 8)) * shape.parameters
    own = 0 if run.adapter else run.weights * shape.parameters
    return Estimate(phases, with_margin(phases, lines), memory, run.checkpoints * state + own, problems)


# --- time -------------------------------------------------------------------------------------------------------------


def seconds(shape: Shape, run: Run, lengths: Lengths, gpu: GpuType) -> list[Part]:
    """The parts of an optimizer step."""
    if run.rollouts:
        lengths = lengths.within(run.prompt, run.completion)
    else:  # SFT: a target takes the place of a completion, and a sequence is cut at its limit
        prompt = min(lengths.prompt, run.length)
        lengths = lengths.within(prompt, run.length - prompt)
    tokens = run.batch.sequences // run.batch.processes * (lengths.prompt + lengths.completion)
    batches = run.batch.accumulation
    parts = [update_part(shape, run.adapter, tokens, batches, run.checkpointing, gpu)]
    if passes := run.reference + run.old_policy:
        scoring = passes * forward_seconds(shape, tokens, batches, gpu)
        parts.insert(0, Part("scoring", f"{passes} x 2 P t / rate, or launches", scoring))
    if run.rollouts == "server":
        return [Part("rollout", "not counted: on the server's GPUs", 0.0), *parts]
    if run.vllm:
        size = run.vllm.tensor_parallel
        token = vllm_token(shape, run.sampled * size, lengths, size, gpu)
        formula = f"{lengths.completion} x (2 P + cache) / bandwidth + {SYNC:g} for the sync"
        rollout = lengths.completion * token + SYNC
    elif run.rollouts:
        token = eager_token(shape, run.adapter, run.rollouts, gpu)
        rollout = lengths.completion * token
        formula = f"{lengths.completion} x {token * 1000:.0f} ms: kernel launches, or 2 P / bandwidth"
    else:
        return parts
    return [Part("rollout", formula, rollout / run.updates), *parts]


# --- the one key to change --------------------------------------------------------------------------------------------


def halves(number: int, least: int) -> Iterator[int]:
    """Half of it, a quarter, …, at least `least`."""
    while (number := number // 2) >= least:
        yield number


def alternatives(shape: Shape, run: Run, card: int) -> Iterator[tuple[str, Run]]:
    """(what to set, the run with it): settings that leave the result as it is."""
    if not run.checkpointing:
        yield "--gradient_checkpointing true", replace(run, checkpointing=True)
    for size in range(run.batch.per_device - 1, 0, -1):
        try:
            batch = plan_batch(run.batch.processes, size, run.batch.sequences, run.batch.group)
        except ValueError:  # does not divide
            continue
        yield f"--per_device_train_batch_size {size}", replace(run, batch=batch)
    if run.adapter is None and not run.zero2 and run.batch.processes > 1:
        yield "ACCELERATE=zero2", replace(run, zero2=True, weights=BF16)
    if run.rollouts in ("merge", "cache"):
        yield "--dora_generation stock", replace(run, rollouts="stock")
    if run.vllm:
        least = -(-least_share(shape, run.vllm) * 20 // card) / 20  # in steps of 0.05
        if least <= 0.95 and least != run.vllm.utilization:
            share = replace(run.vllm, utilization=least)
            yield f"--vllm_gpu_memory_utilization {least:g}", replace(run, vllm=share)
        if not run.vllm.sleep:
            yield "--vllm_enable_sleep_mode true", replace(run, vllm=replace(run.vllm, sleep=True))
        yield "--use_vllm false", replace(run, vllm=None, rollouts="merge", old_policy=run.updates > 1)


def shorter(run: Run) -> Iterator[tuple[str, Run]]:
    """(what to set, the run with it): settings that change the result."""
    if run.rollouts is None:
        for length in halves(run.length, 256):
            yield f"--max_length {length}", replace(run, prompt=0, completion=length)
        return
    for length in halves(run.completion, 64):
        yield f"--max_completion_length {length}", replace(run, completion=length)
    for length in halves(run.prompt, 256):
        yield f"--max_prompt_length {length}", replace(run, prompt=length)
