"""Small tokenizers with the chat templates of the model families that users swap in. The templates are ours, written
after each family's format: header, end-of-turn token, BOS and system handling as theirs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\n' }}"
    "{% elif message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n' }}"
    "{% else %}{{ '### Response:\n' + message['content'] + '\n<|EOT|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:' }}{% endif %}"
)
LLAMA = (
    "{{- bos_token }}\n{%- if messages[0]['role'] == 'system' %}\n"
    "    {%- set system = messages[0]['content'] | trim %}\n"
    "    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system = '' %}\n{%- endif %}\n"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\n' + system + '<|eot_id|>' }}\n"
    "{%- for message in messages %}\n"
    "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}\n"
    "    {{- message['content'] | trim + '<|eot_id|>' }}\n"
    "{%- endfor %}\n{%- if add_generation_prompt %}\n"
    "    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}\n{%- endif %}\n"
)
FAMILIES: dict[str, dict[str, Any]] = {
    "chatml": {
        "template": CHATML,
        "special": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        "bos": "<|endoftext|>",
        "eos": "<|im_end|>",
        "adds_bos": False,
        "writes_bos": False,
        "header": "<|im_start|>assistant\n",
    },
    "deepseek": {
        "template": DEEPSEEK,
        "special": ["<｜begin▁of▁sentence｜>", "<|EOT|>"],
        "bos": "<｜begin▁of▁sentence｜>",
        "eos": "<|EOT|>",
        "adds_bos": True,
        "writes_bos": True,
        "header": "### Response:\n",
    },
    "llama": {
        "template": LLAMA,
        "special": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "bos": "<|begin_of_text|>",
        "eos": "<|eot_id|>",
        "adds_bos": True,
        "writes_bos": True,
        "header": "<|start_header_id|>assistant<|end_header_id|>\n\n",
    },
}


@lru_cache(maxsize=1)
def _bpe(vocabulary: int) -> str:
    """A byte-level BPE trained on this project's own records, as JSON."""
    from pathlib import Path

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    from prompts import migration_messages, reference_completion
    from records import load_records

    records = load_records(Path(__file__).parent.parent / "data" / "train.jsonl")
    texts = [m["content"] for r in records for m in migration_messages(r)]
    texts += [reference_completion(r.new_code) for r in records]
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


def make_tokenizer(family: str, vocabulary: int = 2000) -> Any:
    """A fast tokenizer of one family: its template, its special tokens, and BOS added as the family does."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    kind = FAMILIES[family]
    backend = Tokenizer.from_str(_bpe(vocabulary))
    backend.add_special_tokens(kind["special"])
    if kind["adds_bos"]:
        bos = kind["bos"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=kind["bos"], eos_token=kind["eos"], pad_token=kind["eos"]
    )
    tokenizer.chat_template = kind["template"]
    return tokenizer
