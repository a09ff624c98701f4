"""Fits the shipped ServeGen traffic: one hour of all its clients together, drawn from their published laws.

`python -m sim.testing.shipped_servegen FOLDER` reads the client statistics in FOLDER and writes `workloads/traffic`.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sim.core import Array, data_root, stream
from sim.workloads import RequestTable, TrafficSpec, fit_traffic, save_traffic
from sim.workloads.report import gap_cv

NAME = "servegen-deepseek-r1"
FILE = "servegen_reason_deepseek_r1.json.gz"
CITE = (
    "Xiang et al., ServeGen: Workload Characterization and Generation of Large Language Model Serving in Production, "
    "arXiv:2505.09999, 2025; data: alibaba/ServeGen, reason/deepseek-r1"
)
HOUR_S = 3600.0


def refit_servegen(folder: Path) -> TrafficSpec:
    """The shipped traffic `NAME`, drawn and fitted again from the statistics in `folder`."""
    data = json.loads(gzip.decompress((folder / FILE).read_bytes()))
    hour, table = _typical_hour(data)
    share = data["share_of_total_rate"]
    return fit_traffic(
        table,
        NAME,
        description="a reasoning model (DeepSeek-R1) at Alibaba Cloud: short prompts, long answers, a typical hour",
        ref="servegen",
        licence="Apache-2.0",
        notes=(
            f"hour {hour} of the day, nearest to the day in rate, lengths and burstiness; others differ much",
            f"{len(table)} requests drawn from the laws of the {data['clients_kept']} heaviest clients",
            f"these sent {share:.0%} of all requests; the others are left out",
            "lengths of one client are independent; the rank correlation is that between clients",
        ),
        refs={"servegen": CITE},
    )


def _typical_hour(data: dict[str, Any]) -> tuple[int, RequestTable]:
    """The hour whose rate, mean lengths and burstiness are together nearest to the day's, and its requests."""
    hours = [_one_hour(data, hour) for hour in range(24)]
    counts = np.array([len(table) for table in hours], dtype=np.float64)
    means = np.array([[t.input_tokens.mean(), t.output_tokens.mean()] for t in hours])
    bursts = np.array([gap_cv(table.arrival_s) or 0.0 for table in hours])
    day = np.array([*np.average(means, axis=0, weights=counts), counts.mean(), np.median(bursts)])
    distance = np.abs(np.log(np.column_stack((means, counts, bursts)) / day)).sum(axis=1)
    hour = int(np.argmin(distance))
    return hour, hours[hour]


def _one_hour(data: dict[str, Any], hour: int) -> RequestTable:
    levels = np.array(data["quantile_levels"])
    parts: list[tuple[Array, Array, Array]] = []
    for client in data["clients"]:
        rng = stream(0, "servegen", client["client"])
        times = _arrivals(client["windows"], hour, rng)
        block = max((int(start) for start in client["lengths"] if int(start) <= hour * HOUR_S), default=None)
        laws = client["lengths"][str(block) if block is not None else min(client["lengths"], key=int)]
        draws = [np.interp(rng.random(times.size), levels, laws[f"{side}_tokens"]["q"]) for side in ("input", "output")]
        parts.append((times, draws[0], draws[1]))
    arrival, prompts, outputs = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(arrival, kind="stable")
    whole = [np.maximum(np.rint(tokens[order]), 1).astype(np.int64) for tokens in (prompts, outputs)]
    return RequestTable(arrival[order] - arrival.min(), whole[0], whole[1], name=NAME)


def _arrivals(windows: list[list[Any]], hour: int, rng: np.random.Generator) -> Array:
    """Arrival times [s] within the hour: in each window, gaps of the law and CV recorded for it."""
    found = [np.empty(0)]
    for start, rate, _cv, pattern, shape, _scale in windows:
        if not hour * HOUR_S <= start < (hour + 1) * HOUR_S or not rate or not pattern:
            continue
        count = int(rate * 600 * 3) + 50
        gaps = rng.standard_gamma(shape, count) if pattern == "Gamma" else rng.weibull(shape, count)
        mean = shape if pattern == "Gamma" else float(np.mean(rng.weibull(shape, 20_000)))
        times = np.cumsum(gaps / mean) / rate - rng.random() / rate
        found.append(start - hour * HOUR_S + times[(times >= 0) & (times < 600)])
    return np.concatenate(found)


if __name__ == "__main__":
    save_traffic(refit_servegen(Path(sys.argv[1])), data_root() / "workloads" / "traffic" / f"{NAME}.yaml")
