"""What an engine keeps of a device's memory for all but weights and KV cache, where nobody gives it a share.

SGLang works it out from the shape of a server (`_handle_gpu_memory_settings` in `sglang/srt/server_args.py`): prompts
of a chunk need activations, captured batches need graphs, ranks need communication buffers. See `StaticReserve`.
"""

from __future__ import annotations

from pydantic import Field, field_validator

from sim.core import DataBytes, Sourced, Spec

_DIGITS = 3
"""Decimals to which the engine rounds the share."""


class GraphRows(Spec):
    """Largest batch that is captured on a class of devices; the first entry that fits holds.

    Attributes:
        min_memory: Least device memory of the class.
        few_ranks: Sequences with fewer than four ranks.
        many_ranks: Sequences with four or more.
    """

    min_memory: DataBytes = 0.0
    few_ranks: int = Field(gt=0)
    many_ranks: int = Field(gt=0)


class StaticReserve(Spec):
    """Memory of a device that is kept free of weights and KV cache.

    For chunks of T tokens, captured batches of G sequences and n ranks of one engine, d of them data parallel in
    attention, it is `fixed + per_token max(T, least_tokens) + per_row G + per_rank n`; where d > 1 also
    `per_padded_row G d` and, if G exceeds `crowded_rows`, `per_crowded_row G d`; on devices above `large_memory` it is
    `least` or more; `drafts` come on top where a draft model speculates.

    Two things differ from SGLang, whose servers with wide data parallelism are always told a share, since its rule
    leaves them nothing. T is what one rank computes, not the chunk of all ranks before it is divided among them. G is
    no more than the sequences that may run.

    Attributes:
        fixed: Metadata of kernels [B].
        per_token: Activations per token of a chunk [B].
        least_tokens: Chunk below which activations do not shrink.
        rows: Captured batches by class of device.
        per_row: Graphs per captured sequence [B].
        per_rank: Buffers per rank of the engine [B].
        per_padded_row: Padding per captured sequence and data-parallel rank [B].
        crowded_rows: Captured batch above which that needs more.
        per_crowded_row: How much more [B].
        large_memory: Device memory above which `least` holds [B].
        least: Least of it all but drafts [B].
        drafts: Weights and graphs of a draft model [B].
    """

    fixed: Sourced[DataBytes]
    per_token: Sourced[DataBytes]
    least_tokens: Sourced[int]
    rows: tuple[GraphRows, ...] = Field(min_length=1)
    per_row: Sourced[DataBytes]
    per_rank: Sourced[DataBytes]
    per_padded_row: Sourced[DataBytes]
    crowded_rows: Sourced[int]
    per_crowded_row: Sourced[DataBytes]
    large_memory: Sourced[DataBytes]
    least: Sourced[DataBytes]
    drafts: Sourced[DataBytes]

    @field_validator("rows")
    @classmethod
    def _some_entry_fits(cls, value: tuple[GraphRows, ...]) -> tuple[GraphRows, ...]:
        if value[-1].min_memory:
            raise ValueError("the last entry must fit every device: without `min_memory`")
        return value

    def captured_rows(self, device_bytes: float, width: int) -> int:
        """Sequences of the largest captured batch on a device of this memory [B], so many ranks to a stage."""
        entry = next(one for one in self.rows if device_bytes >= one.min_memory)
        return entry.few_ranks if width < 4 else entry.many_ranks

    def reserved_bytes(
        self, device_bytes: float, *, tokens: int, seqs: int, dp: int, width: int, drafts: bool, pp: int = 1
    ) -> float:
        """Memory that is kept [B].

        Args:
            device_bytes: Memory of the device [B].
            tokens: Most tokens of an iteration of one data-parallel rank.
            seqs: Most sequences of one; no larger batch is captured.
            dp: Data-parallel ranks of attention.
            width: Ranks of a pipeline stage, `--tp-size` of SGLang: tensor times data parallel.
            drafts: Whether a draft model speculates.
            pp: Pipeline stages.
        """
        rows = min(seqs, self.captured_rows(device_bytes, width))
        kept = self.fixed.value + self.per_token.value * max(tokens, self.least_tokens.value)
        kept += self.per_row.value * rows + self.per_rank.value * width * pp
        if dp > 1:
            crowded = self.per_crowded_row.value if rows > self.crowded_rows.value else 0.0
            kept += (self.per_padded_row.value + crowded) * rows * dp
        if device_bytes > self.large_memory.value:
            kept = max(kept, self.least.value)
        return kept + (self.drafts.value if drafts else 0.0)

    def share(
        self, device_bytes: float, *, tokens: int, seqs: int, dp: int, width: int, drafts: bool, pp: int = 1
    ) -> float:
        """Share of the memory [0, 1] for weights and KV cache; 0 where the rest takes all. See `reserved_bytes`."""
        kept = self.reserved_bytes(device_bytes, tokens=tokens, seqs=seqs, dp=dp, width=width, drafts=drafts, pp=pp)
        return max(0.0, round(1.0 - kept / device_bytes, _DIGITS))
