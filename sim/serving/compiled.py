"""Operators and collectives of a plan, compiled into a piecewise affine iteration cost.

Done once per (model, plan shape, device, engine) with vectorised numpy; the engine then only looks numbers up.

- What depends on the tokens of an iteration (projections, FFN or experts, norms, collectives) is tabulated for every
  token count, what depends on logits rows (LM head, sampling) for every row count.
- Recurrent states take one time per batch and one per length of a prompt chunk, whatever came before.
- Decode attention is evaluated on a grid of mean contexts for every batch and interpolated linearly between them, so
  it is piecewise affine in attended tokens with the grid as exact break points.
- Prefill attention has three parts per chunk (work, serial walk, bytes), each tabulated by chunk length and linear in
  the prefix; chunks of one launch are joined as the kernel form says.

Groups. Attention-data-parallel ranks advance in lock step and pipeline stages are kept busy by as many micro-batches
("lanes"). Both are folded into one engine: an iteration of the folded engine is one cycle in which every sequence of
every group gets its token. A group gets the rounded-up share of sequences and rows; prompts go to groups whole, so the
fullest group has the longest chunk or an even share, whichever is more; its sequences have the mean context. Experts
serve the tokens of all data-parallel ranks, however these are spread, so their time follows the even share. A cycle
lasts as long as one micro-batch takes through all stages; with all lanes full, the slowest stage counts for every one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from sim.core import Array
from sim.costs import CostModel, Use, merged
from sim.models import AttentionClass, ModelSpec, Operator, StateScan, decode_operators, prefill_operators
from sim.serving.drafts import Drafts
from sim.serving.iteration import DecodeRow
from sim.serving.schedulers import Chunk
from sim.serving.stages import EngineTiming, StageCosts, Stages, beside_prompts, is_joint

_CONTEXT_STEP = 1.5
"""Ratio of neighbouring mean contexts on the attention grid; linear interpolation errs by at most 0.15 % between."""

_FIRST_CONTEXT = 8.0
_EXACT_TOKENS = 512
_TOKEN_STEP = 1.02


def _token_grid(limit: int) -> Array:
    """Token counts at which operators are evaluated: all small ones, then geometric, to the first at `limit` or beyond.

    The points do not depend on the limit, so that plans which differ only in limits they never reach cost the same.
    """
    exact = np.arange(1, min(_EXACT_TOKENS, limit) + 1, dtype=np.float64)
    if limit <= _EXACT_TOKENS:
        return exact
    count = int(np.ceil(np.log(limit / _EXACT_TOKENS) / np.log(_TOKEN_STEP)))
    return np.concatenate([exact, np.ceil(_EXACT_TOKENS * _TOKEN_STEP ** np.arange(1, count + 1))])


_NO_DRAFTS = Drafts()


@dataclass(frozen=True)
class _Table:
    """Times by count 0..limit: total, and by cause; count 0 is free."""

    total_s: list[float]
    causes: dict[str, Array]
    bytes_per_rank: Array


class _Curves:
    """Weighted sum of operators, evaluated on `grid`: times by cause [s], and bytes of a rank."""

    def __init__(self, parts: Sequence[tuple[float, CostModel, list[Operator]]], grid: Array) -> None:
        self._grid = grid
        self._causes: dict[str, Array] = {}
        self._moved = np.zeros_like(grid)
        for weight, costs, operators in parts:
            for cause, seconds in costs.breakdown(operators).items():
                self._causes[cause] = self._causes.get(cause, 0.0) + weight * np.broadcast_to(seconds, grid.shape)
            for operator in operators:
                share = weight / len(parts) * operator.count
                self._moved = self._moved + share * np.broadcast_to(operator.bytes(), grid.shape)

    def read(self, at: Array) -> _Table:
        """Interpolated at the counts `at`; index 0 means no work."""
        spread = {cause: self._spread(at, seconds) for cause, seconds in self._causes.items()}
        total = sum(spread.values(), np.zeros(len(at) + 1))
        return _Table(total.tolist(), spread, self._spread(at, self._moved))

    def _spread(self, at: Array, values: Array) -> Array:
        return np.concatenate([[0.0], np.interp(at, self._grid, values)])


@dataclass(frozen=True)
class _PrefillTable:
    """Prompts in one class: per chunk length, `(at prefix 0, growth per token of prefix seen)` of each part [s].

    `longest_walk_s` is the walk over a full window.
    """

    work: tuple[list[float], list[float]]
    walk: tuple[list[float], list[float]]
    moved: tuple[list[float], list[float]]
    t0_s: float
    p: float
    longest_walk_s: float


Count = TypeVar("Count", int, Array)


class _Share(NamedTuple, Generic[Count]):
    """What the fullest group computes in an iteration, or in each of several.

    Attributes:
        tokens: Its tokens.
        even: Tokens of a group if all had the same, as experts of all groups see them.
        rows: Its rows of logits.
        drafted: Its sequences that get drafts.
        full: Whether every pipeline lane is in use.
        graphed: Whether it runs from CUDA graphs.
    """

    tokens: Count
    even: Count
    rows: Count
    drafted: Count
    full: Count
    graphed: Count


class CompiledCost:
    """Iteration cost of one replica; implements `IterationCost`.

    Args:
        model: The model.
        stages: Its pipeline stages, first to last, for one rank each.
        dp: Attention-data-parallel ranks that advance in lock step.
        max_sequences: Most sequences of one rank.
        token_budget: Most tokens of one rank's iteration.
        max_context: Longest sequence [tokens].
        timing: Host times of the engine.
        drafts: Speculative decoding; the model has the draft layers then.
    """

    def __init__(
        self,
        model: ModelSpec,
        stages: Sequence[StageCosts],
        *,
        dp: int,
        max_sequences: int,
        token_budget: int,
        max_context: int,
        timing: EngineTiming,
        drafts: Drafts = _NO_DRAFTS,
    ) -> None:
        self._stages = Stages(model, stages)
        self._drafts = drafts
        self._dp = dp
        self._pp = len(stages)
        self._timing = timing
        self._max_context = max_context
        self._sequence_limit = max_sequences
        self._row_limit = max_sequences * drafts.width
        self._token_limit = token_budget + self._row_limit
        self._draft_limit = max_sequences + 1 if drafts.layers else 0
        classes = self._stages.classes
        self.windows = tuple(cls.window for cls in classes)
        flops = sum(cls.flops_per_token for cls in classes)
        self.weights = tuple(cls.flops_per_token / flops if flops else 0.0 for cls in classes)
        self._evaluations: dict[bool, tuple[_Curves, _Table, _Table]] = {}
        self._tables: dict[tuple[bool, bool], tuple[_Table, _Table, _Table]] = {}
        self._splits: dict[bool, tuple[_Table, _Table]] = {}
        self._rows: dict[tuple[int, int, bool], DecodeRow] = {}
        self._grids: dict[tuple[int, bool], tuple[Array, Array]] = {}
        self._codes: dict[_Share[int], int] = {}
        self._decode_base: dict[int, tuple[float, int]] = {}
        self._hosts: dict[tuple[int, int], tuple[float, float]] = {}
        self._prefill = [self._prefill_table(cls) for cls in classes]

    @property
    def timing(self) -> EngineTiming:
        """Host times of the engine."""
        return self._timing

    def retimed(self, timing: EngineTiming) -> CompiledCost:
        """The same tables with other host times of the engine."""
        other = copy(self)
        other._timing = timing
        other._hosts = {}
        return other

    # ---- groups ----

    def _lanes(self, sequences: int) -> int:
        """Micro-batches in flight: one per stage, but no more than one rank has sequences."""
        return 1 if self._pp == 1 else min(self._pp, max(1, -(-sequences // self._dp)))

    def _table(self, full: bool, graphed: bool = True) -> tuple[_Table, _Table, _Table]:
        """Tables by tokens of a rank, by rows, and of drafts by sequences.

        Args:
            full: Whether every pipeline lane is in use.
            graphed: Whether it runs from CUDA graphs.
        """
        key = full, graphed
        if key not in self._tables:
            tokens, rows, drafts = self._evaluated(full)
            self._tables[key] = tokens.read(self._counts(graphed)), rows, drafts
        return self._tables[key]

    def _evaluated(self, full: bool) -> tuple[_Curves, _Table, _Table]:
        """Costs by tokens of a rank, and what graphs do not change: tables by rows, and of drafts by sequences."""
        if full not in self._evaluations:
            stages, weighted = self._stages, self._stages.weighted(full)
            grid, rows = self._token_grid, _token_grid(self._row_limit + 1)
            sequences = _token_grid(max(1, self._draft_limit))
            drafts = [(w, s.costs, self._drafts.operators(stages.model, s, sequences)) for w, s in weighted]
            by_row = _Curves([(w, s.costs, stages.row_operators(s, rows)) for w, s in weighted], rows)
            self._evaluations[full] = (
                _Curves([(w, s.costs, stages.token_operators(s, grid)) for w, s in weighted], grid),
                by_row.read(np.arange(1, self._row_limit + 2, dtype=np.float64)),
                _Curves(drafts, sequences).read(np.arange(1, self._draft_limit + 1, dtype=np.float64)),
            )
        return self._evaluations[full]

    @cached_property
    def _token_grid(self) -> Array:
        return _token_grid(int(self._counts(True)[-1]))

    def _counts(self, graphed: bool) -> Array:
        """Tokens that the device computes for 1, 2 and so on of a rank."""
        counts = np.arange(1, self._token_limit + 1, dtype=np.float64)
        return self._timing.padded(counts) if graphed else counts

    def _split(self, full: bool) -> tuple[_Table, _Table]:
        """The token table where data-parallel ranks differ: by tokens of a rank, and by the even share of experts.

        Shared experts do not run beside the routed ones there: the parts of a block are told apart.
        """
        if full not in self._splits:
            stages, grid = self._stages, self._token_grid
            counts = self._counts(self._timing.graphs_hold_prompts)
            parts = [(w, s.costs, stages.token_operators(s, grid)) for w, s in stages.weighted(full)]
            own, joint = (
                _Curves([(w, c, [op for op in ops if is_joint(op) is wanted]) for w, c, ops in parts], grid)
                for wanted in (False, True)
            )
            self._splits[full] = own.read(counts), joint.read(counts)
        return self._splits[full]

    def _share(self, sequences: int, chunks: Sequence[Chunk]) -> _Share[int]:
        """What the fullest group computes in an iteration."""
        requests = sequences + len(chunks)
        lanes = self._lanes(requests)
        groups = lanes * self._dp
        width = self._drafts.width
        tokens = even = -(-sequences // groups) * width
        rows = -(-(sequences * width + len(chunks)) // groups)
        drafted = min(-(-requests // groups), self._draft_limit)
        if chunks:
            total = longest = 0
            for _, count, _ in chunks:
                total += count
                if count > longest:
                    longest = count
            tokens += max(longest, -(-total // groups))
            even += -(-total // groups)
        limit = self._token_limit
        graphed = not chunks or self._timing.graphs_hold_prompts
        rows = min(rows, self._row_limit + 1)
        return _Share(min(tokens, limit), min(even, limit), rows, drafted, lanes == self._pp, graphed)

    # ---- IterationCost ----

    def base(self, sequences: int, chunks: Sequence[Chunk]) -> tuple[float, int]:
        """Time of everything but attention [s], and a code of the tokens, rows and lanes it was computed for."""
        if not chunks:
            known = self._decode_base.get(sequences)
            if known is None:
                known = self._decode_base[sequences] = self._base(self._share(sequences, chunks))
            return known
        return self._base(self._share(sequences, chunks))

    def _base(self, share: _Share[int]) -> tuple[float, int]:
        tokens, even, rows, drafted = share[:4]
        full = bool(share.full)
        by_token, by_row, by_draft = self._table(full, bool(share.graphed))
        if tokens == even:
            token_s = by_token.total_s[tokens]
        else:
            own, joint = self._split(full)
            token_s = own.total_s[tokens] + joint.total_s[even]
        code = self._codes.setdefault(share, len(self._codes))
        return token_s + by_row.total_s[rows] + by_draft.total_s[drafted], code

    def host(self, requests: int, prompts: int = 0) -> tuple[float, float]:
        """Host time [s] that is added, and the least time of a cycle: one scheduler serves all lanes of a rank."""
        known = self._hosts.get((requests, prompts))
        if known is None:
            lanes = self._lanes(requests)
            groups = lanes * self._dp
            rows = -(-requests // groups)
            fresh = rows if prompts == requests else prompts // groups
            mixed = prompts < requests and rows > 1
            calls = self._prompt_calls[mixed] if prompts and self._timing.host_call_s else 0.0
            kernels = self._kernels[lanes == self._pp] if self._timing.kernel_gap_s else 0.0
            known = self._timing.host(float(rows), prompts=float(fresh), lanes=lanes, calls=calls, kernels=kernels)
            self._hosts[requests, prompts] = known
        return known

    @cached_property
    def _kernels(self) -> tuple[float, float]:
        """Kernels of a cycle that follow each other while a lane is empty, and when all are full."""
        stages, one = self._stages, np.array([1.0])
        drafts = sum(stage.costs.launches(self._drafts.operators(stages.model, stage, one)) for stage in stages.items)
        empty, full = stages.kernels()
        return empty + drafts, full + drafts

    @cached_property
    def _prompt_calls(self) -> tuple[float, float]:
        """Calls that launch an iteration of prompts alone and of ones beside decodes, by the busiest stage's host."""
        stages, one, graphs = self._stages, np.array([1.0]), self._timing.prompt_graphs
        drafts = [
            stage.costs.host_calls(self._drafts.operators(stages.model, stage, one), from_graphs=graphs)
            for stage in stages.items
        ]
        alone, beside = stages.prompt_calls(from_graphs=graphs)
        return alone + max(drafts), beside + max(drafts)

    def decode_row(self, attention_class: int, sequences: int, *, prompts: bool = False) -> DecodeRow:
        """Attention time of a class over all layers of a cycle, by attended tokens of the whole engine.

        Beside `prompts` it may be longer: some kernels have larger tiles then.
        """
        prompts = prompts and self._mixed[attention_class]
        key = (attention_class, sequences, prompts)
        row = self._rows.get(key)
        if row is None:
            lanes = self._lanes(sequences)
            groups = lanes * self._dp
            share = -(-sequences // groups)
            contexts, times = self._attention_grid(attention_class, prompts)
            layers = self._factors[attention_class][lanes == self._pp]
            row = self._rows[key] = DecodeRow((contexts * sequences).tolist(), (times[share - 1] * layers).tolist())
        return row

    @cached_property
    def _mixed(self) -> list[bool]:
        """Per attention class, whether its decodes take another time in a launch with prompts."""
        stage, one = self._stages.items[0], np.array([1.0])
        found = [decode_operators(self._stages.model, stage.shard, one, one, cls) for cls in self._stages.classes]
        return [any(map(stage.costs.is_mixed, beside_prompts(operators))) for operators in found]

    def _attention_grid(self, attention_class: int, prompts: bool) -> tuple[Array, Array]:
        """Mean contexts, and times [s] of all layers of the class with their drafts, shape `(sequences, contexts)`."""
        key = attention_class, prompts
        if key not in self._grids:
            cls = self._stages.classes[attention_class]
            longest = self._max_context + 1 if cls.window is None else min(cls.window, self._max_context + 1)
            count = max(1, int(np.ceil(np.log(longest / _FIRST_CONTEXT) / np.log(_CONTEXT_STEP))))
            contexts = np.concatenate([[1.0], _FIRST_CONTEXT * _CONTEXT_STEP ** np.arange(count + 1)])
            sequences = np.arange(1.0, self._sequence_limit + 1)[:, None]
            stage = self._stages.items[0]
            operators = decode_operators(self._stages.model, stage.shard, sequences, sequences * contexts, cls)
            operators = beside_prompts(operators) if prompts else operators
            time_s = stage.costs.total_s(self._drafts.widened(operators, latent_apart=stage.costs.fusion.drafts_apart))
            if share := self._drafts.further_share(self._stages.model, stage, attention_class):
                time_s = time_s + share * stage.costs.total_s(operators)
            times = np.broadcast_to(time_s, (self._sequence_limit, len(contexts)))
            self._grids[key] = contexts, times
        return self._grids[key]

    # ---- prefill attention ----

    def _prefill_table(self, cls: AttentionClass) -> _PrefillTable:
        chunks = np.arange(1.0, self._token_limit + 1)
        stage = self._stages.items[0]
        span = 1024.0
        parts = []
        for prefix in (0.0, span):
            (operator,) = prefill_operators(
                self._stages.model, stage.shard, chunks, np.full_like(chunks, prefix), cls.without_window()
            )
            parts.append((operator, stage.costs.prefill_terms(operator)))
        (operator, start), (_, later) = parts
        t0_s, p = stage.costs.prefill_curve(operator)
        layers = float(operator.count)

        def line(a: Array, b: Array) -> tuple[list[float], list[float]]:
            flat = np.broadcast_to(a, chunks.shape)
            return (layers * flat).tolist(), (layers * (np.broadcast_to(b, chunks.shape) - flat) / span).tolist()

        return _PrefillTable(
            line(start.work_s, later.work_s),
            line(start.walk_s, later.walk_s),
            line(start.moved_s, later.moved_s),
            layers * t0_s,
            p,
            self._longest_walk_s(cls),
        )

    def _longest_walk_s(self, cls: AttentionClass) -> float:
        """Walk [s] of a chunk behind a prefix that fills any window; infinite where nothing ends it."""
        if cls.window is None:
            return math.inf
        stage, far = self._stages.items[0], np.asarray(1e12)
        (operator,) = prefill_operators(self._stages.model, stage.shard, np.asarray(self._token_limit), far, cls)
        if isinstance(operator, StateScan):
            return math.inf
        return float(operator.count * stage.costs.prefill_terms(operator).walk_s)

    def prefill(self, sequences: int, chunks: Sequence[Chunk]) -> tuple[float, float]:
        """Prefill-attention time of a cycle [s], and keys attended averaged over layers.

        Beside decoding sequences the launch is already paid for: engines pack both into one variable-length kernel
        per layer, so the fixed latency is counted once.
        """
        lanes = self._lanes(sequences + len(chunks))
        groups = lanes * self._dp
        total_s = keys = 0.0
        for kind, table in enumerate(self._prefill):
            window = self.windows[kind]
            work = walk = moved = longest_work = longest_moved = attended = 0.0
            for _, tokens, prefix in chunks:
                seen = _attended(tokens, prefix, window)
                effective = seen / tokens - 0.5 * (tokens + 1)
                at = tokens - 1
                one = table.work[0][at] + table.work[1][at] * effective
                attended += seen
                work += one
                longest_work = max(longest_work, one)
                walk = max(walk, table.walk[0][at] + table.walk[1][at] * prefix)
                one = table.moved[0][at] + table.moved[1][at] * (prefix if window is None else min(prefix, window))
                moved += one
                longest_moved = max(longest_moved, one)
            if walk > table.longest_walk_s:
                walk = table.longest_walk_s
            if groups > 1:
                work = max(longest_work, work / groups)
                moved = max(longest_moved, moved / groups)
            larger, smaller = (work, walk) if work > walk else (walk, work)
            joined = (
                larger if table.p == float("inf") else larger * (1 + (smaller / larger) ** table.p) ** (1 / table.p)
            )
            time_s = joined + moved + (0.0 if sequences else table.t0_s)
            total_s += time_s * self._factors[kind][lanes == self._pp]
            keys += attended * self.weights[kind]
        return total_s, keys

    @cached_property
    def _factors(self) -> list[dict[bool, float]]:
        """Per attention class and whether all lanes are full: layers counted in a cycle over layers of the class."""
        kinds = range(len(self._stages.classes))
        return [{full: self._stages.layer_factor(kind, full) for full in (False, True)} for kind in kinds]

    # ---- accounting ----

    @property
    def uses(self) -> dict[str, Use]:
        """Where the times of each kernel come from, by kernel and number format, all stages together."""
        return merged(stage.costs.uses for stage in self._stages.items)

    def causes_s(self, leaps: pd.DataFrame) -> dict[str, float]:
        """Busy time of the leaps by cause [s]; adds up to their total duration."""
        if leaps.empty:
            return {}
        steps = leaps["iterations"].to_numpy(dtype=np.float64)
        duration = steps * leaps["first_s"] + leaps["growth_s"] * 0.5 * steps * (steps - 1)
        share = self._decode(leaps["base"].to_numpy())
        causes: dict[str, float] = {}
        for flag in (False, True):
            for table, counts, at in self._used(share, full=flag):
                at = at & (share.full == flag)
                for cause, seconds in table.causes.items():
                    causes[cause] = causes.get(cause, 0.0) + float((seconds[counts[at]] * steps[at]).sum())
        base_s = sum(causes.values())
        host_s = float((leaps["host_s"] * steps + leaps["host_growth_s"] * 0.5 * steps * (steps - 1)).sum())
        prefill_s = float((leaps["prefill_attention_s"] * steps).sum())
        causes["host"] = host_s
        causes["prefill_attention"] = prefill_s
        causes["decode_attention"] = max(0.0, float(duration.sum()) - base_s - host_s - prefill_s)
        return causes

    def _decode(self, codes: Array) -> _Share[Array]:
        """What `_base` gave these codes for."""
        shares = np.array(list(self._codes), dtype=np.int64)[codes.astype(np.int64)]
        return _Share(*shares.T)

    def _used(self, share: _Share[Array], *, full: bool) -> Iterator[tuple[_Table, Array, Array]]:
        """Tables that add up to the time of iterations, the counts to read them at, and for which iterations."""
        always, alike = np.ones(share.full.shape, dtype=bool), share.tokens == share.even
        for graphed in (False, True):
            those = share.graphed == graphed
            if those.any():
                yield self._table(full, graphed)[0], share.tokens, alike & those
        _, by_row, by_draft = self._evaluated(full)
        yield by_row, share.rows, always
        yield by_draft, share.drafted, always
        if not alike.all():
            own, joint = self._split(full)
            yield own, share.tokens, ~alike
            yield joint, share.even, ~alike

    def bytes_per_gpu(self, leaps: pd.DataFrame) -> float:
        """Weights and activations that each GPU had to move in the leaps [B], averaged over stages; without KV."""
        if leaps.empty:
            return 0.0
        share = self._decode(leaps["base"].to_numpy())
        steps = leaps["iterations"].to_numpy(dtype=np.float64)
        lanes = np.minimum(self._pp, np.maximum(1, -(-(leaps["decoding"] + leaps["prompts"]) // self._dp)))
        moved = np.zeros_like(steps)
        for table, counts, at in self._used(share, full=False):
            moved[at] += table.bytes_per_rank[counts[at]]
        return float((moved * steps * lanes).sum())


def _attended(tokens: int, prefix: int, window: int | None) -> float:
    """Keys that the tokens of a causal chunk attend to in all."""
    if window is None or prefix + tokens <= window:
        return tokens * (prefix + 0.5 * (tokens + 1))
    growing = max(0, min(tokens, window - prefix))
    return growing * (prefix + 0.5 * (growing + 1)) + (tokens - growing) * float(window)
