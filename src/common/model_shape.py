"""The sizes of a model, from its config.json: what memory and time estimates need.

Only dense decoders with a gated MLP are modelled, in the families below. Anything else (mixtures of experts, images,
quantised weights, other layers) raises NotModelled, because an estimate would be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from common.errors import InputError, ReCodeError
from common.models import refuse_absent
from common.rows import typed


class NotModelled(ReCodeError):
    """This model or configuration has no estimate; the message is one line."""


@dataclass(frozen=True)
class Family:
    """What a model_type implies and its config.json does not say."""

    norms: int = 2  # in a layer, each of the hidden size
    qkv_bias: bool = False
    head_norms: bool = False  # of queries and keys


FAMILIES = {
    "llama": Family(),  # DeepSeek-Coder, CodeLlama, SmolLM2 too
    "mistral": Family(),
    "qwen2": Family(qkv_bias=True),
    "qwen3": Family(head_norms=True),
    "smollm3": Family(),
    "gemma": Family(),
    "gemma2": Family(norms=4),
    "gemma3_text": Family(norms=4, head_norms=True),
}


class ModelKeys(BaseModel):
    """The keys of a config.json that are read."""

    model_type: str
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int | None = None  # none: as many as attention heads
    head_dim: int | None = None
    vocab_size: int
    tie_word_embeddings: bool
    attention_bias: bool = False
    mlp_bias: bool = False
    max_position_embeddings: int = 32768
    quantization_config: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Shape:
    """A dense decoder. Sizes are numbers of elements, not bytes."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    tied: bool
    context: int = 32768
    norms: int = 2
    head_norms: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False

    @property
    def queries(self) -> int:
        return self.heads * self.head

    @property
    def keys(self) -> int:
        return self.kv_heads * self.head

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear modules of a layer: (inputs, outputs), under the names that peft knows them by."""
        h, i = self.hidden, self.intermediate
        attention = {"q_proj": (h, self.queries), "k_proj": (h, self.keys), "v_proj": (h, self.keys)}
        rest = {"o_proj": (self.queries, h), "gate_proj": (h, i), "up_proj": (h, i), "down_proj": (i, h)}
        return attention | rest

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        biases = self.qkv_bias * (self.queries + 2 * self.keys) + self.output_bias * self.hidden
        biases += self.mlp_bias * (2 * self.intermediate + self.hidden)
        norms = self.norms * self.hidden + self.head_norms * 2 * self.head
        return sum(inputs * outputs for inputs, outputs in self.linears.values()) + biases + norms

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + (1 if self.tied else 2) * self.embedding + self.hidden

    @property
    def computed(self) -> int:
        """Parameters that each token is multiplied with: the layers and the LM head, not the look-up of embeddings."""
        return self.layers * self.layer + self.embedding


def shape_of(config: Mapping[str, Any], model: str) -> Shape:
    """The shape of a model from its config.json (transformers' defaults filled in). Raises NotModelled, InputError."""
    kind = config.get("model_type")
    family = FAMILIES.get(str(kind))
    experts = [key for key in config if "expert" in key and isinstance(config[key], int) and config[key] > 1]
    if experts or family is None:
        what = f"a mixture of experts ({experts[0]})" if experts else f"model_type {kind}"
        raise NotModelled(f"{model}: {what} is not modelled, only {', '.join(FAMILIES)}")
    keys = typed(ModelKeys, config, f"{model}: config.json", whole="")
    if keys.quantization_config:
        raise NotModelled(f"{model}: quantised weights are not modelled")
    return Shape(
        layers=keys.num_hidden_layers,
        hidden=keys.hidden_size,
        intermediate=keys.intermediate_size,
        heads=keys.num_attention_heads,
        kv_heads=keys.num_key_value_heads or keys.num_attention_heads,
        head=keys.head_dim or keys.hidden_size // keys.num_attention_heads,
        vocabulary=keys.vocab_size,
        tied=keys.tie_word_embeddings,
        context=keys.max_position_embeddings,
        norms=family.norms,
        head_norms=family.head_norms,
        qkv_bias=family.qkv_bias or keys.attention_bias,
        output_bias=keys.attention_bias,
        mlp_bias=keys.mlp_bias,
    )


def load_shape(model: str, revision: str = "main") -> Shape:
    """The shape of a model in a folder, in the cache, or on the hub (its config.json only). Raises NotModelled.

    Raises InputError if there is no such model, or if the hub cannot be reached.
    """
    from transformers import AutoConfig

    refuse_absent(model)
    try:
        config = AutoConfig.from_pretrained(model, revision=revision)
    except KeyError as error:  # a model_type that this transformers does not have
        raise NotModelled(f"{model}: model_type {error} is not known to this transformers") from None
    except (OSError, ValueError) as error:
        why = str(error).strip().partition("\n")[0]
        raise InputError(
            f"model {model}: config.json cannot be read: {why} Without access to the hub, name a folder that has it"
        ) from None
    return shape_of(config.to_dict(), model)
