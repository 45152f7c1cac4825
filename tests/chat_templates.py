"""Chat templates of the structure of public model families, each on the tests' own tokenizer.

The texts are ours. What matters is kept: how a family treats a system turn, what it writes before and after an
assistant's text, which of its tokens is eos, and what it does with thinking and with the date.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Family:
    """A chat template with the special tokens of its tokenizer."""

    template: str | dict[str, str]
    special: tuple[str, ...]
    eos: str
    bos: str | None = None


IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
GEMMA_TOKENS = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
LLAMA_TOKENS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
R1_TOKENS = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")

TURN = "<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n"
CHATML = (
    "{% for turn in messages %}" + TURN + "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ALTERNATE = (
    "{% if (turn.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
)
GEMMA_TURN = (
    "<start_of_turn>{{ 'model' if turn.role == 'assistant' else turn.role }}\n{{ lead }}{{ turn.content | trim }}"
    "<end_of_turn>\n"
)
GEMMA_2 = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for turn in messages %}" + ALTERNATE + GEMMA_TURN + "{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA_3 = (
    "{{ bos_token }}{% set rest = messages %}{% set system = '' %}{% if messages[0].role == 'system' %}"
    "{% set system = messages[0].content + '\n\n' %}{% set rest = messages[1:] %}{% endif %}"
    "{% for turn in rest %}" + ALTERNATE + "{% set lead = system if loop.first else '' %}" + GEMMA_TURN + "{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL_01 = (
    "{{ bos_token }}{% for turn in messages %}"
    + ALTERNATE
    + "{% if turn.role == 'user' %}[INST] {{ turn.content }} [/INST]"
    "{% else %} {{ turn.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
MISTRAL_03 = (  # the system text is written only if the user's turn is the last
    "{{ bos_token }}{% for turn in messages %}{% if turn.role == 'user' %}[INST] "
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}"
    "{{ turn.content }}[/INST]{% elif turn.role == 'assistant' %} {{ turn.content | trim }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
QWEN_3 = (  # the last assistant turn holds a think part, even if it is empty
    "{% for turn in messages %}{% if turn.role == 'assistant' and loop.last %}"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n{{ turn.content }}<|im_end|>\n{% else %}"
    + TURN
    + "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
R1 = (  # a generation prompt opens the think part; finished turns lose theirs
    "{{ bos_token }}{% for turn in messages %}{% if turn.role == 'system' %}{{ turn.content }}"
    "{% elif turn.role == 'user' %}<｜User｜>{{ turn.content }}"
    "{% else %}<｜Assistant｜>{{ turn.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
LLAMA_32 = (
    "{{ bos_token }}{% set rest = messages %}{% set system = '' %}{% if messages[0].role == 'system' %}"
    "{% set system = messages[0].content | trim %}{% set rest = messages[1:] %}{% endif %}"
    "{% if strftime_now is defined %}{% set today = strftime_now('FORMAT') %}{% else %}{% set today = '?' %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nToday: {{ today }}\n\n{{ system }}<|eot_id|>"
    "{% for turn in rest %}<|start_header_id|>{{ turn.role }}<|end_header_id|>\n\n{{ turn.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
PHI_3 = (  # without a generation prompt, the text ends with eos
    "{% for turn in messages %}<|{{ turn.role }}|>\n{{ turn.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
GLM_4 = (  # nothing ends an assistant's turn but the next turn
    "[gMASK]<sop>{% for turn in messages %}<|{{ turn.role }}|>\n"
    "{% if turn.role == 'assistant' %}<think></think>\n{% endif %}{{ turn.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
HARMONY = (  # gpt-oss: the date, and another end for the last turn
    "<|start|>system<|message|>Current date: {{ strftime_now('%Y-%m-%d') }}<|end|>{% for turn in messages %}"
    "{% if turn.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>{{ turn.content }}"
    "{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}"
    "{% else %}<|start|>{{ 'developer' if turn.role == 'system' else 'user' }}<|message|>{{ turn.content }}<|end|>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
NO_SYSTEM = (
    "{% for turn in messages %}{% if turn.role == 'user' %}<|user|>\n{{ turn.content }}<|end|>\n<|assistant|>\n"
    "{% elif turn.role == 'assistant' %}{{ turn.content }}<|end|>\n{% endif %}{% endfor %}"
)
NEXT_TURN_ENDS = (  # the end of a turn is written with the next one
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}"
    "{% if not loop.last %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_end|>\n<|im_start|>assistant\n{% endif %}"
)
MACRO = (
    "{% macro turn_of(role, text) %}<|im_start|>{{ role }}\n{{ text }}{{ end }}\n{% endmacro %}"
    "{% set end = '<|im_end|>' %}{% set ns = namespace(count=0) %}"
    "{% for turn in messages %}{{ turn_of(turn.role, turn.content) }}\n"
    "{%- set ns.count = ns.count + 1 %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INDENTED = """    {% for turn in messages %}
        {{- '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>\\n' -}}
    {% endfor %}
    {% if add_generation_prompt %}
        {{- '<|im_start|>assistant\\n' -}}
    {% endif %}
