"""Generated traffic: common random numbers, shipped specs, fits and their YAML."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.core import InputError, build_spec, data_names, parse_yaml
from sim.testing.shipped_servegen import NAME as SERVEGEN
from sim.testing.shipped_servegen import refit_servegen
from sim.testing.shipped_traffic import SOURCES, refit
from sim.testing.workloads import check_arrivals, check_mean_rate
from sim.workloads import (
    RequestTable,
    SharedPrefix,
    TrafficSpec,
    fit_traffic,
    generate,
    load_traffic,
    save_traffic,
    traffic_yaml,
)
from sim.workloads.fit import dispersion, window_counts
from sim.workloads.report import gap_cv, mean_rate

NAMES = data_names("workloads/traffic")


def same(one: RequestTable, other: RequestTable) -> bool:
    columns = ("arrival_s", "input_tokens", "output_tokens")
    return all(np.array_equal(getattr(one, column), getattr(other, column)) for column in columns)


@given(st.sampled_from(NAMES), st.integers(1, 300), st.integers(1, 300), st.floats(0.01, 1e4), st.integers(0, 2**40))
def test_common_random_numbers(name: str, few: int, many: int, rate: float, seed: int) -> None:
    few, many = sorted((few, many))
    spec = load_traffic(name)
    table = generate(spec, requests=many, rate=rate, seed=seed)
    assert len(table) == many
    assert same(generate(spec, requests=few, rate=rate, seed=seed), table.head(few))
    faster = generate(spec, requests=many, rate=3 * rate, seed=seed)
    np.testing.assert_allclose(faster.arrival_s * 3, table.arrival_s, rtol=1e-9)
    assert np.array_equal(faster.input_tokens, table.input_tokens)
    assert np.array_equal(faster.output_tokens, table.output_tokens)


def test_seeds_differ_and_names_are_kept() -> None:
    spec = load_traffic("chat-poisson")
    one, other = (generate(spec, requests=50, rate=1.0, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one.arrival_s, other.arrival_s)
    assert not np.array_equal(one.input_tokens, other.input_tokens)
    assert one.name == "chat-poisson"
    assert one.report is None


@pytest.mark.parametrize("name", NAMES)
def test_shipped_traffic(name: str) -> None:
    spec = load_traffic(name)
    assert spec.name == name
    assert spec.description
    assert spec.ref
    assert (spec.source == "fitted") == (name in {*SOURCES, SERVEGEN})
    assert spec.source == "assumed" or (spec.ref in spec.refs and spec.licence)
    check_arrivals(spec.arrivals)
    check_mean_rate(spec.arrivals, tolerance=0.05)
    assert build_spec(TrafficSpec, parse_yaml(traffic_yaml(spec))) == spec


def test_every_source_is_shipped() -> None:
    assert set(SOURCES) <= set(NAMES)


def test_bad_calls_are_refused() -> None:
    spec = load_traffic("chat-poisson")
    with pytest.raises(InputError, match="at least one request"):
        generate(spec, requests=0)
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="rate"):
            generate(spec, requests=1, rate=rate)
    with pytest.raises(InputError, match="did you mean 'chat-poisson'"):
        load_traffic("chat-poison")


def test_own_file_is_read_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    save_traffic(load_traffic("azure-conv-2023"), path)
    assert load_traffic(str(path)) == load_traffic("azure-conv-2023")


@pytest.mark.parametrize("name", ["azure-conv-2023", "mooncake-conversation", "apex-creation"])
def test_fit_finds_what_was_generated(name: str) -> None:
    table = generate(load_traffic(name), requests=12_000, seed=4)
    again = generate(fit_traffic(table, "again"), requests=12_000, seed=5)
    for column in ("input_tokens", "output_tokens"):
        old, new = getattr(table, column), getattr(again, column)
        assert new.mean() == pytest.approx(old.mean(), rel=0.05)
        assert np.quantile(new, [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(old, [0.1, 0.5, 0.9]), rel=0.1)
    assert mean_rate(again.arrival_s) == pytest.approx(mean_rate(table.arrival_s), rel=0.05)
    assert gap_cv(again.arrival_s) == pytest.approx(gap_cv(table.arrival_s), rel=0.08)


def test_fit_without_arrivals_or_spread() -> None:
    count = 30
    flat = RequestTable(np.zeros(count), np.full(count, 9), np.arange(1, count + 1))
    spec = fit_traffic(flat, "flat")
    assert spec.arrivals.kind == "poisson"
    assert spec.lengths.input.kind == "constant"
    assert spec.lengths.rank_correlation == 0
    assert "no arrival times" in spec.notes[0]
    with pytest.raises(InputError, match="at least 20"):
        fit_traffic(flat.head(19), "small")


def traces() -> Path:
    root = os.environ.get("PLANSIM_DATA")
    if not root:
        pytest.skip("PLANSIM_DATA is not set: no public traces to fit again")
    return Path(root) / "traces"


@pytest.mark.parametrize("name", SOURCES)
def test_shipped_traffic_matches_a_refit(name: str) -> None:
    assert refit(name, traces()) == load_traffic(name)


def test_servegen_matches_a_refit() -> None:
    assert refit_servegen(traces()) == load_traffic(SERVEGEN)


@pytest.mark.parametrize(
    ("name", "rate", "cv", "swing"),
    [
        ("azure-conv-2023", 5.53, 1.09, 16),
        ("azure-code-2023", 2.57, 13.15, 164),
        ("mooncake-conversation", 3.4, 1.02, 2.9),
    ],
)
def test_bursts_and_swings_of_the_recorded_hour(name: str, rate: float, cv: float, swing: float) -> None:
    """Rate [1/s], CV of gaps and dispersion of counts per minute of the recorded traces."""
    spec = load_traffic(name)
    runs = [generate(spec, requests=int(rate * 3500), seed=seed).arrival_s for seed in range(9)]
    assert np.median([mean_rate(run) or 0 for run in runs]) == pytest.approx(rate, rel=0.05)
    assert np.median([gap_cv(run) or 0 for run in runs]) == pytest.approx(cv, rel=0.1)
    assert np.median([dispersion(window_counts(run, 60.0)) for run in runs]) == pytest.approx(swing, rel=0.25)


def alike(**shared: int) -> TrafficSpec:
    return load_traffic("chat-poisson").model_copy(update={"shared_prefix": SharedPrefix(**shared)})


@given(st.integers(1, 60), st.integers(0, 60), st.sampled_from([None, 1, 4]), st.integers(0, 2**40))
def test_fewer_prompts_that_begin_alike_are_the_first_of_more(
    few: int, more: int, prompts: int | None, seed: int
) -> None:
    spec = alike(groups=3, tokens=100, **({} if prompts is None else {"prompts": prompts}))
    short, long = (generate(spec, requests=count, seed=seed) for count in (few, few + more))
    assert same(short, long.head(few))
    assert short.blocks is not None
    assert long.blocks is not None
    names: dict[int, int] = {}
    for one, other in zip(short.blocks.ids.tolist(), long.blocks.take(np.arange(few)).ids.tolist(), strict=True):
        assert names.setdefault(one, other) == other, "equal blocks stay equal"
    assert len(set(names.values())) == len(names), "and different ones different"


def test_groups_share_their_prefix_and_nothing_else() -> None:
    """Of a prefix of 100 tokens, the six blocks of 16 that lie within it."""
    table = generate(alike(groups=2, tokens=100), requests=200, seed=0)
    assert table.blocks is not None
    rows = [(ids, tokens) for ids, tokens in zip(table.blocks.to_lists(), table.input_tokens.tolist(), strict=True)]
    assert all(len(ids) == -(-tokens // 16) for ids, tokens in rows)
    heads = {tuple(ids[:6]) for ids, tokens in rows if tokens >= 96}
    assert len(heads) == 2
    rest = [at for ids, tokens in rows if tokens >= 96 for at in ids[6:]]
    assert len(set(rest)) == len(rest)


def test_prompts_are_sent_in_turn_with_their_own_lengths() -> None:
    table = generate(alike(groups=3, tokens=32, prompts=2), requests=20, seed=1)
    assert table.blocks is not None
    ids = [tuple(row) for row in table.blocks.to_lists()]
    assert len(set(ids[:6])) == 6
    assert ids[6:] == ids[:-6]
    assert table.input_tokens[6:].tolist() == table.input_tokens[:-6].tolist()
    assert table.output_tokens[6:].tolist() == table.output_tokens[:-6].tolist()


def test_shared_prefixes_are_written_and_read_back() -> None:
    spec = alike(groups=3, tokens=32, prompts=2)
    assert build_spec(TrafficSpec, parse_yaml(traffic_yaml(spec))) == spec
