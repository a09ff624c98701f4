"""Published claims: the rules of verdicts as laws, mistakes in files, and every shipped file run."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sim.validation import claim_names, load_claims, reproduce
from sim.validation.claims import RANKS, band_of, effect_lost, in_order, judge_ratio, judge_value, right_direction
from tests.conftest import Command

VALUES = st.floats(0.05, 1e6)
RATIOS = st.floats(0.2, 5.0)
EFFECTS = st.floats(1.02, 5.0)
SETUPS = st.sampled_from(("stated", "assumed"))
GRADES = st.sampled_from(("measured", "claimed", "read by eye"))


# ---- bands ----


@given(VALUES, st.booleans(), SETUPS, GRADES, st.sampled_from(("about", "at_least", "at_most")))
def test_what_is_claimed_meets_its_own_band(claimed: float, ratio: bool, setup: Any, grade: Any, bound: Any) -> None:
    low, high = band_of(claimed, ratio=ratio, bound=bound, setup=setup, grade=grade)
    assert low is None or low <= claimed
    assert high is None or high >= claimed
    assert (high is None) == (bound == "at_least")


@given(RATIOS, st.booleans())
def test_less_certain_claims_have_wider_bands(claimed: float, ratio: bool) -> None:
    def width(setup: Any, grade: Any) -> float:
        low, high = band_of(claimed, ratio=ratio, setup=setup, grade=grade)
        assert low is not None
        assert high is not None
        return high - low

    assert width("stated", "measured") <= width("assumed", "measured") < width("assumed", "read by eye")
    assert width("stated", "measured") == width("stated", "claimed")
    if ratio:
        assert width("stated", "measured") >= 0.06 - 1e-9


@given(EFFECTS)
def test_at_most_so_much_reaches_down_to_no_effect(claimed: float) -> None:
    low, _ = band_of(claimed, ratio=True, bound="at_most", setup="stated", grade="claimed")
    assert low == 1.0


# ---- verdicts ----


@given(RATIOS, EFFECTS, st.booleans())
def test_a_ratio_is_judged_by_band_and_side(value: float, gain: float, slower: bool) -> None:
    claimed = 1.0 / gain if slower else gain
    band = band_of(claimed, ratio=True, setup="stated", grade="measured")
    verdict = judge_ratio(value, claimed, band).verdict
    low, high = band
    assert low is not None
    assert high is not None
    inside, side = low <= value <= high, right_direction(value, claimed)
    assert verdict == ("missed" if not side else "reproduced" if inside else "direction only")
    assert side == ((value < 0.995) if slower else (value > 1.005)) or abs(abs(value - 1.0) - 0.005) < 1e-9


@given(EFFECTS, EFFECTS)
def test_an_effect_that_outlives_its_cause_is_missed(value: float, claimed: float) -> None:
    band = band_of(claimed, ratio=True, setup="stated", grade="measured")
    plain = judge_ratio(value, claimed, band)
    assert judge_ratio(value, claimed, band, without=1.0) == plain
    assert judge_ratio(value, claimed, band, without=1.0 - (value - 1.0)) == plain, "turned round, it is lost too"
    kept = judge_ratio(value, claimed, band, without=value)
    assert kept.verdict == "missed"
    assert "cause" in kept.reason


@given(RATIOS, st.floats(0.0, 1.0))
def test_an_effect_is_lost_when_at_most_three_tenths_remain(ratio: float, share: float) -> None:
    remains = 1.0 + share * (ratio - 1.0)
    if abs(share - 0.3) > 1e-6 and abs(ratio - 1.0) > 0.05:
        assert effect_lost(ratio, remains) == (share < 0.3)


@pytest.mark.parametrize("value", [0.9, 1.1])
def test_no_claimed_effect_has_no_direction_to_be_right_in(value: float) -> None:
    band = band_of(1.0, ratio=True, setup="stated", grade="claimed")
    assert judge_ratio(1.0, 1.0, band).verdict == "reproduced"
    assert judge_ratio(value, 1.0, band).verdict == "missed"


@given(VALUES, st.floats(0.1, 10.0), st.lists(st.booleans(), max_size=3))
def test_a_value_outside_its_band_can_still_be_in_order(claimed: float, factor: float, orders: list[bool]) -> None:
    band = band_of(claimed, ratio=False, setup="stated", grade="measured")
    verdict = judge_value(claimed * factor, claimed, band, orders=orders).verdict
    if abs(factor - 1.0) < 0.099:
        assert verdict == "reproduced"
    elif abs(factor - 1.0) > 0.101:
        assert verdict == ("direction only" if orders and all(orders) else "missed")


@given(st.lists(VALUES, min_size=2, max_size=6, unique=True))
def test_orders_hold_at_every_step(values: list[float]) -> None:
    ordered = sorted(values)
    assert in_order(ordered, "rising")
    assert in_order(ordered[::-1], "falling")
    assert not in_order([*ordered, ordered[-1]], "rising"), "a tie is no rise"
    assert in_order(values, "rising") == (values == ordered)
    assert in_order(values, "flat") == all(a <= 1.05 * b for a, b in itertools.permutations(values, 2))


# ---- files ----


def claim(**changes: Any) -> dict[str, Any]:
    """A small file of one ratio: two stages of a pipeline against four, on one node."""
    attention = {"kind": "gqa", "heads": 16, "kv_heads": 16, "head_dim": 64}
    layer = {"count": 8, "attention": attention, "ffn": {"kind": "dense", "intermediate": 4096, "gated": False}}
    model = {"name": "small", "hidden_size": 1024, "vocab_size": 32000, "max_position_embeddings": 1024}
    return {
        "name": "small",
        "title": "A small system",
        "source": "made up",
        "description": "Fewer stages have less of a bubble.",
        "scenario": {
            "model": {**model, "layers": [layer]},
            "cluster": {"node": "dgx-a100", "nodes": 1, "devices_per_node": 4},
            "workload": {"kind": "training", "global_batch": 8, "sequence_length": 1024},
            "plan": {"pp": 4},
        },
        "evidence": {"text": {"where": "nowhere", "grade": "claimed"}},
        "runs": {"four": {}, "two": {"set": {"plan.pp": 2}}},
        "expect": [
            {"name": "gain", "run": "two", "over": "four", "metric": "bubble_frac", "claimed": 0.95, "evidence": "text"}
        ],
        **changes,
    }


def written(folder: Path, data: dict[str, Any]) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def expectation(**changes: Any) -> list[dict[str, Any]]:
    return [{**claim()["expect"][0], **changes}]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"expect": expectation(metric="bubble_fraction")}, "unknown metric 'bubble_fraction'; did you mean"),
        ({"expect": expectation(metric="memory.optimiser_bytes")}, "did you mean 'memory.optimizer_bytes'"),
        ({"expect": expectation(over="for")}, "unknown baseline run 'for'; did you mean 'four'"),
        ({"expect": expectation(run="tow")}, "unknown run 'tow'; did you mean 'two'"),
        ({"expect": expectation(evidence="txt")}, "unknown evidence 'txt'; did you mean 'text'"),
        ({"expect": expectation(claimd=1.0)}, "unknown key 'claimd'; did you mean 'claimed'"),
        ({"expect": expectation(metric=None, flops="96 flops")}, "unknown definition of FLOPs"),
        ({"expect": expectation(metric=None)}, "needs either `metric` or `flops`"),
        ({"expect": expectation(run=None)}, "needs either `run` or `not_modelled: why`"),
        (
            {"expect": expectation(over=None, without={"cause": "x", "run": "two", "over": "four"})},
            "no baseline `over`, so no effect to lose",
        ),
        ({"expect": expectation() * 2}, "two claims are called 'gain'"),
        ({"runs": {"four": {}, "two": {"like": "fuor"}}}, "unknown earlier run 'fuor'; did you mean 'four'"),
        (
            {"orders": [{"name": "x", "order": "rising", "of": ["gain", "loss"], "evidence": "text"}]},
            "unknown claim 'loss'",
        ),
    ],
)
def test_mistakes_in_a_file_are_named(changes: dict[str, Any], said: str, tmp_path: Path, plansim: Command) -> None:
    found = plansim("reproduce", written(tmp_path, claim(**changes)))
    assert found.code == 2
    assert said in found.err
    assert "small.yaml:" in found.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plan.ppp": 2}, "runs.two plan.ppp: unknown key 'ppp'; did you mean 'pp'"),
        ({"cluster": "dgx-a10-1"}, "unknown cluster 'dgx-a10-1'"),
        ({"model.name.first": 1}, "'model.name' is a value, not a mapping of keys"),
    ],
)
def test_mistakes_in_a_run_are_named(change: dict[str, Any], said: str, tmp_path: Path, plansim: Command) -> None:
    found = plansim("reproduce", written(tmp_path, claim(runs={"four": {}, "two": {"set": change}})))
    assert found.code == 2
    assert said in found.err
    assert "small.yaml:" in found.err


def test_an_unknown_name_is_answered_with_the_nearest(plansim: Command) -> None:
    found = plansim("reproduce", "megascal", "--json")
    assert found.code == 2
    assert "did you mean 'megascale'" in found.err
    assert found.document["error"]["kind"] == "input"


# ---- runs ----


def test_a_claim_is_simulated_and_judged(tmp_path: Path, plansim: Command) -> None:
    path = written(tmp_path, claim())
    found = plansim("reproduce", path, "--json").document
    assert (found["schema_version"], found["command"]) == (1, "reproduce")
    (row,) = found["rows"]
    assert {"name", "claim", "simulated", "band", "verdict", "evidence", "assumptions"} <= set(row)
    assert row["verdict"] == "direction only", "less idle time, but by far more than 5 % less"
    runs = [
        plansim("run", written(tmp_path, {"name": "x", **claim()["scenario"]}), "--json", "--set", f"plan.pp={pp}")
        for pp in (2, 4)
    ]
    two, four = (run.document["metrics"]["bubble_frac"] for run in runs)
    assert row["simulated"] == pytest.approx(two / four)


def test_set_holds_for_every_run(tmp_path: Path, plansim: Command) -> None:
    path = written(tmp_path, claim())
    few, many = (
        plansim("reproduce", path, "--json", "--set", f"workload.global_batch={batch}").document["rows"][0]["simulated"]
        for batch in (8, 256)
    )
    assert many < few, "with many micro-batches the bubble tends to (p-1)/m, a third"


def test_check_fails_only_where_a_verdict_got_worse(tmp_path: Path, plansim: Command) -> None:
    for recorded in RANKS:
        path = written(tmp_path, claim(expect=expectation(recorded=recorded)))
        assert plansim("reproduce", path, "--quiet").code == 0
        found = plansim("reproduce", path, "--check")
        assert found.code == (5 if recorded == "reproduced" else 0)
        assert ("small/gain" in found.err) == (recorded == "reproduced")


def test_a_wrong_cause_is_found_out(tmp_path: Path) -> None:
    wrong = {"cause": "the colour of the node", "run": "two", "over": "four"}
    (row,) = reproduce([load_claims(written(tmp_path, claim(expect=expectation(without=wrong))))]).rows
    assert row.verdict == "missed"
    assert row.without == {"cause": "the colour of the node", "left": row.simulated}


def test_what_cannot_run_or_is_not_modelled_cannot_be_evaluated(tmp_path: Path) -> None:
    three = {"four": {}, "two": {"set": {"plan.pp": 3}}}
    unknown = {"name": "other", "claimed": 2.0, "evidence": "text", "not_modelled": "no such thing"}
    path = written(tmp_path, claim(runs=three, expect=[*expectation(), unknown]))
    cannot_run, not_modelled = reproduce([load_claims(path)]).rows
    assert {cannot_run.verdict, not_modelled.verdict} == {"cannot be evaluated"}
    assert "does not divide the 4 GPUs" in cannot_run.reason
    assert not_modelled.reason == "no such thing"


def test_results_are_saved_with_a_page(tmp_path: Path, plansim: Command) -> None:
    path = written(tmp_path, claim(assumptions=["nothing else runs"]))
    assert plansim("reproduce", path, "--out", tmp_path / "out", "--quiet").code == 0
    page = (tmp_path / "out" / "reproduce.md").read_text()
    assert "| gain | 0.950 |" in page
    assert "- nothing else runs" in page
    assert (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize("name", claim_names())
def test_shipped_claims_run_and_are_no_worse_than_recorded(name: str) -> None:
    claims = load_claims(name)
    assert claims.spec.name == name
    used = {run for one in claims.spec.expect for run in (one.run, one.over)}
    used |= {run for one in claims.spec.expect if one.without for run in (one.without.run, one.without.over)}
    based_on = {run.like for run in claims.spec.runs.values()}
    assert set(claims.spec.runs) <= used | based_on, "every run serves a claim"
    assert {*claims.spec.evidence} == {one.evidence for one in (*claims.spec.expect, *claims.spec.orders)}
    rows = reproduce([claims]).rows
    assert all(row.recorded is not None for row in rows)
    assert [row.name for row in rows if row.worse] == []
