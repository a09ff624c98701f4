"""What the builders of all architectures share: one table of aliases per concept, and typed reading of a config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from sim.core import MISSING, InputError, Registry
from sim.models.mixers import GQA, MLA, Mixer
from sim.models.spec import Coverage, Dense, FeedForward, LayerGroup, MoE

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_head"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads"),
    "head_dim": ("head_dim", "attention_head_dim"),
    "intermediate": ("intermediate_size", "ffn_dim", "n_inner"),
    "vocabulary": ("vocab_size",),
    "positions": ("max_position_embeddings", "n_positions", "seq_length"),
    "experts": ("n_routed_experts", "num_experts", "num_local_experts"),
    "top_k": ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts"),
    "expert_width": ("moe_intermediate_size",),
    "expert_latent": ("moe_latent_size", "routed_expert_hidden_size"),
    "shared_experts": ("n_shared_experts", "num_shared_experts"),
    "shared_width": ("shared_expert_intermediate_size", "shared_intermediate_size", "share_expert_dim"),
    "dense_first": ("first_k_dense_replace",),
    "moe_every": ("moe_layer_freq", "decoder_sparse_step"),
    "dense_layers": ("mlp_only_layers",),
    "tied": ("tie_word_embeddings",),
    "dtype": ("torch_dtype", "dtype"),
    "window": ("sliding_window",),
    "state_dtype": ("mamba_ssm_cache_dtype", "mamba_ssm_dtype"),
}
"""Keys under which configs give each concept, the first that is present and not null counts."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What an architecture contributes to a model beside its widths.

    Attributes:
        layers: Layer groups, first to last.
        learned_positions: Rows of a learned position embedding.
        norm_bias: Whether norms have a bias.
        norms_per_layer: Norms of the residual width in a layer.
        tied_embeddings: Whether LM head and embedding share weights where the config does not say.
        quantized: Which linear layers a quantised checkpoint covers, or None to go by its configuration.
        residual_streams: Copies of the residual.
        experts_dtype: Format of routed experts where the config names it apart from that of other linear layers.
    """

    layers: tuple[LayerGroup, ...]
    learned_positions: int = 0
    norm_bias: bool = False
    norms_per_layer: int = 2
    tied_embeddings: bool = False
    quantized: Coverage | None = None
    residual_streams: int = 1
    experts_dtype: str | None = None


@dataclass
class ConfigReader:
    """A parsed config; remembers which keys were read.

    Attributes:
        data: The config.
        file: Its name, for messages.
        used: Keys read so far.
    """

    data: Mapping[str, Any]
    file: str
    used: set[str] = field(default_factory=set)

    def get(self, concept: str) -> Any:
        """Value of the first alias of `concept` that is present and not null, or None."""
        found = None
        for key in ALIASES.get(concept, (concept,)):
            self.used.add(key)
            if found is None:
                found = self.data.get(key)
        return found

    def integer(self, concept: str, default: int | None = None, *, least: int = 1) -> int:
        """An integer of at least `least`; `default` where it is absent.

        Raises:
            InputError: if it is absent without default, or no such integer.
        """
        value = self.get(concept)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            what = "this key is required" if value is None else f"expected an integer of at least {least}"
            raise self.error(concept, what)
        return value

    def flag(self, concept: str, default: bool = False) -> bool:
        """True or false; `default` where it is absent.

        Raises:
            InputError: if it is something else.
        """
        value = self.get(concept)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(concept, "expected true or false")
        return value

    def sequence(self, concept: str, *, length: int | None = None) -> list[Any] | None:
        """A list, of `length` where given; None where it is absent.

        Raises:
            InputError: if it is no list, or of another length.
        """
        value = self.get(concept)
        if value is None:
            return None
        if not isinstance(value, list) or (length is not None and len(value) != length):
            raise self.error(concept, "expected a list" + ("" if length is None else f" of {length} entries"))
        return value

    def refuse(self, concept: str) -> None:
        """Nothing, if the switch `concept` is off.

        Raises:
            InputError: if it is on.
        """
        if self.flag(concept):
            raise self.error(concept, "not modelled for this architecture")

    def error(self, concept: str, message: str) -> InputError:
        """An error about `concept` that names the file, the key, its value and its aliases."""
        keys = ALIASES.get(concept, (concept,))
        key = next((key for key in keys if self.data.get(key) is not None), keys[0])
        allowed = f"one of {', '.join(keys)}" if len(keys) > 1 and key not in self.data else None
        return InputError(message, file=self.file, path=key, value=self.data.get(key, MISSING), allowed=allowed)


Builder = Callable[[ConfigReader], Parts]
ARCHITECTURES: Registry[Builder] = Registry("architecture", package="sim.models.architectures")
"""Builders by Hugging Face `model_type`."""


def grouped_query(config: ConfigReader, **options: Any) -> GQA:
    """Attention with the heads that the config gives; `options` are further or other fields of `GQA`."""
    heads = config.integer("heads")
    shape = {
        "heads": heads,
        "kv_heads": config.integer("kv_heads", heads),
        "head_dim": config.integer("head_dim", config.integer("hidden_size") // heads),
    }
    return GQA(**{**shape, **options})


def latent(config: ConfigReader, **options: Any) -> MLA:
    """Latent attention with the ranks that the config gives; `options` are further fields of `MLA`."""
    for key in ("kv_heads", "head_dim", "qk_head_dim"):
        config.get(key)  # given, but latent attention has none, or it follows from the others
    return MLA(
        heads=config.integer("heads"),
        q_rank=config.integer("q_lora_rank", 0, least=0) or None,
        kv_rank=config.integer("kv_lora_rank"),
        nope_dim=config.integer("qk_nope_head_dim"),
        rope_dim=config.integer("qk_rope_head_dim"),
        v_dim=config.integer("v_head_dim"),
        **options,
    )


def with_windows(attention: GQA, windows: Iterable[int | None]) -> list[Mixer]:
    """The attention of each layer, with its window."""
    return [attention.model_copy(update={"window": window}) for window in windows]


def typed_windows(config: ConfigReader, default: Callable[[int], bool], *, window: int | None) -> list[int | None]:
    """The window of each layer by `layer_types`, else `window` for the layers that `default` picks by index.

    Raises:
        InputError: if a layer has a type without known attention.
    """
    count = config.integer("layers")
    types = config.sequence("layer_types", length=count)
    if types is None:
        return [window if default(i) else None for i in range(count)]
    known = {"full_attention": None, "sliding_attention": window, "chunked_attention": window}
    if not {str(kind) for kind in types} <= set(known):
        raise config.error("layer_types", f"known types are {', '.join(known)}")
    return [known[str(kind)] for kind in types]


def routed_experts(config: ConfigReader, **options: Any) -> MoE:
    """Experts with the widths that the config gives; `options` are further fields of `MoE`."""
    width = config.integer("expert_width", 0, least=0) or config.integer("intermediate")
    count = config.integer("shared_experts", 0, least=0)
    shared = config.integer("shared_width", 0, least=0) or count * width
    fields = {
        "experts": config.integer("experts"),
        "top_k": config.integer("top_k"),
        "intermediate": width,
        "shared_intermediate": shared,
        "latent": config.integer("expert_latent", 0, least=0) or None,
    }
    return MoE(**{**fields, **options})


def expert_layers(config: ConfigReader) -> list[bool]:
    """Which layers have experts: `first_k_dense_replace` with `moe_layer_freq`, or `decoder_sparse_step` (counted
    from one) with `mlp_only_layers`."""
    count = config.integer("layers")
    first = config.integer("dense_first", 0, least=0)
    dense = set(config.sequence("dense_layers") or ())
    if isinstance(config.get("moe_every"), list):
        chosen = [bool(one) for one in config.sequence("moe_every", length=count) or ()]
    else:
        every = config.integer("moe_every", 1)
        offset = 1 if "decoder_sparse_step" in config.data else 0
        chosen = [(i + offset) % every == 0 for i in range(count)]
    return [chosen[i] and i >= first and i not in dense for i in range(count)]


def join(attentions: Iterable[Mixer | None], blocks: Iterable[FeedForward | None]) -> tuple[LayerGroup, ...]:
    """Layers given one by one, as groups of equal neighbours."""
    pairs = zip(attentions, blocks, strict=True)
    return tuple(LayerGroup(count=len(list(run)), attention=a, ffn=f) for (a, f), run in groupby(pairs))


def uniform(config: ConfigReader, attention: Mixer, ffn: FeedForward) -> tuple[LayerGroup, ...]:
    """As many equal layers as the config gives."""
    return (LayerGroup(count=config.integer("layers"), attention=attention, ffn=ffn),)


def mixed(config: ConfigReader, attentions: Sequence[Mixer], moe: MoE) -> tuple[LayerGroup, ...]:
    """Layers of which some have experts and the others a dense block."""
    chosen = expert_layers(config)
    dense = Dense(intermediate=config.integer("intermediate", moe.intermediate))
    return join(attentions, [moe if one else dense for one in chosen])
