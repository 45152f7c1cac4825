"""src/grpo.py itself with configs/grpo.yaml, on a folder with random weights: three steps, then a resume."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common.files import read_jsonl
from gpu.harness import Bench
from gpu.shapes import build

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "data" / "train.jsonl"
STEPS = 3
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (  # ChatML, as Qwen's
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(vocabulary: int = 4000) -> Any:
    """A byte-level BPE trained on the prompts, so that they have about as many tokens as a real model's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from prompts import migration_messages
    from records import load_records

    texts = [message["content"] for record in load_records(DATA) for message in migration_messages(record)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=SPECIAL[0], eos_token=SPECIAL[2])
    fast.chat_template = TEMPLATE
    return fast


def command(bench: Bench, model: Path, run: Path) -> list[str]:
    """The launch, without the number of steps. A constant rate: with the cosine a longer run is not the same run."""
    return [
        *(sys.executable, str(ROOT / "src" / "grpo.py"), "--config", str(ROOT / "configs" / "grpo.yaml")),
        *("--model_name_or_path", str(model), "--data", str(DATA), "--output_dir", str(run), "--report_to", "none"),
        *("--save_steps", "1", "--print_samples", "0", "--seed", str(bench.seed)),
        *("--lr_scheduler_type", "constant", "--warmup_steps", "0"),
        *("--max_completion_length", str(bench.shape.completion)),
        *(() if bench.device.type == "cuda" else ("--use_cpu", "true")),
    ]


def trainer(bench: Bench) -> None:
    """Log the seconds of a step, and whether the resumed run continues with the next prompt."""
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as name:
        model, run = Path(name, "model"), Path(name, "run")
        build(bench.shape, bench.device, bench.seed).save_pretrained(model)
        make_tokenizer().save_pretrained(model)
        bench.free()
        start = command(bench, model, run)
        if not launch(bench, "first steps", [*start, "--max_steps", str(STEPS)]):
            return
        resume = ["--max_steps", str(STEPS + 1), "--resume_from_checkpoint", "auto"]
        if not launch(bench, "resume", [*start, *resume]):
            return
        metrics, rollouts = read_jsonl(run / "metrics.jsonl"), read_jsonl(run / "rollouts.jsonl")
    steps = [row["step"] for row in metrics]
    seconds = [row["step_time"] for row in metrics]
    numbers = {"seconds": statistics.median(seconds), "steps": steps, "all_seconds": seconds}
    bench.log.note("trainer", "step", **numbers, completion_tokens=bench.shape.completion)
    distinct = len({row["record_id"] for row in rollouts})
    continues = steps == list(range(1, STEPS + 2)) and distinct == STEPS + 1
    bench.log.note("trainer", "resume continues", prompts=distinct, continues=continues)


def launch(bench: Bench, what: str, words: list[str]) -> bool:
    """Run src/grpo.py, log how long it took or how it failed, and keep its output beside the log."""
    start = time.perf_counter()
    one_card = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]  # src/grpo.py refuses several
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": one_card, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    output = bench.log.path.parent / f"trainer-{what.replace(' ', '-')}.txt"
    output.write_text(done.stdout[-20000:] + done.stderr[-20000:], "utf-8")
    if done.returncode:
        bench.log.note("trainer", what, failed=done.stderr[-300:])
        return False
    bench.log.note("trainer", what, wall_seconds=time.perf_counter() - start)
    return True
