"""Cost of speculative decoding against the operators it is made of, and of launching prompts without graphs."""

from dataclasses import replace

import numpy as np
import pytest

from sim.costs import CostModel, Fusion, host_calls
from sim.models import StateUpdate, attention_classes, load_model, prefill_operators, stages, token_operators
from sim.plans import SpeculationSpec, with_draft_layers
from sim.scenario import PlanRunner
from sim.serving import Chunk, CompiledCost, drafts_of
from sim.testing.scenarios import plan_runner, resolved_plan, small_scenario

MODEL, CLUSTER = "deepseek-v2-lite", "dgx-h200-1"
LIMITS = {"tp": 2, "max_num_seqs": 32, "max_num_batched_tokens": 2048, "max_model_len": 4096}


def runner(engine: str = "trtllm") -> PlanRunner:
    return plan_runner(small_scenario({"model": MODEL, "cluster": CLUSTER, "engine": engine, "workload.requests": 2}))


def costs(**speculation: object):
    each = runner()
    plan = resolved_plan(each, **LIMITS, speculation=speculation) if speculation else resolved_plan(each, **LIMITS)
    return each, plan, each.compiled(plan)


def without_gaps(cost: CompiledCost) -> CompiledCost:
    return cost.retimed(replace(cost.timing, kernel_gap_s=0.0))


def test_more_drafts_cost_more_whatever_becomes_of_them() -> None:
    """Base and attention of a step rise with the drafts; earlier tokens as drafts save the module's passes."""
    steps = []
    for speculation in (
        {},
        {"draft_tokens": 2, "acceptance": 0.5, "method": "ngram"},
        {"draft_tokens": 2, "acceptance": 0.5},
        {"draft_tokens": 3, "acceptance": 0.5},
    ):
        _, _, cost = costs(**speculation)
        row = cost.decode_row(0, 16)
        steps.append(cost.base(16, [])[0] + float(np.interp(16 * 1000, row.breaks, row.values_s)))
    assert steps == sorted(steps)
    assert len(set(steps)) == len(steps)


def test_a_step_is_a_verification_and_further_passes() -> None:
    """Tokens of 4 a sequence through one layer more, 4 rows of logits each, and what the passes add."""
    each, plan, cost = costs(draft_tokens=3, acceptance=0.5)
    (stage,) = each._stages(plan)
    model = with_draft_layers(each.things.model, 1)
    assert model.n_layers == each.things.model.n_layers + 1
    tables = cost._table(True)
    assert cost.base(8, [])[0] == pytest.approx(
        tables[0].total_s[32] + tables[1].total_s[32] + tables[2].total_s[8], rel=1e-12
    )
    passes = stage.costs.total_s(drafts_of(plan.speculation).operators(model, stage, np.array([8.0])))
    assert tables[2].total_s[8] == pytest.approx(float(passes[0]), rel=1e-9)
    assert cost.base(8, [Chunk(0, 100, 0)])[0] == pytest.approx(
        cost._table(True, False)[0].total_s[132] + tables[1].total_s[33] + tables[2].total_s[9], rel=1e-12
    )


def test_a_recurrence_goes_through_every_token_and_keeps_each_state() -> None:
    """Four tokens read the state once and write it four times: five passes for two; SGLang copies one back besides."""
    shape = {"heads": 8.0, "state_bytes": 1e6, "elements": 2.5e5, "channels": 0.0, "kind": "gated_delta"}
    one = StateUpdate(name="x", cause="x", sequences=np.array([16.0]), **shape)
    (four,) = drafts_of(SpeculationSpec(draft_tokens=3, acceptance=0.5)).widened([one], latent_apart=True)
    assert isinstance(four, StateUpdate)
    assert four.bytes() == pytest.approx(one.bytes() * 5 / 2)
    assert four.flops() == pytest.approx(one.flops() * 4)
    (stage,) = runner().compiled(resolved_plan(runner(), **LIMITS))._stages.items
    device = stage.costs.device
    copied = CostModel(device, engine="sglang", fusion=Fusion(copies_states=True))
    plain = CostModel(device, engine="sglang")
    assert copied.cost(one).memory_s == pytest.approx(plain.cost(one).memory_s)
    assert copied.cost(four).memory_s == pytest.approx(plain.cost(four).memory_s * 7 / 5)


@pytest.mark.parametrize(
    ("engine", "node", "apart"),
    [("trtllm", "hgx-b200", True), ("trtllm", "dgx-h200", False), ("sglang", "hgx-b200", False)],
)
def test_latent_attention_of_drafts_is_that_of_as_many_sequences_or_of_more_heads(
    engine: str, node: str, apart: bool
) -> None:
    """Three drafts that no module makes: eight sequences of four tokens as 32 of one, or less where they are folded."""
    each = plan_runner(small_scenario({"model": MODEL, "cluster": {"node": node}, "engine": engine}))
    drafting = resolved_plan(each, **LIMITS, speculation={"draft_tokens": 3, "acceptance": 0.5, "method": "ngram"})
    four, one = (
        each.compiled(plan).decode_row(0, n) for plan, n in ((drafting, 8), (resolved_plan(each, **LIMITS), 32))
    )
    eight_s, each_s = (float(np.interp(n * 3000, row.breaks, row.values_s)) for row, n in ((four, 8), (one, 32)))
    assert eight_s == pytest.approx(each_s) if apart else eight_s < 0.9 * each_s


