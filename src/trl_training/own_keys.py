"""The keys of src/grpo.py and src/sft.py beyond those of trl, transformers and peft."""

from __future__ import annotations

from dataclasses import dataclass, field

from prompts import DEFAULT_WORDING


@dataclass
class DataArguments:
    """Keys that SFT and GRPO share."""

    data: str = field(
        default="",
        metadata={
            "help": "records: JSONL or JSON file, or hf://datasets/OWNER/NAME[@REVISION][/FILE]",
            "required": True,
        },
    )
    bad_rows: str = field(
        default="stop",
        metadata={"help": "rows with errors: stop, drop, or keep those that have a prompt and a target"},
    )
    max_prompt_length: int = field(default=2048, metadata={"help": "drop records whose prompt has more tokens"})
    max_target_length: int | None = field(
        default=None, metadata={"help": "drop records whose target code has more tokens"}
    )
    prompt: str = field(
        default=DEFAULT_WORDING,
        metadata={"help": "wording of the prompt: paper, or precise (docs/differences.md); see src/prompts.py"},
    )
    dora_norm: str = field(
        default="factored",
        metadata={"help": "how DoRA's row norms are computed: factored (src/dora.py), or peft from dense products"},
    )
    check: int | None = field(
        default=None,
        metadata={
            "help": "check flags, model and data (those on this machine) and output_dir for a launch of this many "
            "processes, print the requirements files that the run needs, and stop"
        },
    )


@dataclass
class GrpoArguments(DataArguments):
    """Keys of src/grpo.py beyond trl's."""

    reward: str = field(
        default="format,es_star",
        metadata={
            "help": "rewards by name: format,em,es,em_star,es_star, and ours: dm_star (src/diff_match.py), execution "
            "(src/evaluation/migration/execution.py); or by "
            "dotted path: my_rewards.mine, a function as trl calls it (src/trl_training/reward_functions.py)"
        },
    )
    alternatives: bool = field(
        default=False,
        metadata={"help": "score against the best of the target and the record's `alternatives` in evidence.jsonl"},
    )
    prompts_per_step: int | None = field(
        default=None, metadata={"help": "prompts in an optimizer step; sets gradient_accumulation_steps"}
    )
    updates_per_generation: int = field(
        default=1, metadata={"help": "optimizer steps on each batch of rollouts; above 1 the clip takes effect"}
    )
    overlong_buffer: int | None = field(
        default=None,
        metadata={"help": "DAPO's soft punishment, 0 to -1 over the last N tokens of max_completion_length"},
    )
    dora_generation: str = field(
        default="merge", metadata={"help": "how rollouts compute DoRA: merge, cache or stock (src/adapters.py)"}
    )
    rollouts: str = field(
        default="auto",
        metadata={
            "help": "sampling without vLLM: shared (src/rollouts.py), transformers, or compiled (transformers with a "
            "static cache, for a GPU); auto is shared on a CPU, transformers on a GPU"
        },
    )
    shared_prompt: bool = field(
        default=True,
        metadata={"help": "run a prompt once for its completions in updates (src/trl_training/shared_prompt.py)"},
    )
    print_samples: int = field(default=1, metadata={"help": "rollouts to print at each logged step"})


@dataclass
class SftArguments(DataArguments):
    """Keys of src/sft.py beyond trl's."""

    examples_per_step: int | None = field(
        default=None, metadata={"help": "examples in an optimizer step; sets gradient_accumulation_steps"}
    )
