"""Compiled iteration costs against the operators they were compiled from, on real models and shipped hardware."""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from sim.kernel import TICK_S
from sim.models import AttentionClass, decode_operators, prefill_operators, sequence_operators, token_operators
from sim.plans import ResolvedPlan
from sim.scenario import PlanRunner
from sim.serving import Chunk, CompiledCost, EngineLimits, StageCosts, serve
from sim.testing.scenarios import plan_runner, resolved_plan, small_scenario
from sim.testing.serving import check_run, random_traffic

SEQS, BUDGET, LENGTH = 64, 2048, 4096
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dense tp1": ("llama-3.1-8b", "dgx-h100-1", {}),
    "dense tp2": ("llama-3.1-8b", "dgx-h100-1", {"tp": 2}),
    "windows and experts": ("gpt-oss-20b", "dgx-h100-1", {}),
    "latent attention": ("deepseek-v2-lite", "dgx-h200-1", {"tp": 2}),
    "dp with experts": ("qwen3-30b-a3b", "dgx-h200-1", {"dp": 4, "ep": 4}),
    "latent dp": ("deepseek-v2-lite", "dgx-h100-1", {"dp": 2, "ep": 2}),
    "two stages": ("llama-3.1-8b", "dgx-h100-1", {"pp": 2}),
    "two stages tp2": ("gpt-oss-20b", "dgx-a100-1", {"pp": 2, "tp": 2}),
    "no NVLink": ("qwen2.5-0.5b", "l40s-1", {}),
    "linear attention": ("qwen3.5-35b-a3b", "dgx-h200-1", {"tp": 2}),
    "one block a layer": ("nemotron-3-nano-30b-a3b", "dgx-h200-1", {"pp": 2}),
    "indexer": ("deepseek-v3.2", "dgx-h200-1", {"tp": 8}),
    "shared indexer": ("glm-5.3", "dgx-h200-1", {"tp": 8, "weights_dtype": "fp8_block"}),
    "merged tokens": ("deepseek-v4-flash", "dgx-h200-1", {"tp": 4}),
    "two kinds of heads": ("mimo-v2-flash", "dgx-h200-1", {"tp": 4}),
    "paced by the host": ("qwen2.5-0.5b", "dgx-h100-1", {"pp": 2}),
}


def cost_class(each: "Case", kind: int) -> AttentionClass:
    return each.cost._stages.classes[kind]


@dataclass(frozen=True)
class Case:
    runner: PlanRunner
    plan: ResolvedPlan
    cost: CompiledCost
    stages: list[StageCosts]

    def cycle_s(self, what: str, counts: Any, *, full: bool) -> Any:
        """Operators of a cycle, straight from the cost model: each stage once, or the slowest for all of them."""
        make = token_operators if what == "tokens" else sequence_operators
        model = self.runner.things.model
        at = np.asarray(counts, dtype=np.float64)
        times = [stage.costs.total_s(make(model, stage.shard, at)) + 0.0 * at for stage in self.stages]
        if not full or len(times) == 1:
            return sum(times)
        typical = np.array([64.0])
        slowness = [
            float(
                stage.costs.total_s(
                    [
                        *token_operators(model, stage.shard, typical),
                        *sequence_operators(model, stage.shard, typical),
                    ]
                )[0]
            )
            for stage in self.stages
        ]
        return len(times) * times[int(np.argmax(slowness))]


@cache
def case(name: str, seqs: int = SEQS, budget: int = BUDGET, length: int = LENGTH) -> Case:
    model, cluster, ranks = CASES[name]
    runner = plan_runner(small_scenario({"model": model, "cluster": cluster, "workload.requests": 2}))
    plan = resolved_plan(runner, **ranks, max_num_seqs=seqs, max_num_batched_tokens=budget, max_model_len=length)
    return Case(runner, plan, runner.compiled(plan), runner._stages(plan))


@pytest.fixture(params=list(CASES))
def each(request: pytest.FixtureRequest) -> Case:
    return case(request.param)


def padded(tokens: int, sizes: tuple[int, ...]) -> int:
    return min((size for size in sizes if size >= tokens), default=tokens)


@pytest.mark.parametrize("sequences", [1, 2, 5, 8, 30, 64])
def test_the_base_of_a_decode_is_its_operators(each: Case, sequences: int) -> None:
    """Each rank and lane has `sequences`, a number of tokens at which operators are evaluated exactly."""
    groups = each.plan.dp * each.plan.pp
    time_s, _ = each.cost.base(sequences * groups, [])
    tokens = padded(sequences, each.runner.things.engine.graph_sizes)
    device_s = float(each.cycle_s("tokens", tokens, full=True) + each.cycle_s("rows", sequences, full=True))
    assert time_s == pytest.approx(device_s, rel=1e-9)