def test_the_device_waits_for_the_host_where_drafts_are_not_scheduled_ahead() -> None:
    """SGLang: no gap but the whole host time, a pass per draft and all tokens counted; TensorRT-LLM goes on ahead."""
    each = runner("sglang")
    engine = each.things.engine
    assert engine.draft_host is not None
    plan = resolved_plan(each, **LIMITS, speculation={"draft_tokens": 2, "acceptance": 0.5})
    step_s = engine.host_step_s.value + 2 * engine.draft_host.per_draft_s.value
    rows_s = 8 * (engine.host_per_sequence_s.value + 3 * engine.draft_host.per_token_s.value)
    drafting = without_gaps(each.compiled(plan))
    assert drafting.host(8) == pytest.approx((step_s + rows_s, step_s + rows_s))
    beside_a_prompt_s = step_s + rows_s + engine.host_per_sequence_s.value
    assert drafting.host(9, 1)[0] == pytest.approx(beside_a_prompt_s), "prompts have no drafts to verify"
    ngrams = resolved_plan(each, **LIMITS, speculation={"draft_tokens": 2, "acceptance": 0.5, "method": "ngram"})
    no_passes_s = step_s - 2 * engine.draft_host.per_draft_s.value
    assert without_gaps(each.compiled(ngrams)).host(8) == pytest.approx((no_passes_s + rows_s, no_passes_s + rows_s))
    plain = each.compiled(resolved_plan(each, **LIMITS))
    assert plain.host(8)[0] < plain.host(8)[1], "without drafts the host works beside the device"
    drafted, ahead = costs(draft_tokens=2, acceptance=0.5)[2], costs()[2]
    assert without_gaps(drafted).host(8) == without_gaps(ahead).host(8)


def test_a_run_keeps_its_books_with_drafts() -> None:
    """Causes sum to the busy time, ITL and TPOT agree, and more accepted drafts are faster."""
    times = []
    for acceptance in (0.0, 0.5, 1.0):
        each = runner()
        plan = resolved_plan(each, **LIMITS, speculation={"draft_tokens": 2, "acceptance": acceptance})
        result = each.evaluate(plan)
        breakdown = result.breakdown
        assert sum(breakdown["parts"].values()) == pytest.approx(breakdown["explains_s"], rel=1e-6)
        assert breakdown["parts"]["draft"] > 0
        assert result.metrics["itl_s"]["mean"] == pytest.approx(result.metrics["tpot_s"]["mean"], rel=0.05)
        times.append(result.metrics["tpot_s"]["mean"])
    assert times == sorted(times, reverse=True)


def test_the_host_launches_prompts_call_by_call() -> None:
    """An iteration with prompts lasts as long as its calls at least; decoding takes none, graphs of prompts fewer."""
    each = runner()
    engine = each.things.engine
    assert engine.host_call_s is not None
    call_s = engine.host_call_s.value
    plain, graphs = (each.compiled(resolved_plan(each, **LIMITS, prompt_graphs=on)) for on in (False, True))
    host_s = engine.host_step_s.value + engine.host_per_sequence_s.value * 9
    assert plain.host(9)[1] == graphs.host(9)[1] == pytest.approx(host_s)
    for cost, from_graphs in ((plain, False), (graphs, True)):
        for prompts in (1, 9):
            calls = cost._stages.prompt_calls(from_graphs=from_graphs)[prompts < 9]
            assert cost.host(9, prompts)[1] == pytest.approx(host_s + calls * call_s)
    assert graphs.host(9, 1)[1] < plain.host(9, 1)[1]


def test_prompts_that_leave_the_graphs_are_not_padded() -> None:
    """vLLM's graphs hold prompts unless told not to: 257 tokens are computed as 272, and so are decodes always."""
    each = runner("vllm")
    limits = LIMITS | {"max_num_seqs": 512}
    usual, told, apart = (
        each.compiled(resolved_plan(each, **limits, **asked))
        for asked in ({}, {"prompt_graphs": True}, {"prompt_graphs": False})
    )
    prompt = [(0, 257, True)]
    assert usual.base(0, prompt)[0] == told.base(0, prompt)[0] > apart.base(0, prompt)[0]
    assert usual.base(257, [])[0] == apart.base(257, [])[0]


def test_vllm_s_host_is_behind_only_where_prompts_leave_the_graphs() -> None:
    """Then every call of the pass counts, eight in a layer of two ranks; the host of pieces in graphs is not."""
    fields = {"model": "llama-3.1-8b", "cluster": CLUSTER, "engine": "vllm", "workload.requests": 2}
    each = plan_runner(small_scenario(fields))
    call_s = each.things.engine.host_call_s
    assert call_s is not None
    usual, apart = (each.compiled(resolved_plan(each, **LIMITS, **asked)) for asked in ({}, {"prompt_graphs": False}))
    assert usual.host(9, 1)[1] == usual.host(9)[1] == apart.host(9)[1]
    calls = (apart.host(9, 1)[1] - apart.host(9)[1]) / call_s.value
    assert 8 * each.things.model.n_layers <= calls < 9 * each.things.model.n_layers


