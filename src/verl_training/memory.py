"""Memory and time of a DAPO run, as verl 0.9 lays it out with FSDP 2 and vLLM, and the one key that would make it fit.

Weights, gradients and optimizer state are float32 shards over all N GPUs; a layer is gathered in bf16 when it is used.
A step has the phases rollout (vLLM; the shards are in RAM), sync (shards and vLLM's weights), scoring (log-
probabilities and entropy without gradients), update (forward and backward) and optimizer (AdamW, which torch computes
with a float32 temporary of the size of its parameters). Training processes and vLLM each have a CUDA context.

verl computes all logits of a micro-batch (workers/engine/fsdp/transformer_impl.py), V t in bf16. Without flash
attention's cross entropy, an update also keeps the float32 log-softmax, which the gradients replace row by row
(utils/torch_functional.py, logprobs_from_logits_v2): 6 V t; a test counts it with verl's function. Scoring keeps no
log-softmax but computes the entropy: compiled on a CPU, that needs no other tensor of V t; one in float32 is counted,
in case it does on a GPU (assumed). A temperature other than 1 adds a bf16 copy to both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from adapters import RELEASED_TARGETS
from common import fit, footprint
from common.errors import InputError
from common.footprint import BF16, CONTEXT, FLOAT32, Adapter, Estimate, Line, adapter_of, with_margin
from common.model_shape import NotModelled, Shape, load_shape
from common.step_time import SYNC, GpuType, Lengths, Part, forward_seconds, update_part, vllm_token
from verl_training import checks, machine
from verl_training.config import compose

PHASES = ("rollout", "sync", "scoring", "update", "optimizer")
VLLM_OVERHEAD = 2_000_000_000  # assumed: its activations for 8,192 tokens, CUDA graphs
HELPERS, HELPER = 5, 700_000_000  # assumed: Ray's own processes, TransferQueue, the runner; RAM of each
TRAINING = 8 * 10**9  # assumed RAM of the processes of a GPU: training, vLLM
MASK = 1.75  # sdpa with a dense mask over packed sequences, against a kernel without one: assumed, of the scoring pass
REFILLS = 2.0  # rounds of sampling in a step, since groups of equal rewards are dropped: assumed
OFFLOAD = 25e9  # byte/s between GPU and RAM: assumed, half of PCIe 5


@dataclass(frozen=True)
class Run:
    """What a DAPO configuration says about memory and time."""

    gpus: int  # of a node
    nodes: int
    prompts: int  # in a step
    group: int
    prompt: int
    completion: int
    adapter: Adapter | None
    checkpointing: bool
    update_tokens: int  # at once on a GPU
    score_tokens: int
    temperature: float
    utilization: float
    tensor_parallel: int
    context: int
    offload_weights: bool
    offload_optimizer: bool
    workers: int  # helper processes that the configuration sets
    steps: int | None
    checkpoints: int

    @property
    def all_gpus(self) -> int:
        return self.gpus * self.nodes


def run_of(config: DictConfig, shape: Shape) -> Run:
    """The run that a composed configuration describes. Raises NotModelled."""
    actor, rollout, recode = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, config.recode
    if config.trainer.device == "cpu":
        raise NotModelled("trainer.device=cpu: a run on the CPU is not modelled")
    if rollout.name != "vllm" or actor.strategy != "fsdp2" or not actor.use_dynamic_bsz:
        raise NotModelled("only vLLM, FSDP 2 and use_dynamic_bsz are modelled")
    model = config.actor_rollout_ref.model
    if not model.use_remove_padding or model.use_fused_kernels or not actor.use_torch_compile:
        raise NotModelled("only use_remove_padding and use_torch_compile, without use_fused_kernels, are modelled")
    if actor.calculate_entropy or actor.entropy_coeff:
        raise NotModelled("the entropy of an update (calculate_entropy, entropy_coeff) is not modelled")
    if actor.use_kl_loss or config.algorithm.use_kl_in_reward:
        raise NotModelled("a KL term, which loads a reference model, is not modelled")
    targets = recode.lora_target_modules or list(RELEASED_TARGETS)
    named = targets if isinstance(targets, str) else OmegaConf.to_container(targets)
    assert isinstance(named, (str, list))
    adapter = adapter_of(shape, recode.lora_r, named, dora=True, dropout=recode.lora_dropout)
    return Run(
        gpus=config.trainer.n_gpus_per_node,
        nodes=config.trainer.nnodes,
        prompts=config.data.train_batch_size,
        group=rollout.n,
        prompt=config.data.max_prompt_length,
        completion=config.data.max_response_length,
        adapter=adapter if recode.adapter == "dora" else None,
        checkpointing=model.enable_gradient_checkpointing,
        update_tokens=actor.ppo_max_token_len_per_gpu,
        score_tokens=rollout.log_prob_max_token_len_per_gpu,
        temperature=rollout.temperature,
        utilization=rollout.gpu_memory_utilization,
        tensor_parallel=rollout.tensor_model_parallel_size,
        context=rollout.max_model_len or shape.context,
        offload_weights=actor.fsdp_config.param_offload,
        offload_optimizer=actor.fsdp_config.optimizer_offload,
        workers=rollout.agent.num_workers + config.data.dataloader_num_workers + config.reward.num_workers,
        steps=config.trainer.total_training_steps,
        checkpoints=config.trainer.max_actor_ckpt_to_keep or 1,
    )


def state_lines(shape: Shape, run: Run) -> list[Line]:
    """Shards of weights, gradients and optimizer, and what FSDP gathers."""
    n = run.all_gpus
    count = footprint.trained(shape, run.adapter)
    frozen = shape.parameters if run.adapter else 0
    weights = FLOAT32 * (frozen + count) / n
    busy = PHASES[1:] if run.offload_weights else PHASES
    optimizer = ("update", "optimizer") if run.offload_optimizer else PHASES  # verl loads it before the update
    letter = "A" if run.adapter else "P"
    gathered = 2 * BF16 * max(shape.layer, shape.embedding)  # in use, and prefetched
    largest = (FLOAT32 + BF16) * max(shape.embedding, *(i * o for i, o in shape.linears.values()))
    gradients = FLOAT32 * count / n
    return [
        Line("weights, float32 shards", "4 P / N", dict.fromkeys(busy, weights)),
        Line("gradients", f"4 {letter} / N", {"update": gradients, "optimizer": gradients}),
        Line("AdamW", f"8 {letter} / N", dict.fromkeys(optimizer, 8 * count / n)),
        Line("AdamW's temporary", f"4 {letter} / N", {"optimizer": FLOAT32 * count / n}, working=True),
        Line(
            "gathered weights",
            "4 x largest unit; sync: 6 x largest tensor",
            {"sync": largest, "scoring": gathered, "update": gathered},
            working=True,
        ),
    ]


def pass_lines(shape: Shape, run: Run) -> list[Line]:
    """Activations and logits of a micro-batch."""
    t, scored = run.update_tokens, run.score_tokens
    mask = {"scoring": BF16 * scored**2, "update": BF16 * t**2}
    logit = BF16 + FLOAT32 + (BF16 if run.temperature != 1 else 0)
    logits = {"scoring": logit * shape.vocabulary * scored, "update": logit * shape.vocabulary * t}
    return [
        *footprint.layer_lines(shape, run.adapter, t, scored, run.checkpointing),
        Line("logits", f"{logit} V t", logits, working=True),
        Line("mask of packed sequences", "2 t²", mask, working=True),
        footprint.norm_line(shape, run.adapter, "scoring"),
    ]


def ram(shape: Shape, run: Run) -> float:
    """RAM of the fullest node: loading (float32 on rank 0, and its shards), or offloaded state; and the processes."""
    state = FLOAT32 * shape.parameters * run.offload_weights
    if run.adapter is None:
        state += 8 * shape.parameters * run.offload_optimizer
    processes = (HELPERS + run.workers) * HELPER + run.gpus * TRAINING
    return max(2 * FLOAT32 * shape.parameters, state / run.nodes) + processes


def estimate(shape: Shape, run: Run, card: int) -> Estimate:
    """The table for GPUs of `card` bytes."""
    share = run.utilization * card
    vllm = {"rollout": share, "sync": BF16 * shape.parameters / run.tensor_parallel + 2**31}  # and its bucket of 2 GiB
    lines = [
        *state_lines(shape, run),
        *pass_lines(shape, run),
        Line("vLLM", f"{run.utilization:g} of the GPU; sync: its weights", vllm),
        Line("CUDA, NCCL", "assumed, two processes", dict.fromkeys(PHASES, 2 * CONTEXT)),
    ]
    needs = footprint.vllm_needs(shape, run.tensor_parallel, run.context, VLLM_OVERHEAD)
    disk = run.checkpoints * 12 * footprint.trained(shape, run.adapter)
    return Estimate(PHASES, with_margin(PHASES, lines), int(ram(shape, run)), disk, footprint.too_small(share, needs))


# --- time -------------------------------------------------------------------------------------------------------------


def seconds(shape: Shape, run: Run, lengths: Lengths, gpu: GpuType) -> list[Part]:
    """The parts of a step: two updates on its rollouts are one pass over all their tokens."""
    lengths = lengths.within(run.prompt, run.completion)
    engines = run.all_gpus // run.tensor_parallel
    sequences = run.prompts * run.group
    token = vllm_token(shape, -(-sequences // engines), lengths, run.tensor_parallel, gpu)
    tokens = sequences * (lengths.prompt + lengths.completion) / run.all_gpus
    moved = (1 if run.adapter else 3) * FLOAT32 * shape.parameters / run.all_gpus
    offload = 2 * moved / OFFLOAD if run.offload_weights else 0
    scoring = MASK * forward_seconds(shape, tokens, math.ceil(tokens / run.score_tokens), gpu)
    batches = math.ceil(tokens / run.update_tokens)
    rollout = REFILLS * lengths.completion * token
    return [
        Part("rollout", f"{REFILLS:g} rounds x {lengths.completion} x (2 P + cache) / bandwidth", rollout),
        Part("sync", f"{SYNC:g}, and shards to RAM and back", SYNC + offload),
        Part("scoring", f"{MASK:g} x 2 P t / rate, or launches", scoring),
        update_part(shape, run.adapter, tokens, batches, run.checkpointing, gpu),
    ]


# --- the one key to change --------------------------------------------------------------------------------------------

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


def changes(run: Run) -> Iterator[tuple[str, Run]]:
    """(what to set, the run with it): what leaves the result as it is, more GPUs, and DoRA instead of all weights."""
    longest = run.prompt + run.completion
    if not run.checkpointing:
        yield "actor_rollout_ref.model.enable_gradient_checkpointing=true", replace(run, checkpointing=True)
    if not run.offload_weights:
        yield f"{ACTOR}.fsdp_config.param_offload=true", replace(run, offload_weights=True)
    if not run.offload_optimizer:
        yield f"{ACTOR}.fsdp_config.optimizer_offload=true", replace(run, offload_optimizer=True)
    if run.update_tokens > longest:
        yield f"{ACTOR}.ppo_max_token_len_per_gpu={longest}", replace(run, update_tokens=longest)
    for tokens in (run.score_tokens // 2, longest):
        if longest <= tokens < run.score_tokens:
            yield f"{ROLLOUT}.log_prob_max_token_len_per_gpu={tokens}", replace(run, score_tokens=tokens)
    for part in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3):
        if part != run.utilization:
            yield f"{ROLLOUT}.gpu_memory_utilization={part:g}", replace(run, utilization=part)
    size = run.tensor_parallel
    while (size := size * 2) <= run.gpus:
        yield f"{ROLLOUT}.tensor_model_parallel_size={size}", replace(run, tensor_parallel=size)
    yield from ((f"GPUS={gpus}", replace(run, gpus=gpus)) for gpus in (2, 4, 8) if gpus > run.gpus)
    if run.adapter is None:  # the adapter of configs/dapo.yaml
        yield "recode.adapter=dora", replace(run, adapter=Adapter(64, RELEASED_TARGETS, dora=True, dropout=True))


# --- the report -------------------------------------------------------------------------------------------------------


def report(name: str, overrides: Sequence[str], place: fit.Place) -> fit.Report:
    """The estimates for configs/NAME.yaml and Hydra overrides. Raises NotModelled, InputError."""
    given = [one.partition("=")[0] for one in overrides]
    here = {"trainer.n_gpus_per_node": place.gpus, "trainer.nnodes": place.nodes}
    config = compose(name, [*overrides, *(f"{key}={number}" for key, number in here.items() if key not in given)])
    checks.check(config)
    gpus, nodes = config.trainer.n_gpus_per_node, config.trainer.nnodes
    if gpus > place.gpus:
        raise InputError(f"trainer.n_gpus_per_node={gpus}: the node has {place.gpus} GPU(s)")
    if nodes != place.nodes:
        raise InputError(f"trainer.nnodes={nodes}, but --nodes is {place.nodes}: leave one of them out")
    return report_of(config, place)


def report_of(config: DictConfig, place: fit.Place) -> fit.Report:
    """The estimates for a composed configuration."""
    shape = load_shape(config.actor_rollout_ref.model.path)
    run = run_of(config, shape)
    batch = f"{run.prompts} prompts x {run.group}"
    return fit.report(
        run,
        partial(estimate, shape, card=place.card),
        changes,
        partial(seconds, shape),
        place,
        model=config.actor_rollout_ref.model.path,
        parameters=shape.parameters,
        summary=f"DAPO, {run.adapter or 'all weights'}; {batch} completions a step on {run.all_gpus} GPU(s)",
        steps=run.steps,
        cpus=(machine.cpus_needed(config), "or Ray waits forever"),
        output=Path(config.trainer.default_local_dir),
    )
