"""Runs one plan of a scenario: requests in, metrics, breakdown and tables out.

`run` is what `plansim run` and `sim.run` call. A search evaluates many plans on the same traffic through one
`PlanRunner`, which compiles the cost of each plan shape once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from sim.core import InfeasibleError, InputError, Reason, Sourced
from sim.costs import (
    CostModel,
    Fusion,
    MeasuredKernels,
    Use,
    bind_collective,
    measured_kernels,
    merged,
    precision_of,
)
from sim.hardware import Device
from sim.models import layer_caches
from sim.plans import ResolvedPlan, fused_bytes, launch_command, require, with_draft_layers
from sim.results import Band, GapRuns, RunResult, SloSpec, build_result, intervals_of
from sim.scenario.assemble import Assembled, assemble, longest_request
from sim.scenario.bands import bands_for, setting_of
from sim.scenario.facts import run_facts
from sim.scenario.goodput import bisect_edge, native_rate, require_slo
from sim.scenario.load import Scenario
from sim.scenario.provenance import provenance
from sim.serving import (
    LEAP_COLUMNS,
    ClosedLoop,
    CompiledCost,
    EngineLimits,
    EngineTiming,
    FrontendTiming,
    Headroom,
    KvTransfer,
    OpenLoop,
    PoolConfig,
    PrefillPool,
    RequestLog,
    ServingRun,
    StageCosts,
    SteadyCurves,
    drafts_of,
    serve,
    slo_breaker,
)
from sim.workloads import RequestTable

_STEADY_RESIDENCES: Final = 5.0
"""A probe's arrivals must go on for so many mean residence times, so that filling empty slots is a small part of it."""

_MOST_PROBE_REQUESTS: Final = 1_000_000

Progress = Callable[[int, int, str], None]


def _seconds(given: Sourced[float] | None) -> float:
    """A time that an engine profile may leave out; zero then [s]."""
    return 0.0 if given is None else given.value


def seed_of(scenario: Scenario, seed: int | None) -> int:
    """The seed to use: the one given, else the scenario's own."""
    return scenario.spec.seed if seed is None else seed


def run(scenario: Scenario, *, seed: int | None = None, progress: Progress | None = None) -> RunResult:
    """Simulates the plan of `scenario` on its traffic.

    Args:
        scenario: A loaded scenario.
        seed: Seed of all random streams; None takes the scenario's.
        progress: Called with (done, total, what).

    Raises:
        InputError: if a name is unknown or a trace is unusable.
        InfeasibleError: if the plan cannot run, with reasons and numbers.
    """
    chosen = seed_of(scenario, seed)
    if progress is not None:
        progress(0, 2, "reading traffic and models")
    things = assemble(scenario, seed=chosen)
    plan = require(scenario.spec.plan, model=things.model, engine=things.engine, cluster=things.cluster)
    runner = PlanRunner(things, seed=chosen)
    if progress is not None:
        progress(1, 2, f"simulating {len(things.requests)} requests")
    result = runner.evaluate(plan)
    if progress is not None:
        progress(2, 2, "done")
    return result


@dataclass(frozen=True)
class GoodputProbe:
    """The highest rate that keeps the SLO, and how it was bracketed.

    Attributes:
        rate_per_s: Highest rate found that attains the SLO [requests/s]; 0 if none does.
        probes: Rates tried [requests/s] with whether they attained it, in order.
    """

    rate_per_s: float
    probes: tuple[tuple[float, bool], ...]


class Verdict(NamedTuple):
    """What one probe found: SLO attained, mean time in the system [s], and what the run left unused."""

    kept: bool
    residence_s: float
    headroom: Headroom


