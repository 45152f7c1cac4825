"""The sizes of a model, from its config.json: what memory and time estimates need.

Only dense decoders with a gated MLP are modelled, in the families below. Anything else (mixtures of experts, images,
quantised weights, other layers) raises NotModelled, because an estimate would be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from common.errors import ReCodeError
from common.models import load_config
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


class Shape(BaseModel):
    """A dense decoder, by the keys of its config.json. Sizes are numbers of elements, not bytes."""

    model_config = ConfigDict(frozen=True)
    model_type: str
    layers: PositiveInt = Field(alias="num_hidden_layers")
    hidden: PositiveInt = Field(alias="hidden_size")
    intermediate: PositiveInt = Field(alias="intermediate_size")
    heads: PositiveInt = Field(alias="num_attention_heads")
    own_kv_heads: PositiveInt | None = Field(None, alias="num_key_value_heads")  # none: as many as attention heads
    own_head: PositiveInt | None = Field(None, alias="head_dim")
    vocabulary: PositiveInt = Field(alias="vocab_size")
    tied: bool = Field(alias="tie_word_embeddings")
    context: PositiveInt = Field(32768, alias="max_position_embeddings")
    attention_bias: bool = False
    mlp_bias: bool = False
    quantization: Mapping[str, Any] | None = Field(None, alias="quantization_config")

    @property
    def family(self) -> Family:
        return FAMILIES[self.model_type]

    @property
    def kv_heads(self) -> int:
        return self.own_kv_heads or self.heads

    @property
    def head(self) -> int:
        return self.own_head or self.hidden // self.heads

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
        qkv_bias = self.family.qkv_bias or self.attention_bias
        biases = qkv_bias * (self.queries + 2 * self.keys) + self.attention_bias * self.hidden
        biases += self.mlp_bias * (2 * self.intermediate + self.hidden)
        norms = self.family.norms * self.hidden + self.family.head_norms * 2 * self.head
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
    experts = [key for key in config if "expert" in key and isinstance(config[key], int) and config[key] > 1]
    if experts or kind not in FAMILIES:
        what = f"a mixture of experts ({experts[0]})" if experts else f"model_type {kind}"
        raise NotModelled(f"{model}: {what} is not modelled, only {', '.join(FAMILIES)}")
    shape = typed(Shape, config, f"{model}: config.json", whole="")
    if shape.quantization:
        raise NotModelled(f"{model}: quantised weights are not modelled")
    return shape


def load_shape(model: str, revision: str = "main") -> Shape:
    """The shape of a model in a folder, in the cache, or on the hub (its config.json only). Raises NotModelled,
    InputError."""
    return shape_of(load_config(model, revision).to_dict(), model)
