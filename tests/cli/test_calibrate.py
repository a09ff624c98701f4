"""`plansim calibrate` from the outside: bad input, one document, a profile file."""

from pathlib import Path

from sim.plans import load_engine
from tests.conftest import Command

HEADER = "id,model,node,tp,concurrency,input_tokens,output_tokens,requests,ttft_s,tpot_s\n"
ROWS = "".join(f"r{i},qwen2.5-0.5b,dgx-h100,1,{1 + i % 3},{100 + 50 * i},12,8,0.080,0.0075\n" for i in range(6))


def test_a_table_becomes_a_profile(plansim: Command, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text(HEADER + ROWS)
    arguments = ("calibrate", "vllm", "--rows", table, "--parameter", "frontend_s", "--parameter", "host_step_s")
    done = plansim(*arguments, "--json", "--out", tmp_path / "out", "--name", "mine")
    assert done.code == 0
    assert {each["name"] for each in done.document["parameters"]} == {"frontend_s", "host_step_s"}
    engine = load_engine(str(tmp_path / "out" / "mine.yaml"))
    assert engine.frontend_s.value > load_engine("vllm").frontend_s.value
    assert (
        plansim("run", "qwen3-moe-closed-loop", "--set", f"engine={tmp_path / 'out' / 'mine.yaml'}", "--json").code == 0
    )


def test_bad_input(plansim: Command, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text(HEADER + ROWS.splitlines(keepends=True)[0])
    assert "one of them" in plansim("calibrate", "vllm").err
    assert "a fit needs 5" in plansim("calibrate", "vllm", "--rows", table).err
    assert "did you mean 'vllm'" in plansim("calibrate", "vlm", "--rows", table).err
    assert plansim("calibrate", "vllm", "--rows", tmp_path / "none.csv").code == 2