@pytest.mark.parametrize("prompts", [1, 3, 4, 5, 8])
def test_data_parallel_ranks_with_prompts_alone_make_no_calls_for_decodes(prompts: int) -> None:
    """However prompts fall on four ranks; beside decodes a rank that has both makes more."""
    each = runner()
    cost = each.compiled(resolved_plan(each, **{**LIMITS, "tp": 1, "dp": 4}))
    assert each.things.engine.host_call_s is not None

    def calls_s(requests: int) -> float:
        return cost.host(requests, prompts)[1] - cost.host(requests)[1]

    alone, beside = (
        each.things.engine.host_call_s.value * calls for calls in cost._stages.prompt_calls(from_graphs=False)
    )
    assert calls_s(prompts) == pytest.approx(alone)
    assert calls_s(prompts + 8) == pytest.approx(beside)


@pytest.mark.parametrize(("engine", "of_a_layer"), [("trtllm", 8), ("vllm", 10)])
def test_an_iteration_waits_between_all_its_kernels(engine: str, of_a_layer: int) -> None:
    """Of a dense layer two norms or all-reduces, four products, attention and activation; drafts add theirs.

    Positions and cache are TensorRT-LLM's attention's own, kernels apart in vLLM.
    """
    scenario = {"model": "llama-3.1-8b", "cluster": CLUSTER, "engine": engine, "workload.requests": 2}
    each = plan_runner(small_scenario(scenario))
    gap = each.things.engine.kernel_gap_s
    assert gap is not None
    layers = each.things.model.n_layers
    for tp in (1, 2):
        plain = each.compiled(resolved_plan(each, **{**LIMITS, "tp": tp}))
        kernels = plain.host(4)[0] / gap.value
        assert of_a_layer * layers < kernels < of_a_layer * layers + 16
        assert plain.host(4, 2)[0] == plain.host(4)[0]
    plain, drafting = (
        costs(**speculation)[2] for speculation in ({}, {"draft_tokens": 2, "acceptance": 0.5, "method": "mtp"})
    )
    assert drafting.host(4)[0] > plain.host(4)[0]


@pytest.mark.parametrize(("model", "alone", "further"), [("llama-3.1-8b", 2, 0), ("deepseek-v2-lite", 10, 5)])
def test_attention_stays_eager_where_graphs_hold_prompts(model: str, alone: int, further: int) -> None:
    """A layer is a graph and its attention; latent attention makes calls of its own, and more beside decodes.

    Of those ten: the graph, two products and a norm before attention, two up-projections, and four of attention.
    """
    each = plan_runner(small_scenario({"model": model, "cluster": CLUSTER, "engine": "trtllm", "workload.requests": 2}))
    stages_ = each.compiled(resolved_plan(each, **LIMITS, prompt_graphs=True))._stages
    calls = stages_.prompt_calls(from_graphs=True)
    assert calls == (alone * each.things.model.n_layers, (alone + further) * each.things.model.n_layers)


@pytest.mark.parametrize(("tp", "calls"), [(1, 8), (2, 8)])
def test_calls_of_a_dense_layer(tp: int, calls: int) -> None:
    """Norms apart on one rank, fused with all-reduces on two: qkv, attention, o, up, act, down, and two of either."""

    model = load_model("llama-3.1-8b")
    (shard,) = stages(model, tp=tp)
    one = np.array([1.0])
    operators = [*token_operators(model, shard, one)]
    (cls,) = attention_classes(model, shard)
    operators += prefill_operators(model, shard, one, np.array([0.0]), cls)
    outside = [op for op in operators if op.name.startswith(("embedding", "final_norm"))]
    layers = host_calls(operators) - host_calls(outside)
    assert layers == calls * model.n_layers


@pytest.mark.parametrize(
    ("cluster", "library", "further"),
    [("dgx-h200-1", None, 5), ("dgx-h200-1", "cutlass", 0), ("hgx-b200-1", None, 0)],
)
def test_calls_of_experts_that_triton_unpacks(cluster: str, library: str | None, further: int) -> None:
    """Hopper has no MXFP4 units: Triton's kernels sort tokens by expert in six launches; CUTLASS's are one call."""

    def prompt_calls(weights: str | None) -> float:
        scenario = {"model": "gpt-oss-20b", "cluster": cluster, "engine": "trtllm", "workload.requests": 2}
        each = plan_runner(small_scenario(scenario))
        plan = resolved_plan(each, **LIMITS, weights_dtype=weights, **({"moe_backend": library} if library else {}))
        return each.compiled(plan)._stages.prompt_calls(from_graphs=False)[False]

    assert prompt_calls(None) - prompt_calls("bf16") == further * load_model("gpt-oss-20b").n_layers
