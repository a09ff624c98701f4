"""Where the shipped traffic was fitted, and how to fit it again from the public traces.

`python -m sim.testing.shipped_traffic FOLDER` reads the traces in FOLDER and writes `workloads/traffic`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sim.core import data_root
from sim.workloads import TraceSpec, TrafficSpec, fit_traffic, read_trace, save_traffic

AZURE = "Patel et al., Splitwise: Efficient Generative LLM Inference Using Phase Splitting, ISCA 2024"
MOONCAKE = "Qin et al., Mooncake: Trading More Storage for Less Computation, FAST 2025"
VIDUR = "Agrawal et al., Vidur: A Large-Scale Simulation Framework for LLM Inference, MLSys 2024"
APEX = (
    "Lin et al., APEX: An Extensible and Dynamism-Aware Simulator for LLM Serving, 2024; repository microsoft/apex_plus"
)
SHAREGPT = (
    "Cho et al., LLMServingSim: A HW/SW Co-Simulation Infrastructure for LLM Inference Serving at Scale, IISWC 2024"
)
PREFIXES = "prompts of the trace share prefixes ({share} of blocks); generated requests share none"


@dataclass(frozen=True)
class Source:
    """A public trace behind a shipped traffic.

    Attributes:
        file: Name of the trace file.
        description: What the traffic stands for.
        ref: Key of the citation.
        cite: The citation.
        origin: Repository and path of the recorded file.
        licence: Licence of the data.
        notes: What a reader must know.
        dequantize: How equal time stamps were treated.
    """

    file: str
    description: str
    ref: str
    cite: str
    origin: str
    licence: str
    notes: tuple[str, ...] = ()
    dequantize: Literal["none", "uniform"] = "none"


def _azure(kind: str, what: str, *notes: str) -> Source:
    return Source(
        file=f"azure_llm_2023_{kind}.csv.gz",
        description=f"{what} at Microsoft Azure on 16 November 2023, one hour",
        ref="azure-2023",
        cite=AZURE,
        origin=f"Azure/AzurePublicDataset data/AzureLLMInferenceTrace_{kind}.csv",
        licence="CC-BY-4.0",
        notes=notes,
    )


def _mooncake(kind: str, what: str, share: str, dequantize: Literal["none", "uniform"]) -> Source:
    coarse = ("time stamps are multiples of about 3 s: requests were spread at random within them before the fit",)
    return Source(
        file=f"mooncake_{kind}.jsonl.gz",
        description=what,
        ref="mooncake",
        cite=MOONCAKE,
        origin=f"kvcache-ai/Mooncake FAST25-release/traces/{kind}_trace.jsonl",
        licence="Apache-2.0",
        notes=(PREFIXES.format(share=share), *(coarse if dequantize == "uniform" else ())),
        dequantize=dequantize,
    )


def _apex(kind: str, what: str) -> Source:
    return Source(
        file=f"apex_{kind}_05_llama.jsonl.gz",
        description=f"{what}, at 0.5 requests per second",
        ref="apex",
        cite=APEX,
        origin=f"microsoft/apex_plus traces/llama, {kind} at rate 0.5",
        licence="MIT (repository); lengths and times only",
    )


SOURCES = {
    "azure-conv-2023": _azure("conv", "conversations"),
    "azure-code-2023": _azure("code", "code completion", "stops and starts: most spans of 10 s have no arrivals"),
    "mooncake-conversation": _mooncake("conversation", "long conversations of the Kimi service", "36.6%", "uniform"),
    "mooncake-synthetic": _mooncake("synthetic", "a mix of public long-context data sets", "64.0%", "none"),
    "vidur-arxiv": Source(
        file="vidur_arxiv_lengths.csv.gz",
        description="summaries of arXiv papers: long prompts, short answers",
        ref="vidur",
        cite=VIDUR,
        origin="microsoft/vidur data/processed_traces, arxiv_summarization (v2)",
        licence="MIT",
        notes=("prompt and output of the trace sum to at most 4096 tokens; generated ones may sum to more",),
    ),
    "apex-creation": _apex("creation", "creative writing: short prompts, long answers"),
    "apex-lmsys": _apex("lmsys", "chat (LMSYS): short prompts and answers"),
    "apex-summarization": _apex("summarization", "summaries: long prompts, short answers"),
    "sharegpt-llmservingsim": Source(
        file="llmservingsim_sharegpt_llama31_8b_sps10_blk16.jsonl.gz",
        description="ShareGPT conversations in Llama 3.1 tokens at 10 sessions per second",
        ref="llmservingsim",
        cite=SHAREGPT,
        origin="casys-kaist/LLMServingSim workloads/sharegpt-llama-3.1-8b-300-sps10.jsonl",
        licence="MIT",
        notes=("only 300 requests: tails are uncertain", PREFIXES.format(share="7.7%")),
    ),
}


def refit(name: str, folder: Path) -> TrafficSpec:
    """The shipped traffic `name`, fitted again from its trace in `folder`."""
    source = SOURCES[name]
    table = read_trace(TraceSpec(path=source.file, dequantize=source.dequantize), base=folder)
    return fit_traffic(
        table,
        name,
        description=source.description,
        ref=source.ref,
        licence=source.licence,
        notes=(f"statistics of {len(table)} requests; the trace itself is not part of plansim", *source.notes),
        refs={source.ref: f"{source.cite}; data: {source.origin}"},
    )


if __name__ == "__main__":
    for shipped in SOURCES:
        save_traffic(refit(shipped, Path(sys.argv[1])), data_root() / "workloads" / "traffic" / f"{shipped}.yaml")