@pytest.mark.parametrize("sequences", [1, 5, 64])
def test_the_host_serves_every_lane_in_turn(each: Case, sequences: int) -> None:
    """Each rank has a host of its own, the lanes of a pipeline share one; beside the device it only sets a floor."""
    plan, engine = each.plan, each.runner.things.engine
    host_s = plan.pp * (engine.host_step_s.value + engine.host_per_sequence_s.value * sequences)
    assert engine.async_scheduling
    assert engine.kernel_gap_s is not None
    waits_s = engine.kernel_gap_s.value * each.cost._stages.kernels()[True]
    assert each.cost.host(sequences * plan.dp * plan.pp) == pytest.approx((waits_s, host_s))
    per_cycle = each.cost.retimed(replace(each.cost.timing, step_gap_s=1e-3, kernel_gap_s=0.0))
    assert per_cycle.host(sequences * plan.dp * plan.pp) == pytest.approx((plan.pp * 1e-3, host_s))


def test_prompts_wait_for_the_host_to_make_every_call(each: Case) -> None:
    """Where no graph covers prompts an iteration with one lasts as long as its calls; decoding is as before."""
    call_s, requests = 1e-3, each.plan.dp * each.plan.pp
    slow = each.cost.retimed(replace(each.cost.timing, host_call_s=call_s, prompt_graphs=False))
    none = each.cost.retimed(replace(each.cost.timing, host_call_s=0.0))
    _, plain_s = none.host(requests, 1)
    _, least_s = slow.host(requests, 1)
    layers = each.runner.things.model.n_layers / each.plan.pp
    assert (least_s - plain_s) / call_s > 5 * layers, "several calls in every layer"
    assert slow.host(requests) == none.host(requests)


def test_a_prompt_computes_its_tokens_beside_the_decodes(each: Case) -> None:
    """300 tokens of one prompt and 8 decodes on every rank: 308 tokens, padded to the next graph, and 9 rows."""
    groups = each.plan.dp * each.plan.pp
    chunks = [Chunk(i, 300, 0) for i in range(groups)]
    time_s, _ = each.cost.base(8 * groups, chunks)
    device_s = float(each.cycle_s("tokens", 320, full=True) + each.cycle_s("rows", 9, full=True))
    assert padded(308, each.runner.things.engine.graph_sizes) == 320
    assert time_s == pytest.approx(device_s, rel=1e-9)


def test_prompts_are_not_padded_where_graphs_hold_decodes_alone() -> None:
    """TensorRT-LLM has graphs of 256 and of 512 sequences; 8 of them beside a prompt of 300 are 308 tokens."""
    scenario = small_scenario({"engine": "trtllm", "workload.requests": 2})
    runner = plan_runner(scenario)
    plan = resolved_plan(runner, tp=1, max_num_seqs=600, max_num_batched_tokens=700, max_model_len=800)
    cost, stages = runner.compiled(plan), runner._stages(plan)
    each = Case(runner, plan, cost, stages)
    mixed_s, _ = cost.base(8, [Chunk(0, 300, 0)])
    alone_s, _ = cost.base(308, [])
    rows = [float(each.cycle_s("rows", count, full=True)) for count in (9, 308)]
    assert alone_s - rows[1] == pytest.approx(float(each.cycle_s("tokens", 512, full=True)), rel=1e-9)
    assert mixed_s - rows[0] == pytest.approx(float(each.cycle_s("tokens", 308, full=True)), rel=2e-2)
    assert mixed_s < alone_s - rows[1]


def test_batches_are_padded_to_the_graphs_that_the_plan_asks_for() -> None:
    """One graph of 64 tokens: 3 sequences and 64 compute the same tokens, 65 compute their own."""
    runner = case("dp with experts").runner
    plan = resolved_plan(runner, dp=2, tp=1, graph_sizes=(64,), max_num_seqs=80, max_num_batched_tokens=512)
    assert plan.cost_key != resolved_plan(runner, dp=2, tp=1, max_num_seqs=80, max_num_batched_tokens=512).cost_key
    each = Case(runner, plan, runner.compiled(plan), runner._stages(plan))
    for sequences, tokens in ((3, 64), (64, 64), (65, 65)):
        time_s, _ = each.cost.base(sequences * plan.dp, [])
        device_s = float(each.cycle_s("tokens", tokens, full=True) + each.cycle_s("rows", sequences, full=True))
        assert time_s == pytest.approx(device_s, rel=1e-2)