"""
QWEN_25 = (  # it writes a system turn if there is none
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
DEEPSEEK_TOKENS = ("<｜begin▁of▁sentence｜>", "<|EOT|>")
PHI_TOKENS = ("<s>", "<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
HARMONY_TOKENS = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>")
GLM_TOKENS = ("[gMASK]", "<sop>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>")

FAMILIES = {
    "chatml": Family(CHATML, IM, "<|im_end|>"),
    "gemma-2": Family(GEMMA_2, GEMMA_TOKENS, "<end_of_turn>", "<bos>"),
    "gemma-3": Family(GEMMA_3, GEMMA_TOKENS, "<eos>", "<bos>"),
    "mistral-0.1": Family(MISTRAL_01, ("<s>", "</s>"), "</s>", "<s>"),
    "mistral-0.3": Family(MISTRAL_03, ("<s>", "</s>", "[INST]", "[/INST]"), "</s>", "<s>"),
    "qwen-3": Family(QWEN_3, IM, "<|im_end|>"),
    "qwen-3-thinking": Family(CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"), IM, "<|im_end|>"),
    "deepseek-r1": Family(R1, R1_TOKENS, R1_TOKENS[1], R1_TOKENS[0]),
    "llama-3.2": Family(LLAMA_32.replace("FORMAT", "%d %b %Y"), LLAMA_TOKENS, "<|eot_id|>", LLAMA_TOKENS[0]),
    "seconds": Family(LLAMA_32.replace("FORMAT", "%H:%M:%S.%f"), LLAMA_TOKENS, "<|eot_id|>", LLAMA_TOKENS[0]),
    "phi-3": Family(PHI_3, PHI_TOKENS, "<|endoftext|>", "<s>"),
    "glm-4": Family(GLM_4, GLM_TOKENS, "<|endoftext|>"),
    "gpt-oss": Family(HARMONY, HARMONY_TOKENS, "<|return|>"),
    "command-r": Family({"default": CHATML, "tool_use": "tools", "rag": "documents"}, IM, "<|im_end|>"),
    "no-system": Family(NO_SYSTEM, PHI_TOKENS, "<|end|>", "<s>"),
    "next-turn-ends": Family(NEXT_TURN_ENDS, IM, "<|endoftext|>"),
    "leading-newline": Family(f"\n{CHATML}", IM, "<|im_end|>"),
    "blanks-at-the-end": Family(f"{CHATML}   \n", IM, "<|im_end|>"),
    "indented": Family(INDENTED, IM, "<|im_end|>"),
    "generation-tag": Family(
        CHATML.replace("{{ turn.content }}", "{% generation %}{{ turn.content }}{% endgeneration %}"), IM, "<|im_end|>"
    ),
    "macro": Family(MACRO, IM, "<|im_end|>"),
}


# One of each of the models that the paper trains, and Llama; deepseek and llama add BOS to every text.
TRAINED = {
    "chatml": Family(QWEN_25, IM, "<|im_end|>", IM[0]),
    "deepseek": Family(DEEPSEEK, DEEPSEEK_TOKENS, "<|EOT|>", DEEPSEEK_TOKENS[0]),
    "llama": Family(LLAMA, LLAMA_TOKENS, "<|eot_id|>", LLAMA_TOKENS[0]),
}


@lru_cache(maxsize=1)
def _bpe(vocabulary: int = 2000) -> str:
    """A byte-level BPE trained on this project's own records, as JSON."""
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


def make_tokenizer(name: str) -> Any:
    """The tokenizer of one of TRAINED."""
    return make_family(TRAINED[name], adds_bos=name != "chatml")


def make_family(family: Family, *, adds_bos: bool = False, adds_eos: bool = False) -> Any:
    """A fast tokenizer with this template, which can add BOS and eos to every text."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(_bpe())
    backend.add_special_tokens(list(family.special))
    if adds_bos or adds_eos:
        before, after = (f"{family.bos} " if adds_bos else ""), (f" {family.eos}" if adds_eos else "")
        added = [(t, backend.token_to_id(t)) for t in (family.bos, family.eos) if t]
        backend.post_processor = processors.TemplateProcessing(single=f"{before}$A{after}", special_tokens=added)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=family.bos, eos_token=family.eos, pad_token=family.eos
    )
    tokenizer.chat_template = family.template
    return tokenizer
