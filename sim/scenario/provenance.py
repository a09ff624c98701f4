"""Where a result comes from: versions, seed, input hashes, sources of costs, and what is assumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from sim.costs import Use, precision_of
from sim.plans import ResolvedPlan
from sim.scenario.assemble import Assembled
from sim.scenario.bands import setting_of, strangeness

_PACKAGES = ("plansim", "numpy", "scipy", "pandas", "simpy", "networkx", "pydantic")


def provenance(
    things: Assembled, plan: ResolvedPlan | None, *, seed: int, uses: Mapping[str, Use] | None = None
) -> dict[str, Any]:
    """Versions, seed, hashes of inputs, sources and assumptions of a result; no clock time, no machine.

    Args:
        things: The assembled scenario.
        plan: The plan simulated; None for a whole search.
        seed: Seed used.
        uses: Source of the times of each kernel of the plan.
    """
    requests, uses = things.requests, uses or {}
    digest = hashlib.sha256()
    blocks = () if requests.blocks is None else (requests.blocks.ids, requests.blocks.offsets)
    for column in (requests.arrival_s, requests.input_tokens, requests.output_tokens, *blocks):
        digest.update(np.ascontiguousarray(column).tobytes())
    scenario = things.scenario.resolved()
    return {
        "versions": {name: version(name) for name in _PACKAGES},
        "seed": seed,
        "inputs": {
            "scenario_sha256": hashlib.sha256(json.dumps(scenario, sort_keys=True).encode()).hexdigest(),
            "requests_sha256": digest.hexdigest(),
            "requests": len(requests),
            "traffic": requests.name,
        },
        "trace_report": requests.report.to_dict() if requests.report is not None else None,
        "device": {"name": things.cluster.device.name, "sources": list(things.cluster.device.sources)},
        "price": {"usd_per_gpu_hour": things.cluster.usd_per_device_hour, "source": things.cluster.price_source},
        "engine": {"name": things.engine.name, "version": things.engine.version},
        "costs": {label: str(use) for label, use in sorted(uses.items())},
        "cost_sources": {label: use.to_json() for label, use in sorted(uses.items())},
        "assumptions": [*_assumptions(things, plan), *_beyond(uses)],
        "intervals": _intervals(things, measured=any(use.source == "measured" for use in uses.values())),
    }


def _beyond(uses: Mapping[str, Use]) -> list[str]:
    """Where measured costs were asked for and the tables do not reach."""
    notes = [
        f"{label}: {use.outside} of {use.look_ups} points of its cost table lie outside what was measured; they follow "
        "the analytic form, scaled as at the nearest edge"
        for label, use in sorted(uses.items())
        if use.outside
    ]
    notes += [f"{label}: {use.doubt}" for label, use in sorted(uses.items()) if use.doubt]
    missing = [
        f"{label}: analytic, since {use.note}" for label, use in sorted(uses.items()) if use.source == "analytic"
    ]
    return [*notes, *(note for note in missing if not note.endswith("since "))]


def _intervals(things: Assembled, *, measured: bool) -> str:
    """What the intervals rest on."""
    engine = things.engine
    if not engine.errors:
        return f"unknown: predictions for {engine.name} were not compared with enough measured runs"
    band = engine.errors[0]
    strange = strangeness(engine, setting_of(things))
    wider = f"; wider here, since not among what was measured: {', '.join(strange)}" if strange else ""
    wider += "; those runs were predicted with analytic costs" if measured else ""
    source = engine.refs.get(band.ref, band.ref)
    return (
        f"90 % of measured runs fell inside: {source}{wider}; "
        "simulation noise and metrics that were not measured are not covered"
    )


def _prefix_caching(things: Assembled, plan: ResolvedPlan | None) -> str:
    if plan is not None and not plan.prefix_caching:
        why = "" if plan.kv_layout.sharable else " (not modelled where layers keep recurrent states)"
        return f"prefix caching is off{why}: every prompt is computed in full"
    if things.requests.blocks is None:
        return "no two prompts begin alike, for the traffic does not say which do: every prompt is computed in full"
    return (
        "prefix caching finds full blocks of prompts, not of earlier answers; its grain is that of the traffic's block "
        "ids, and the data-parallel ranks of a replica share one cache"
    )


def unpacked_weights(things: Assembled, plan: ResolvedPlan | None) -> tuple[str, ...]:
    """That the device does not multiply weights in the format they are stored in; empty if it does."""
    if plan is None:
        return ()
    device = things.cluster.device
    stored = dict.fromkeys(pool.weights_dtype for pool in plan.pools)
    return tuple(
        f"{device.name} does not multiply {dtype} weights as they are stored: they are unpacked and multiplied in "
        f"{precision_of(device, dtype).arithmetic}"
        for dtype in stored
        if precision_of(device, dtype).weight_only
    )


def _assumptions(things: Assembled, plan: ResolvedPlan | None) -> list[str]:
    notes = [
        _prefix_caching(things, plan),
        "kernel costs are fitted to, or taken from, public kernel tables or a profile, not from this deployment",
        "attention decodes from cold memory; prompts and decodes of an iteration share one launch per layer",
        *unpacked_weights(things, plan),
    ]
    if plan is not None:
        notes += dict.fromkeys(text for pool in plan.pools for text in pool.stand_ins)
    if plan is not None and not plan.kv_layout.plain:
        notes.append(
            "layers share one pool of KV blocks: windows hold their latest tokens, or all where prefixes are shared, "
            "states a fixed number"
        )
    if plan is not None and plan.prefill is not None:
        notes.append(
            "a prompt's KV travels when its decode engine has room, one cache after the other per sender and receiver, "
            "not beside the prompt's computation; the first token is out when it has arrived"
        )
    if plan is not None and plan.dp > 1:
        notes.append(
            "attention-data-parallel ranks advance in lock step with evenly spread sequences and pooled KV blocks"
        )
    if plan is not None and plan.pp > 1:
        notes.append("pipeline lanes carry even shares of the sequences; a full pipeline is paced by its slowest stage")
    if things.model.is_moe:
        asked = things.scenario.spec.workload.expert_popularity
        shape = (
            "see `popularity`" if asked is None else f"of shape {asked:g} from the workload, where the model has one"
        )
        notes.append(
            f"tokens choose experts independently, some more often than others (a gamma law, {shape}), and so "
            "ranks that share the experts, unless `expert_balancer` keeps them alike"
        )
    return notes