class PlanRunner:
    """Evaluates plans of one scenario on one traffic.

    Args:
        things: The scenario's model, cluster, engine and requests.
        seed: Seed of the router's stream.
        compiled: Costs by `ResolvedPlan.cost_key`, shared with other runners of the same model, cluster and engine.
    """

    def __init__(
        self, things: Assembled, *, seed: int, compiled: dict[tuple[Any, ...], CompiledCost] | None = None
    ) -> None:
        self.things = things
        self.seed = seed
        self._compiled: dict[tuple[Any, ...], CompiledCost] = {} if compiled is None else compiled
        self._verdicts: dict[Any, list[Verdict]] = {}

    # ---- one plan ----

    def check(self, plan: ResolvedPlan) -> tuple[Reason, ...]:
        """Reasons why the traffic cannot be served by the plan: a prompt that never fits its context or KV cache.

        With an explicit `max_model_len` the engine rejects such requests one by one instead, and they are counted.
        """
        longest = longest_request(self.things.requests)
        # A shared prefix is kept by every layer, windows included: then one request has kv_tokens at most.
        shares = plan.prefix_caching and self.things.requests.blocks is not None
        held = min(plan.max_model_len, plan.kv_tokens) if shares else plan.max_model_len
        fits = min(longest, plan.max_model_len) <= held
        if fits and (plan.max_model_len_given or longest <= plan.max_model_len):
            return ()
        return (
            Reason(
                "context",
                f"the longest request has {longest} tokens, but {plan.label} holds at most {held} of one "
                f"request ({plan.kv_tokens} KV tokens per rank; the model's limit is "
                f"{self.things.model.max_position_embeddings})",
                {"longest_tokens": longest, "max_model_len": plan.max_model_len, "kv_tokens": plan.kv_tokens},
            ),
        )

    def compiled(self, plan: ResolvedPlan) -> CompiledCost:
        """The iteration cost of one replica of the plan, compiled once per shape and limits."""
        key, timing = plan.cost_key, self._timing(plan)
        if key not in self._compiled:
            self._compiled[key] = CompiledCost(
                with_draft_layers(self.things.model, plan.shape.draft_layers),
                self._stages(plan),
                dp=plan.dp,
                max_sequences=plan.max_num_seqs,
                token_budget=plan.max_num_batched_tokens,
                max_context=plan.max_model_len,
                timing=timing,
                drafts=drafts_of(plan.speculation),
            )
        cost = self._compiled[key]
        return cost if cost.timing == timing else cost.retimed(timing)

    def steady(self, plan: ResolvedPlan, *, context: float) -> SteadyCurves:
        """Steady-state times of the plan's shape at a mean context [tokens]; see `SteadyCurves`."""
        return SteadyCurves(self.things.model, self._stages(plan), timing=self._timing(plan), context=context)

    def _stages(self, plan: ResolvedPlan) -> list[StageCosts]:
        device = self.things.cluster.device.at_clock(plan.clock)
        engine = self.things.engine
        family = engine.family
        workload = self.things.scenario.spec.workload
        padded_to, packed_apart = self._experts_padded_to(plan), self._packed_apart(device)
        popularity = workload.expert_popularity
        return [
            StageCosts(
                replace(shard, experts_padded_to=padded_to, packed_apart=packed_apart, popularity=popularity),
                CostModel(
                    device,
                    engine=family,
                    groups=groups,
                    measured=self._measured,
                    lent=self._lent,
                    fusion=self._fusion(plan),
                    moe_library=plan.moe_backend or "",
                    sorts_logits=workload.truncated_sampling and engine.sorts_logits,
                ),
            )
            for shard, groups in zip(plan.shards, plan.stage_groups, strict=True)
        ]

    def _experts_padded_to(self, plan: ResolvedPlan) -> int:
        """Multiple to which the engine widens what MXFP4 experts read and return, by the library of their kernels."""
        engine, device = self.things.engine, self.things.cluster.device
        if engine.fusion is None or plan.weights_dtype != "mxfp4":
            return 1
        kernel = precision_of(device, plan.weights_dtype).kernel
        library = plan.moe_backend or device.kernels.library("moe", kernel, engine.family)
        return next((to for name, to in engine.fusion.experts_padded_to.items() if name == library), 1)

    def _packed_apart(self, device: Device) -> tuple[str, ...]:
        """Weight formats whose activations the engine packs in a kernel of its own on this device."""
        fusion = self.things.engine.fusion
        formats = {} if fusion is None else fusion.packed_apart
        return tuple(name for name, devices in formats.items() if device.name.startswith(devices))

    def _fusion(self, plan: ResolvedPlan) -> Fusion:
        """What the engine's kernels do together in this plan."""
        engine, device = self.things.engine, self.things.cluster.device
        spec = engine.fusion
        norm_bytes = fused_bytes(engine, self.things.model, device, plan.placement, asked=plan.fuse_all_reduce)
        reductions = Fusion(norm_bytes=norm_bytes, norm_kernel=self._norm_kernel)
        if spec is None:
            return reductions
        return replace(
            reductions,
            within_attention=frozenset(spec.within_attention),
            side_stream=spec.shared_experts_beside,
            side_tokens=spec.shared_experts_tokens or math.inf,
            one_attention=spec.one_attention,
            copies_states=spec.copies_states,
            one_qk_norm=spec.one_qk_norm,
            absorbed_fp8=device.name.startswith(spec.absorbed_fp8_on),
            drafts_apart=device.name.startswith(spec.drafts_apart_on),
        )

    @property
    def _norm_kernel(self) -> str:
        """Family of engines whose kernel does all-reduces with norms; empty, the engine's own."""
        reduction = self.things.engine.all_reduce_norm
        return "" if reduction is None else reduction.kernel or ""

    @cached_property
    def _measured(self) -> MeasuredKernels | None:
        """Measured kernel tables that the scenario asks for."""
        return self._tables(self.things.engine.family, self.things.engine.version)

    @cached_property
    def _lent(self) -> dict[str, MeasuredKernels]:
        """The same of other engines whose kernels the engine takes."""
        found = self._tables(self._norm_kernel) if self._norm_kernel else None
        return {} if found is None else {self._norm_kernel: found}

    def _tables(self, family: str, version: str = "") -> MeasuredKernels | None:
        scenario, device = self.things.scenario, self.things.cluster.device
        with scenario.errors_at("costs"):
            costs, base = scenario.spec.costs, scenario.base
            return measured_kernels(costs, device, engine=family, version=version, base=base)

    def _limits(self, plan: ResolvedPlan) -> EngineLimits:
        """Limits of one replica: those of a rank times data-parallel ranks, budgets also times pipeline lanes."""
        return EngineLimits(
            max_sequences=plan.max_num_seqs * plan.dp,
            token_budget=plan.max_num_batched_tokens * plan.dp * plan.pp,
            chunk_limit=plan.max_num_batched_tokens,
            kv_blocks=plan.kv_blocks * plan.dp,
            block_tokens=plan.block_tokens,
            kv_layout=plan.kv_layout,
            chunked_prefill=plan.chunked_prefill,
            prefix_caching=plan.prefix_caching,
            watermark_blocks=plan.watermark_blocks * plan.dp,
            schedule_ahead=self._timing(plan).overlapped,
            queue_interval=plan.queue_interval,
            balance_wait=plan.balance_wait if plan.prefill is None else 0,  # engines that only decode have no prompts
            batch_wait=plan.batch_wait,
            batch_fill_tokens=math.ceil(plan.batch_fill * plan.max_num_batched_tokens * plan.pp),
            ranks=plan.dp,
            step_tokens=plan.step_tokens,
            emitted_tokens=Fraction(1) if plan.speculation is None else plan.speculation.emitted_tokens,
        )

    @cached_property
    def bands(self) -> dict[str, Band]:
        """How far off predictions for the engine were, by metric; wider for a model, device or load not measured."""
        return bands_for(self.things.engine, setting_of(self.things))

    @cached_property
    def _frontend(self) -> FrontendTiming:
        engine = self.things.engine
        return FrontendTiming(
            engine.frontend_s.value,
            engine.frontend_request_s.value,
            engine.frontend_token_s.value,
            _seconds(engine.stream_token_s),
        )

    def _timing(self, plan: ResolvedPlan) -> EngineTiming:
        """Host times of the plan's engines."""
        engine = self.things.engine
        speculation = plan.speculation
        drafting = engine.draft_host if speculation is not None else None
        passes = plan.step_tokens - 1 if speculation is not None and speculation.method == "mtp" else 0
        piecewise = engine.graphs_hold_prompts and plan.prompt_graphs
        return EngineTiming(
            host_step_s=engine.host_step_s.value + (drafting.per_draft_s.value * passes if drafting else 0.0),
            host_per_sequence_s=engine.host_per_sequence_s.value,
            host_verify_s=drafting.per_token_s.value * plan.step_tokens if drafting else 0.0,
            overlapped=engine.async_scheduling and drafting is None,
            graph_sizes=plan.graph_sizes,
            graphs_hold_prompts=piecewise,
            step_gap_s=_seconds(engine.step_gap_s),
            kernel_gap_s=_seconds(engine.kernel_gap_s),
            host_call_s=0.0 if piecewise else _seconds(engine.host_call_s),
            prompt_graphs=plan.prompt_graphs,
        )

    def _prefill_pool(self, plan: ResolvedPlan) -> PrefillPool | None:
        """The engines that compute prompts for the plan's own, and the way of their KV; None if there are none."""
        prompts, link = plan.prefill, plan.kv_link
        if prompts is None or link is None:
            return None
        costs = [self.compiled(prompts)] * prompts.replicas
        pool = PoolConfig(costs, self._limits(prompts), prompts.scheduler, prompts.router)
        message = bind_collective("p2p", link, engine=self.things.engine.family)
        caches = [
            (cache, plan.tp * layers)
            for shard in plan.shards
            for cache, layers in layer_caches(self.things.model, shard).items()
        ]
        transfer = KvTransfer(
            bytes_per_token=sum(copies * cache.bytes_per_token for cache, copies in caches),
            send_bytes_per_s=prompts.tp * prompts.pp * message.bytes_per_s,
            receive_bytes_per_s=plan.tp * plan.pp * message.bytes_per_s,
            send_groups=prompts.dp,
            receive_groups=plan.dp,
            latency_s=message.fixed_s,
            windows=tuple(
                (cache.window, copies * cache.window_bytes_per_token)
                for cache, copies in caches
                if cache.window is not None
            ),
            state_bytes=sum(copies * cache.state_bytes for cache, copies in caches),
        )
        return PrefillPool(pool, transfer, _seconds(self.things.engine.handover_s))

    def simulate(
        self,
        plan: ResolvedPlan,
        *,
        requests: RequestTable | None = None,
        time_scale: float = 1.0,
        breaker: SloSpec | None = None,
        leap: bool = True,
    ) -> ServingRun:
        """Serves the traffic with `plan`.

        Args:
            plan: A resolved plan.
            requests: What to serve; None for the scenario's traffic.
            time_scale: Factor on arrival times of an open loop: below one, the same requests come faster.
            breaker: Stop as soon as this SLO can no longer be attained, and only then: the workload's `duration` would
                count requests under way as missed.
            leap: Whether engines leap.
        """
        table = self.things.requests if requests is None else requests
        log = RequestLog(table.input_tokens, table.output_tokens, blocks=table.blocks)
        load: OpenLoop | ClosedLoop
        if self.things.concurrency is not None:
            load = ClosedLoop(self.things.concurrency)
        else:
            load = OpenLoop(table.arrival_s * time_scale)
        return serve(
            log,
            load,
            costs=[self.compiled(plan)] * plan.replicas,
            limits=self._limits(plan),
            scheduler=plan.scheduler,
            router=plan.router,
            prefill=self._prefill_pool(plan),
            frontend=self._frontend,
            max_model_len=plan.max_model_len,
            seed=self.seed,
            leap=leap,
            until_s=self.things.scenario.spec.workload.duration if breaker is None else None,
            stop_when=None
            if breaker is None
            else slo_breaker(log, breaker.limits_s, attainment=breaker.attainment, count=len(table)),
        )

    def evaluate(self, plan: ResolvedPlan, *, goodput: bool = False, guess_per_s: float | None = None) -> RunResult:
        """Metrics, breakdown and tables of the plan on the traffic.

        Args:
            plan: A resolved plan.
            goodput: Whether to bisect the highest rate that keeps the SLO.
            guess_per_s: First rate of that bisection [requests/s]; None takes the traffic's own.

        Raises:
            InfeasibleError: if a request can never fit.
            InputError: if goodput is asked for without an SLO or in a closed loop.
        """
        reasons = self.check(plan)
        if reasons:
            raise InfeasibleError(f"the plan {plan.label} cannot serve this traffic", reasons)
        outcome = self.simulate(plan)
        extra: dict[str, float] = {}
        if goodput:
            probe = self.goodput(plan, guess_per_s=guess_per_s)
            extra["goodput_max_requests_per_s_per_gpu"] = probe.rate_per_s / plan.n_gpus
        return self._result(plan, outcome, extra)

    # ---- goodput ----

    def goodput(self, plan: ResolvedPlan, *, guess_per_s: float | None = None) -> GoodputProbe:
        """Highest arrival rate at which `plan` attains the SLO, by bisection with the same requests, faster or slower.

        Args:
            plan: A resolved plan.
            guess_per_s: A first rate to try [requests/s]; None takes the traffic's own.

        Raises:
            InputError: if the scenario has no SLO or is a closed loop.
        """
        spec = self.things.scenario.spec
        slo, options = require_slo(spec.slo, self.things.concurrency), spec.search.goodput
        requests = self.things.requests
        if options.requests is not None:
            requests = requests.head(options.requests)
        native = native_rate(requests.arrival_s)
        probes: list[tuple[float, bool]] = []

        def attains(rate: float) -> bool:
            kept = self._sustains(plan, slo, requests, time_scale=native / rate)
            probes.append((rate, kept))
            return kept

        found = bisect_edge(attains, anchor=native, tolerance=options.tolerance, guess=guess_per_s)
        return GoodputProbe(found, tuple(probes))

    def _sustains(self, plan: ResolvedPlan, slo: SloSpec, requests: RequestTable, *, time_scale: float) -> bool:
        """Whether the plan attains the SLO with these requests at a rate that goes on.

        A burst shorter than requests take says nothing about the rate: it is absorbed by free slots. So where arrivals
        end before `_STEADY_RESIDENCES` mean residence times have passed, the traffic is repeated until they have.
        """
        count = len(requests)
        while True:
            played = requests.repeated(count)
            verdict = self._verdict(plan, slo, played, time_scale)
            span_s = played.span_s * time_scale
            wanted_s = _STEADY_RESIDENCES * verdict.residence_s
            if not verdict.kept or span_s >= wanted_s or count >= _MOST_PROBE_REQUESTS:
                return verdict.kept
            count = min(math.ceil(1.1 * count * wanted_s / max(span_s, 1e-9)), 4 * count + 1000, _MOST_PROBE_REQUESTS)

    def _verdict(self, plan: ResolvedPlan, slo: SloSpec, requests: RequestTable, time_scale: float) -> Verdict:
        """Whether the plan attains the SLO in one run; plans known to behave alike share the answer."""
        limits, alike = self._limits(plan), plan.prefill is None
        longest = min(longest_request(requests), plan.max_model_len)
        largest_blocks = plan.kv_layout.blocks_for(longest)
        known = self._verdicts.setdefault((plan.behaviour_key, longest, len(requests), time_scale), [])
        for verdict in known:
            if alike and verdict.headroom.within(limits, largest_blocks=largest_blocks):
                return verdict
        outcome = self.simulate(plan, requests=requests, time_scale=time_scale, breaker=slo)
        frame = outcome.log.to_frame()
        kept = not outcome.stopped and float(np.mean(slo.satisfied(frame))) >= slo.attainment
        verdict = Verdict(kept, float(frame["e2e_s"].mean()), outcome.headroom())
        if alike and verdict.headroom.within(limits, largest_blocks=largest_blocks):
            known.append(verdict)
        return verdict

    # ---- results ----

    def _uses(self, plan: ResolvedPlan) -> dict[str, Use]:
        """Source of the times of each kernel, all engines of the plan together; pools that share a cost count once."""
        costs = {pool.cost_key: self.compiled(pool) for pool in plan.pools}
        return merged(cost.uses for cost in costs.values())

    def _result(self, plan: ResolvedPlan, outcome: ServingRun, extra: Mapping[str, float]) -> RunResult:
        things = self.things
        spec = things.scenario.spec
        warmup_s = spec.workload.warmup
        frames = [record.to_frame() for record in outcome.records]
        gaps = [
            record.gap_runs(frame[frame["start_s"] >= warmup_s])
            for record, frame in zip(outcome.records, frames, strict=True)
        ]
        leaps = pd.concat([frame.assign(replica=np.int32(i)) for i, frame in enumerate(frames)], ignore_index=True)
        leaps.attrs["units"] = {**LEAP_COLUMNS, "replica": ""}
        requests = outcome.log.to_frame()
        measured = requests[requests["arrival_s"] >= warmup_s].reset_index(drop=True)
        if measured.empty and warmup_s:
            with things.scenario.errors_at("workload.warmup"):
                raise InputError(
                    f"no request is sent after the warm-up: the last one at {requests['arrival_s'].max():.6g} s",
                    value=warmup_s,
                    hint="a shorter warmup, or more requests",
                )
        result = build_result(
            requests=measured,
            gaps=GapRuns(np.concatenate([g[0] for g in gaps]), np.concatenate([g[1] for g in gaps])),
            facts=run_facts(things, plan, outcome, [self.compiled(pool) for pool in plan.pools], frames),
            slo=spec.slo,
            extra=extra,
            iterations=leaps,
            plan=plan.to_dict(),
            label=plan.label,
            memory=plan.memory.to_dict(),
            prefill_memory=None if plan.prefill is None else plan.prefill.memory.to_dict(),
            launch=launch_command(plan, model=things.model, engine=things.engine),
            scenario=things.scenario.resolved(),
            provenance=provenance(things, plan, seed=self.seed, uses=self._uses(plan)),
        )
        result.intervals = intervals_of(result.metrics, self.bands, closed_loop=things.concurrency is not None)
        return result
