"""A user's own kernel measurements: what is read, what is left out, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.core import InputError
from sim.costs import CostModel, CostsSpec, measured_kernels
from sim.costs.tables import KernelRows
from sim.costs.tables.profile import ProfileTables
from sim.hardware import load_device
from sim.models import DecodeAttention, Gemm
from sim.testing.costs import check_table_source

HEADER = "kind,dtype,m,n,k,batch,query_tokens,kv_tokens,heads,kv_heads,head_dim,bytes,ranks,time_s"
ROWS = (
    "gemm,fp16,1,4096,4096,,,,,,,,,3e-5",
    "gemm,bf16,512,4096,4096,,,,,,,,,9e-5",
    "gemm,fp8,512,4096,4096,,,,,,,,,6e-5",
    "gemm,fp32,512,4096,4096,,,,,,,,,5e-4",
    "attention_decode,bf16,,,,8,,1024,8,2,128,,,4e-5",
    "attention_decode,bf16,,,,64,,1024,8,2,128,,,9e-4",
    "attention_prefill,bf16,,,,1,512,512,8,2,128,,,2e-4",
    "attention_prefill,bf16,,,,1,512,4096,8,2,128,,,7e-4",
    "attention_prefill,bf16,,,,4,512,512,8,2,128,,,8e-4",
    "copy,bf16,,,,,,,,,,1e9,,7e-4",
    "all_reduce,bf16,,,,,,,,,,1048576,8,4e-5",
)
DEVICE = load_device("h100-sxm")


def written(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "mine.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


def tables(path: Path) -> ProfileTables:
    return ProfileTables(device=DEVICE, engine="vllm", path=str(path))


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    assert check_table_source(tables(written(tmp_path, *ROWS))) >= 4


def test_each_kind_is_read_as_its_kernel(tmp_path: Path) -> None:
    source = tables(written(tmp_path, *ROWS))
    found = {kernel: source.rows(kernel, "bf16") for kernel in ("gemm", "decode_attention", "all_reduce")}
    assert all(isinstance(rows, KernelRows) for rows in found.values())
    assert found["gemm"].time_s.tolist() == [3e-5, 9e-5]  # type: ignore[union-attr]
    assert found["decode_attention"].columns["sequences"].tolist() == [8.0, 64.0]  # type: ignore[union-attr]
    assert found["all_reduce"].columns["buffer_bytes"].tolist() == [1048576.0]  # type: ignore[union-attr]
    assert source.rows("gemm", "nvfp4") == "mine.csv has no gemm rows in nvfp4"
    assert source.rows("moe", "bf16") == "mine.csv cannot hold moe"


def test_prompts_with_a_prefix_or_in_batches_are_left_to_the_form(tmp_path: Path) -> None:
    rows = tables(written(tmp_path, *ROWS)).rows("prefill_attention", "bf16")
    assert isinstance(rows, KernelRows)
    assert rows.time_s.tolist() == [2e-4]


def test_costs_follow_the_file_and_say_so(tmp_path: Path) -> None:
    path = written(tmp_path, *ROWS)
    measured = measured_kernels(path.name, DEVICE, engine="vllm", base=tmp_path)
    costs = CostModel(DEVICE, measured=measured)
    gemm = Gemm(name="x", cause="x", m=np.array([1.0, 512.0]), n=4096.0, k=4096.0, weights_dtype="bf16")
    assert costs.cost(gemm).time_s == pytest.approx([3e-5, 9e-5])
    assert costs.uses["gemm bf16"].table.startswith("mine.csv (sha256 ")
    path.write_text(path.read_text().replace("9e-5", "8e-5"), encoding="utf-8")
    again = CostModel(DEVICE, measured=measured_kernels(path.name, DEVICE, engine="vllm", base=tmp_path))
    assert again.cost(gemm).time_s == pytest.approx([3e-5, 8e-5]), "a file that changed is read again"


def test_sources_are_chosen_by_kernel(tmp_path: Path) -> None:
    path = written(tmp_path, *ROWS)
    spec = CostsSpec(default=str(path), attention="analytic")
    costs = CostModel(DEVICE, measured=measured_kernels(spec, DEVICE, engine="vllm"))
    costs.cost(Gemm(name="x", cause="x", m=1.0, n=4096.0, k=4096.0, weights_dtype="bf16"))
    heads = {"q_heads": 8.0, "kv_heads": 2.0, "head_dim": 128.0, "v_dim": 128.0, "kv_dtype": "bf16"}
    costs.cost(DecodeAttention(name="x", cause="x", sequences=8.0, context=8192.0, **heads))  # type: ignore[arg-type]
    assert {label: use.source for label, use in costs.uses.items()} == {
        "gemm bf16": "measured",
        "decode_attention bf16": "analytic",
    }


def test_the_narrower_name_decides() -> None:
    chosen = CostsSpec(default="a", attention="b", decode_attention="c").by_kernel()
    assert (chosen["gemm"], chosen["prefill_attention"], chosen["mla_prefill"]) == ("a", "b", "b")
    assert (chosen["decode_attention"], chosen["mla_decode"]) == ("c", "c")


def test_analytic_costs_need_no_tables() -> None:
    assert measured_kernels("analytic", DEVICE, engine="vllm") is None
    assert measured_kernels(CostsSpec(), DEVICE, engine="vllm") is None


@pytest.mark.parametrize(
    ("rows", "header", "line", "message"),
    [
        (["gemm,bf16,1,4096,,,,,,,,,,3e-5"], HEADER, 2, "needs a positive number"),
        (["gemm,bf16,1,4096,4096,,,,,,,,,-1"], HEADER, 2, "needs a positive number"),
        (["gemm,float7,1,4096,4096,,,,,,,,,3e-5"], HEADER, 2, "unknown number format"),
        (["conv,bf16,1,4096,4096,,,,,,,,,3e-5"], HEADER, 2, "unknown kind of kernel"),
        (["gemm,1"], "kind,m", 1, "needs the columns dtype, time_s"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(
    tmp_path: Path, rows: list[str], header: str, line: int, message: str
) -> None:
    path = written(tmp_path, *rows, header=header)
    with pytest.raises(InputError, match=message) as caught:
        tables(path).rows("gemm", "bf16")
    assert (caught.value.file, caught.value.line) == (str(path), line)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the kernel measurements"):
        measured_kernels("none.csv", DEVICE, engine="vllm", base=tmp_path)


def test_an_unknown_source_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="did you mean 'measured'") as caught:
        measured_kernels("mesured", DEVICE, engine="vllm")
    assert "profile" not in str(caught.value.allowed)
