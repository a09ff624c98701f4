"""Wrong input through the command, with real files: one message that says where, what and what else; nothing lost."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sim.testing.trace_samples import AZURE, VIDUR
from tests.conftest import Command, Done

GOOD = """\
name: small
model: llama-3.1-8b
cluster: {node: dgx-h100, nodes: 1}
engine: vllm
workload: {kind: serving, traffic: chat-poisson, rate: 4 req/s, requests: 60}
plan: {tp: 2}
slo: {ttft: 2 s, tpot: 50 ms, attainment: 0.99}
search: {space: {tp: [1, 2]}, objectives: [goodput_max_per_gpu], max_simulated: 1}
variants:
  - {name: wide, set: {plan.tp: 4}}
"""
TRAFFIC = "traffic: chat-poisson, rate: 4 req/s, requests: 60"
LINE = {line.partition(":")[0]: number for number, line in enumerate(GOOD.splitlines(), start=1)}

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands write their default folder `out` where one works."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def scenario(tmp_path: Path) -> Write:
    """Writes the scenario with some text replaced by other text."""

    def write(*replacements: tuple[str, str]) -> Path:
        text = GOOD
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "small.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(done: Done, *words: str, code: int = 2) -> str:
    """The one message of a command that failed with `code`; it contains `words`."""
    assert done.code == code
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("error: ") == 1
    assert code != 2 or len(done.err.splitlines()) == 1
    for word in words:
        assert word in done.err
    return done.err


def test_the_scenario_is_good_where_nothing_is_replaced(scenario: Write, plansim: Command) -> None:
    few = ("--set", "search.goodput.tolerance=20 %", "--set", "replications=1")
    for verb in ("run", "search", "compare"):
        assert plansim(verb, scenario(), "--json", *few, *(["--workers", 1] if verb != "run" else [])).code == 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        # keys and values
        ("engine: vllm", "enigne: vllm", ["unknown key 'enigne'", "did you mean 'engine'", "model"]),
        ("plan: {tp: 2}", "plan: {replica: 2}", ["plan.replica", "did you mean 'replicas'"]),
        ("rate: 4 req/s", "rate: 4 ms", ["workload.rate", "'4 ms'", "req/s"]),
        ("rate: 4 req/s", "rate: 4", ["workload.rate", "unit is missing"]),
        ("rate: 4 req/s", "rate: -1 req/s", ["workload.rate", "'-1 req/s'", "positive"]),
        ("requests: 60", "requests: 0", ["workload.requests", "got 0", "1"]),
        ("requests: 60", "requests: 60, duration: 0 s", ["workload", "`duration` (0 s) must be longer"]),
        ("plan: {tp: 2}", "plan: 2", ["plan", "mapping", "got 2"]),
        ("slo: {ttft: 2 s, tpot: 50 ms, attainment: 0.99}", "slo: {}", ["slo", "ttft", "e2e"]),
        ("objectives: [goodput_max_per_gpu]", "objectives: []", ["search.objectives", "at least 1"]),
        ("space: {tp: [1, 2]}", "space: {tp: []}", ["search.space.tp", "at least 1"]),
        ("plan: {tp: 2}", "plan: {tp: 2}\nplan: {tp: 4}", ["duplicate key 'plan'", "first at line 6"]),
        ("{name: wide, set: {plan.tp: 4}}", "{name: wide}\n  - {name: wide}", ["variants", "'wide'"]),
        # names
        ("llama-3.1-8b", "llama-3.1-9b", ["model", "did you mean 'llama-3.1-8b'", "plansim list models"]),
        ("model: llama-3.1-8b", "model: no-such", ["model", "'no-such'", "config.json"]),
        ("node: dgx-h100", "node: dgx-h1000", ["cluster.node", "did you mean 'dgx-h100'", "plansim list nodes"]),
        ("{node: dgx-h100, nodes: 1}", "dgx-h100-11", ["cluster", "did you mean 'dgx-h100-1", "list clusters"]),
        ("nodes: 1", "nodes: 1, price: abc", ["cluster.price", "'abc'", "USD/h", "plansim list prices"]),
        ("nodes: 1", "devices_per_node: 9", ["cluster.devices_per_node", "9", "8 devices"]),
        ("engine: vllm", "engine: vlm", ["engine", "did you mean 'vllm'", "plansim list engines"]),
        ("chat-poisson", "chat-poison", ["workload.traffic", "did you mean 'chat-poisson'", "plansim list traffic"]),
        ("tp: 2}", "tp: 2, scheduler: vllm-v2}", ["plan.scheduler", "did you mean 'vllm-v1'", "allowed"]),
        ("tp: 2}", "tp: 2, router: foo}", ["plan.router", "'foo'", "round_robin", "plansim list routers"]),
        ("tp: [1, 2]", "router: [round_robbin]", ["search.space.router", "did you mean 'round_robin'"]),
        ("tp: 2}", "tp: 2, kv_dtype: fp9}", ["plan.kv_dtype", "did you mean 'fp8'", "bf16"]),
    ],
)
def test_a_mistake_in_the_file_is_shown_with_its_line_and_the_way_out(
    old: str, new: str, words: list[str], scenario: Write, plansim: Command
) -> None:
    path = scenario((old, new))
    number = next(i for i, line in enumerate(GOOD.splitlines(), start=1) if old in line)
    number += new.count("\n") if "duplicate" in words[0] else 0
    number = LINE["variants"] if words[0] == "variants" else number
    for verb in ("run", "search"):
        refused(plansim(verb, path), f"error: {path}:{number}", *words)
    detail = plansim("run", path, "--json").document["error"]
    assert (detail["kind"], detail["file"], detail["line"]) == ("input", str(path), number)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[goodput_max_per_gpu]", "[foo]", ["search.objectives", "'foo'", "ttft_s", "docs/metrics.md"]),
        ("[goodput_max_per_gpu]", "[ttft_s.p98]", ["search.objectives", "p98", "p99"]),
        ("[goodput_max_per_gpu]", "[goodputt]", ["search.objectives", "did you mean 'goodput'"]),
        ("max_simulated: 1", "algorithm: laddr", ["search.algorithm", "did you mean 'ladder'", "exhaustive"]),
        ("slo: {ttft: 2 s, tpot: 50 ms, attainment: 0.99}\n", "", ["slo", "goodput needs an SLO", "for example"]),
        ("rate: 4 req/s", "concurrency: 4", ["workload.concurrency", "closed loop", "rate or a trace"]),
    ],
)
def test_a_search_says_what_it_cannot_optimise(
    old: str, new: str, words: list[str], scenario: Write, plansim: Command
) -> None:
    path = scenario((old, new))
    refused(plansim("search", path), f"error: {path}:", *words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("plan.tp: 4", "plan.tq: 4", ["variants.0.set.plan.tq", "unknown key 'tq'"]),
        ("plan.tp: 4", "cluster.node: dgx-h2000", ["variants.0.set.cluster.node", "did you mean 'dgx-h200'"]),
        ("plan.tp: 4", "model: nope", ["variants.0.set.model", "'nope'"]),
    ],
)
def test_a_mistake_in_a_variant_is_shown_with_its_line(
    old: str, new: str, words: list[str], scenario: Write, plansim: Command
) -> None:
    path = scenario((old, new))
    refused(plansim("compare", path, "--workers", 1), f"error: {path}:{LINE['variants'] + 1} ", *words)


def test_a_comparison_needs_variants_that_can_run(scenario: Write, plansim: Command) -> None:
    nothing = scenario(("variants:\n  - {name: wide, set: {plan.tp: 4}}\n", ""))
    refused(plansim("compare", nothing), "no variants", "for example variants:")
    for workers in (1, 2):
        done = plansim("compare", scenario(("plan.tp: 4", "plan.tp: 3")), "--workers", workers)
        refused(done, "variant 'wide'", "[heads]", "tp 3", code=3)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("plan.tp", ["a.b=value", "'plan.tp'"]),
        ("=4", ["a.b=value"]),
        ("plan..tp=4", ["a.b=value"]),
        ("", ["a.b=value"]),
        ("plan.tq=4", ["--set plan.tq=4", "unknown key 'tq'", "allowed"]),
        ("plan=[1", ["--set plan=[1", "not valid YAML"]),
        ("name.x=1", ["--set name.x=1", "'name' is a value"]),
        ("variants.0=1", ["--set variants.0=1", "'variants' is a list"]),
        ("seed=-1", ["--set seed=-1", "got -1"]),
        ("slo={}", ["--set slo={}", "ttft"]),
        ("engine=vlm", ["--set engine=vlm", "did you mean 'vllm'"]),
        ("model=no-such", ["--set model=no-such", "plansim list models"]),
        ("model=no-such.json", ["no-such.json: no such file", "named by --set model=no-such.json"]),
        ("cluster=dgx-h1001", ["--set cluster=dgx-h1001", "did you mean 'dgx-h100-1'"]),
        ("cluster.price=abc", ["--set cluster.price=abc", "USD/h"]),
        ("plan.router=foo", ["--set plan.router=foo", "round_robin"]),
        ("workload.traffic=chat-poisn", ["--set workload.traffic=chat-poisn", "did you mean 'chat-poisson'"]),
        ("workload.trace.path=no.csv", ["no.csv: no such trace file", "named by --set workload.trace.path=no.csv"]),
        ("search.space={tp: []}", ["--set search.space={tp: []} search.space.tp", "at least 1"]),
    ],
)
def test_a_mistake_in_an_override_is_shown_as_typed(
    override: str, words: list[str], scenario: Write, plansim: Command
) -> None:
    refused(plansim("run", scenario(), "--set", override), *words)


def test_the_override_that_clashes_is_named_and_no_other(scenario: Write, plansim: Command) -> None:
    overrides = ["workload.requests=30", "workload.concurrency=4", "plan.tp=4"]
    for order in (overrides, overrides[::-1]):
        arguments = [part for text in order for part in ("--set", text)]
        refused(plansim("run", scenario(), *arguments), "error: --set workload.concurrency=4", "exclude each other")
    broken = scenario(("traffic: chat-poisson, ", ""))
    refused(plansim("run", broken, "--set", "workload.requests=30"), f"error: {broken}:{LINE['workload']} workload")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["mapping of keys"]),
        (b"- 1\n- 2\n", ["mapping of keys"]),
        (bytes(range(256)), [":2", "not UTF-8 text"]),
        (b"\x89PNG\r\n\x1a\n\x00\x00", ["not UTF-8 text"]),
        (b"name: [", ["not valid YAML"]),
        (b"name: &a [*a]\n", ["alias"]),
        (b"name: !!python/object:os.system x\n", [":1", "tag"]),
        (b"name: a\n---\nname: b\n", [":2", "another document"]),
    ],
)
def test_files_that_are_no_scenario(content: bytes, words: list[str], tmp_path: Path, plansim: Command) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    refused(plansim("run", path), f"error: {path}", *words)


def test_scenarios_that_are_not_there(tmp_path: Path, plansim: Command) -> None:
    refused(plansim("run", tmp_path / "none.yaml"), "no such scenario file", "plansim list scenarios")
    refused(plansim("search", "h100-or-h20"), "did you mean 'h100-or-h200'?")
    refused(plansim("compare", tmp_path), "this is a folder")


def test_unknown_verbs_and_options(scenario: Write, plansim: Command) -> None:
    refused(plansim("serach", scenario()), "unknown verb 'serach'", "did you mean 'search'?", "compare", "doctor")
    refused(plansim("zzz"), "unknown verb 'zzz'", "allowed: run, search")
    refused(plansim("run", scenario(), "--sed", 1), "--sed")
    refused(plansim("run", scenario(), "--seed", -1), "--seed")
    refused(plansim("run"), "SCENARIO")


# ---- traces ----

TRACES: dict[str, tuple[bytes, list[str]]] = {
    "empty.csv": (b"", ["the trace is empty"]),
    "blank.csv": (b" \n\n", ["the trace is empty"]),
    "header.csv": (AZURE.splitlines()[0].encode(), ["no requests"]),
    "unsorted.csv": ("\n".join([AZURE.splitlines()[0], *AZURE.splitlines()[:0:-1]]).encode(), [":3", "order", "sort"]),
    "text.csv": (AZURE.replace(",109", ",many").encode(), [":3", "GeneratedTokens", "'many'", "a number"]),
    "negative.csv": (AZURE.replace(",396", ",-396").encode(), [":3", "negative input tokens", "-396"]),
    "time.csv": (AZURE.replace("2023-11-16 18:15:50.9951690", "noon").encode(), [":3", "TIMESTAMP", "'noon'"]),
    "other.csv": (b"a,b\n1,2\n", [":1", "unknown trace format", "'a,b'", "azure", "plansim list traces"]),
    "cut.csv.gz": (gzip.compress(AZURE.encode() * 50)[:-30], ["cannot read the trace"]),
    "garbled.csv.gz": (gzip.compress(AZURE.encode())[:20] + b"\x00\xff" * 50, ["cannot read the trace"]),
    "binary.csv": (bytes(range(256)) * 4, ["UTF-8"]),
    "zero.csv": (
        AZURE.splitlines()[0].encode() + b"\n2023-11-16 18:15:46.0,0,0\n",
        ["no request is left", "1 dropped"],
    ),
}


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_that_cannot_be_used_says_where(name: str, scenario: Write, plansim: Command, tmp_path: Path) -> None:
    content, words = TRACES[name]
    (tmp_path / name).write_bytes(content)
    path = scenario((TRAFFIC, f"trace: {{path: {name}}}"))
    for verb in ("run", "search"):
        refused(plansim(verb, path), f"error: {tmp_path / name}", *words)
    refused(plansim("import", tmp_path / name), f"error: {tmp_path / name}", *words)


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        ("path: none.csv", ["none.csv: no such trace file", "small.yaml:5 workload.trace"]),
        ("path: .", ["cannot read the trace", "directory", "small.yaml:5 workload.trace"]),
        ("path: ok.csv, format: azzure", ["small.yaml:5 workload.trace", "did you mean 'azure'", "vidur"]),
        ("path: ok.csv, window: [2 s, 1 s]", ["small.yaml:5 workload.trace", "window", "end after it starts"]),
        ("path: ok.csv, window: [1000 s, 2000 s]", ["ok.csv", "no request is left", "outside the window", "spans"]),
        ("path: ok.csv, rate_scale: 0", ["small.yaml:5 workload.trace.rate_scale", "got 0"]),
        ("path: plain.csv, format: azure", ["plain.csv", "TIMESTAMP"]),
    ],
)
def test_a_trace_that_is_asked_for_wrongly(
    trace: str, words: list[str], scenario: Write, plansim: Command, tmp_path: Path
) -> None:
    (tmp_path / "ok.csv").write_text(AZURE)
    (tmp_path / "plain.csv").write_text(VIDUR)
    refused(plansim("run", scenario((TRAFFIC, f"trace: {{{trace}}}"))), *words)


# ---- plans that cannot run ----


@pytest.mark.parametrize(
    ("plan", "code", "words"),
    [
        ("tp: 3", "heads", ["32 query heads", "tp 3"]),
        ("tp: 8, replicas: 2", "ranks", ["2 x 8 GPUs", "the cluster has 8"]),
        ("dp: 2", "data_parallel", ["no experts", "use replicas"]),
        ("pp: 33", "layers", ["33 pipeline stages", "32 layers"]),
        ("ep: 2", "experts", ["no experts", "ep 2"]),
        ("max_model_len: 200000", "context", ["200000", "131072"]),
        ("max_num_seqs: 512, max_num_batched_tokens: 256", "budget", ["256", "512"]),
    ],
)
def test_an_impossible_plan_is_refused_with_numbers(
    plan: str, code: str, words: list[str], scenario: Write, plansim: Command
) -> None:
    path = scenario(("tp: 2}", f"{plan}}}"))
    refused(plansim("run", path), f"[{code}]", *words, code=3)
    document = plansim("run", path, "--json").document
    reason = next(reason for reason in document["infeasible"] if reason["code"] == code)
    assert reason["numbers"]
    assert document["error"]["kind"] == "infeasible"


def check_nothing_found(done: Done, *, code: str) -> dict[str, Any]:
    assert done.code == 3
    assert done.err.count("error: ") == 1
    document = done.document
    space = document["space"]
    assert (document["front"], document["recommended"], space["screened"], space["simulated"]) == ([], None, 0, 0)
    assert space["infeasible"][code] > 0
    assert sum(space["infeasible"].values()) == space["generated"]
    return document


def test_a_model_that_fits_on_no_plan(scenario: Write, plansim: Command) -> None:
    path = scenario(("llama-3.1-8b", "llama-3.1-405b"), ("dgx-h100", "8x-l4-pcie"), ("tp: 2", "tp: 8"))
    refused(plansim("run", path), "[memory]", "weights", "GiB", code=3)
    check_nothing_found(plansim("search", path, "--json", "--set", "search.space={}"), code="memory")
    tables = plansim("search", path, "--no-report")
    assert tables.code == 3
    assert "memory" in tables.out
    assert "no feasible plan" in tables.err


def test_a_space_without_a_valid_plan(scenario: Write, plansim: Command) -> None:
    check_nothing_found(plansim("search", scenario(), "--json", "--set", "search.space={tp: [3]}"), code="heads")


def write_trace(folder: Path, *, prompt: int) -> None:
    """A trace of three requests, the last with a prompt of so many tokens."""
    sizes = (20, 10, prompt)
    rows = [{"arrival_s": float(i), "input_tokens": size, "output_tokens": 2} for i, size in enumerate(sizes)]
    header = {"plansim": "requests", "version": 1, "name": "long"}
    (folder / "long.jsonl").write_text("\n".join(map(json.dumps, [header, *rows])), encoding="utf-8")


def test_a_prompt_longer_than_the_context_is_refused_unless_a_limit_is_given(
    scenario: Write, plansim: Command, tmp_path: Path
) -> None:
    write_trace(tmp_path, prompt=500_000)
    path = scenario((TRAFFIC, "trace: {path: long.jsonl}"))
    refused(plansim("run", path), "[context]", "500002 tokens", "131072", code=3)
    check_nothing_found(plansim("search", path, "--json"), code="context")
    document = plansim("run", path, "--set", "plan.max_model_len=8192", "--json").document
    counts = document["metrics"]["requests"]
    assert (counts["in"], counts["finished"], counts["rejected"]) == (3, 2, 1)


def test_a_prompt_longer_than_the_kv_cache_is_refused(scenario: Write, plansim: Command, tmp_path: Path) -> None:
    write_trace(tmp_path, prompt=120_000)
    path = scenario((TRAFFIC, "trace: {path: long.jsonl}"), ("dgx-h100", "8x-l4-pcie"), ("tp: 2", "tp: 1"))
    refused(plansim("run", path), "[context]", "120002 tokens", "KV tokens", code=3)


# ---- folders ----


def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(
    scenario: Write, plansim: Command, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("mine")
    for folder in (in_the_way, in_the_way / "below", Path("/proc/nothing-here")):
        for verb in ("run", "search", "compare"):
            refused(plansim(verb, scenario(), "--out", folder), f"--out: cannot write results to {str(folder)!r}")
    assert in_the_way.read_text() == "mine"


def test_earlier_results_stay_when_a_later_command_fails(scenario: Write, plansim: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    good = scenario()
    assert plansim("run", good, "--out", out, "--no-report", "--json", "--quiet").code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "result.json" in before
    for override, code in (("plan.tp=3", 3), ("plan.router=foo", 2), ("model=no-such", 2)):
        assert plansim("run", good, "--out", out, "--set", override).code == code
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