def test_experts_serve_what_there_is_however_it_is_spread() -> None:
    """One prompt on one of n data-parallel ranks costs the experts what n prompts of an n-th would."""
    each = case("dp with experts")
    ranks, tokens = each.plan.dp, 512
    one, _ = each.cost.base(0, [Chunk(0, tokens, 0)])
    even, _ = each.cost.base(0, [Chunk(i, tokens // ranks, 0) for i in range(ranks)])
    all_busy, _ = each.cost.base(0, [Chunk(i, tokens, 0) for i in range(ranks)])
    assert ranks > 1
    assert even < one < all_busy, "only what the fullest rank does by itself takes longer"
    own, joint = each.cost._split(True)
    rows = each.cost._table(True)[1]
    assert one == pytest.approx(own.total_s[tokens] + joint.total_s[tokens // ranks] + rows.total_s[1])


def test_one_sequence_of_a_pipeline_passes_every_stage_once() -> None:
    pipeline = case("two stages tp2")
    time_s, _ = pipeline.cost.base(1, [])
    device_s = float(pipeline.cycle_s("tokens", 1, full=False) + pipeline.cycle_s("rows", 1, full=False))
    assert time_s == pytest.approx(device_s, rel=1e-9)


def test_between_the_grid_the_table_follows_the_operators(each: Case) -> None:
    """Large counts are interpolated; steps stay where a collective changes its algorithm."""
    counts = np.arange(513, BUDGET + SEQS + 1, 3)
    table = np.array(each.cost._table(True)[0].total_s)[counts]
    own, joint = (np.array(part.total_s) for part in each.cost._split(True))
    assert (own[counts] + joint[counts] >= table * (1.0 - 1e-9)).all(), "what runs side by side takes less"
    error = np.abs(table / each.cycle_s("tokens", counts, full=True) - 1.0)
    assert np.quantile(error, 0.95) < 0.001
    assert np.quantile(error, 0.99) < 0.03
    assert error.max() < 0.06


def test_decode_rows_are_the_attention_operators_at_break_points(each: Case) -> None:
    cost, stage, model = each.cost, each.stages[0], each.runner.things.model
    groups = each.plan.dp * each.plan.pp
    for kind, cls in enumerate(cost._stages.classes):
        factor = cost._stages.layer_factor(kind, True)
        for share in (1, 3, SEQS):
            row = cost.decode_row(kind, share * groups)
            breaks, values = np.array(row.breaks), np.array(row.values_s)

            def direct(attended: Any, share: int = share, cls: Any = cls, factor: float = factor) -> Any:
                one = decode_operators(model, stage.shard, np.asarray(float(share)), attended / groups, cls)
                return stage.costs.total_s(one) * factor

            np.testing.assert_allclose(values, direct(breaks), rtol=1e-9)
            middle = (breaks[1:] + breaks[:-1]) / 2
            np.testing.assert_allclose(np.interp(middle, breaks, values), direct(middle), rtol=0.02)
            longest = min(LENGTH, cls.window or LENGTH)
            assert breaks[0] <= share * groups, "from the first token on"
            assert breaks[-1] >= share * groups * longest, "to the longest context"


@pytest.mark.parametrize("tokens", [1, 64, 100, 700])
@pytest.mark.parametrize("prefix", [0, 50, 1500])
def test_one_prompt_chunk_costs_its_attention_operator(each: Case, tokens: int, prefix: int) -> None:
    """A single chunk of one prompt: no sharing of launches or ranks, so nothing but the operator itself."""
    cost, stage, model = each.cost, each.stages[0], each.runner.things.model
    full = each.plan.pp == 1
    time_s, keys = cost.prefill(0, [Chunk(0, tokens, prefix)])
    direct = expected_keys = 0.0
    for kind, cls in enumerate(cost._stages.classes):
        operators = prefill_operators(model, stage.shard, np.array([float(tokens)]), np.array([float(prefix)]), cls)
        direct += float(stage.costs.total_s(operators)[0]) * cost._stages.layer_factor(kind, full)
        seen = [min(prefix + j + 1, cls.window or math.inf) for j in range(tokens)]
        expected_keys += sum(seen) * cost.weights[kind]
    assert time_s == pytest.approx(direct, rel=1e-9)
    assert keys == pytest.approx(expected_keys, rel=1e-12)


def test_a_prompt_in_chunks_attends_to_the_same_keys_as_whole(each: Case) -> None:
    whole = each.cost.prefill(0, [Chunk(0, 1200, 0)])[1]
    parts = sum(each.cost.prefill(3, [Chunk(0, 400, done)])[1] for done in (0, 400, 800))
    assert parts == pytest.approx(whole, rel=1e-12)


def test_prompts_share_a_launch() -> None:
    """Two chunks in one iteration cost less than one after the other, and no less than the larger alone."""
    cost = case("dense tp1").cost
    a, b = Chunk(0, 300, 0), Chunk(1, 200, 64)
    both, one, other = (cost.prefill(0, chunks)[0] for chunks in ([a, b], [a], [b]))
    assert max(one, other) < both < one + other
    assert cost.prefill(5, [a])[0] < one, "beside decodes the launch is already paid for"


def test_decodes_beside_prompts_take_longer_where_the_kernel_does_not_pack_them() -> None:
    """FlashAttention 2 gives every query head a tile of 64 rows as soon as one sequence has more than one token."""
    ada, hopper = case("no NVLink").cost, case("dense tp1").cost
    for count in (1, SEQS):
        alone, beside = (ada.decode_row(0, count, prompts=prompts) for prompts in (False, True))
        assert beside.breaks == alone.breaks
        assert (np.array(beside.values_s) >= alone.values_s).all()
        assert beside.values_s[-1] > 1.05 * alone.values_s[-1]
        assert hopper.decode_row(0, count, prompts=True) is hopper.decode_row(0, count), "version 3 packs them"


def test_more_sequences_or_context_are_never_cheaper(each: Case) -> None:
    groups = each.plan.dp * each.plan.pp
    counts = range(groups, SEQS * groups + 1, max(1, groups // 2))
    bases = np.array([each.cost.base(n, [])[0] for n in counts])
    assert (np.diff(bases) >= -1e-12).all()
    for kind in range(len(each.cost.windows)):
        rows = [each.cost.decode_row(kind, n) for n in counts]
        for row in rows[:: max(1, len(rows) // 12)]:
            if cost_class(each, kind).view.kind == "state":
                assert (np.diff(row.values_s) == 0).all(), "a state takes one time whatever came before"
            else:
                assert (np.diff(row.values_s) > 0).all(), "more context"
            assert (np.diff(row.breaks) > 0).all()
        at_same_mean = np.array([row.values_s for row in rows])
        assert (np.diff(at_same_mean, axis=0) >= -1e-15).all(), "more sequences of the same context"


def test_longer_chunks_and_prefixes_are_never_cheaper(each: Case) -> None:
    lengths, prefixes = range(1, BUDGET, 61), range(0, 3000, 97)
    by_length = np.array([each.cost.prefill(0, [Chunk(0, n, 128)])[0] for n in lengths])
    by_prefix = np.array([each.cost.prefill(0, [Chunk(0, 128, n)])[0] for n in prefixes])
    assert (np.diff(by_length) > 0).all()
    assert (np.diff(by_prefix) >= -1e-15).all()
    tokens = np.array([each.cost.base(4, [Chunk(0, n, 0)])[0] for n in range(1, BUDGET, 7)])
    assert (np.diff(tokens) >= -1e-12).all()


@pytest.mark.parametrize("name", ["dense tp2", "windows and experts", "dp with experts", "two stages"])
@pytest.mark.parametrize(
    ("seqs", "budget", "length"), [(100, 200, 1000), (SEQS, 1 << 14, 2 * LENGTH), (256, 8192, 900)]
)
def test_limits_never_reached_change_nothing(name: str, seqs: int, budget: int, length: int) -> None:
    """Search compares plans that differ in limits only: what both can do must cost both the same, to the last bit."""
    one, other = case(name), case(name, seqs, budget, length)
    for sequences in (1, 7, 60, 60 * one.plan.dp):
        for chunks in ([], [Chunk(0, 41, 0)], [Chunk(0, 130, 300), Chunk(1, 70, 0)], [Chunk(0, 200, 0)]):
            assert one.cost.base(sequences, chunks)[0] == other.cost.base(sequences, chunks)[0]
            if chunks:
                assert one.cost.prefill(sequences, chunks) == other.cost.prefill(sequences, chunks)
        for kind in range(len(one.cost.windows)):
            a, b = one.cost.decode_row(kind, sequences), other.cost.decode_row(kind, sequences)
            common = min(len(a.breaks), len(b.breaks))
            assert a.breaks[:common] == b.breaks[:common]
            assert a.values_s[:common] == b.values_s[:common]


def limits_of(plan: ResolvedPlan, blocks: int) -> EngineLimits:
    return EngineLimits(12 * plan.dp, 256 * plan.dp * plan.pp, 256, kv_blocks=blocks, block_tokens=16)


@pytest.mark.parametrize(("blocks", "preempted"), [(45, True), (4000, False)])
def test_leap_equals_step(each: Case, blocks: int, preempted: bool) -> None:
    """Law 5 on real costs: break points, windows, folded ranks and lanes, with and without scarce memory."""
    runs = []
    for leap in (True, False):
        log, load = random_traffic(11, 40, rate=60.0, longest=300)
        runs.append(serve(log, load, costs=[each.cost], limits=limits_of(each.plan, blocks), leap=leap))
        check_run(runs[-1])
    for column in ("scheduled_s", "first_s", "finish_s"):
        a, b = (np.asarray(getattr(run.log, column)) for run in runs)
        np.testing.assert_allclose(a, b, rtol=1e-9)
    assert runs[0].log.preemptions == runs[1].log.preemptions
    assert bool(sum(runs[0].log.preemptions)) == preempted
    assert len(runs[0].records[0]) < len(runs[1].records[0])


def test_causes_sum_to_the_busy_time(each: Case) -> None:
    """Law 12: every second of every leap has a cause, and the causes that the plan has are there."""
    log, load = random_traffic(3, 60, rate=80.0, longest=400)
    run = serve(log, load, costs=[each.cost], limits=limits_of(each.plan, 5000))
    leaps = run.records[0].to_frame()
    steps = leaps["iterations"].to_numpy(dtype=np.float64)
    busy_s = float((steps * leaps["first_s"] + leaps["growth_s"] * steps * (steps - 1) / 2).sum())
    causes = each.cost.causes_s(leaps)
    assert sum(causes.values()) == pytest.approx(busy_s, rel=1e-9)
    assert min(causes.values()) >= 0
    assert busy_s <= run.duration_s * (1 + 1e-9)
    present = {name for name, seconds in causes.items() if seconds > 0}
    assert {"attention_gemm", "lm_head", "sampling", "decode_attention", "prefill_attention"} <= present
    assert ("tp_comm" in present) == (each.plan.tp > 1)
    assert ("pp_comm" in present) == (each.plan.pp > 1)
    assert ("ep_comm" in present) == (each.plan.dp > 1)
    assert ("moe" in present) == each.runner.things.model.is_moe
    if each.runner.things.model.name == "qwen2.5-0.5b" and each.plan.pp == 2:
        assert causes["host"] > 0.2 * busy_s
    assert each.cost.causes_s(leaps.head(0)) == {}


ONE_CLASS = ("llama-3.1-8b", "deepseek-v2-lite", "qwen3-30b-a3b", "qwen2.5-0.5b")


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][0] in ONE_CLASS])
def test_decode_attention_of_a_leap_is_what_its_rows_say(name: str) -> None:
    """The one cause that is left over when the others are taken away is indeed the attention: from the rows again.

    For models with one attention class: of several, attended keys are recorded as their mean.
    """
    each = case(name)
    log, load = random_traffic(5, 30, rate=5.0, longest=200)
    run = serve(log, load, costs=[each.cost], limits=limits_of(each.plan, 5000), leap=False)
    leaps = run.records[0].to_frame()
    expected = 0.0
    for row in leaps[leaps["decoding"] > 0].itertuples():
        line = each.cost.decode_row(0, int(row.decoding), prompts=row.prompts > 0)  # type: ignore[arg-type]
        expected += float(np.interp(row.attended, line.breaks, line.values_s))  # type: ignore[arg-type]
    rounded_s = TICK_S * float(leaps["iterations"].sum())
    assert each.cost.causes_s(leaps)["decode_attention"] == pytest.approx(expected, rel=1e-9, abs=rounded_s)


def test_bytes_per_gpu_are_the_operators_bytes() -> None:
    """One sequence that decodes n tokens reads the weights n times: at least those bytes, and little more."""
    one = case("dense tp1")
    log, load = random_traffic(1, 1, rate=1.0, longest=100)
    log.prompt, log.output, log.asked = [10], [101], [101]
    run = serve(log, load, costs=[one.cost], limits=limits_of(one.plan, 5000))
    moved = one.cost.bytes_per_gpu(run.records[0].to_frame())
    model = one.runner.things.model
    embedding = model.vocab_size * model.hidden_size * 2.0
    weights = one.plan.memory.weights_bytes - embedding
    assert 101 * weights <= moved < 1.03 * 101 * weights
