"""`plansim schema`: the JSON Schema of the files a user writes, for editors and checks."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

from sim.cli.options import JsonOption, OutOption, QuietOption
from sim.cli.output import print_json, remark, writable_folder
from sim.core import InputError, did_you_mean

SPECS = {
    "scenario": ("sim.scenario", "ScenarioSpec"),
    "device": ("sim.hardware", "DeviceSpec"),
    "link": ("sim.hardware", "LinkSpec"),
    "node": ("sim.hardware", "NodeSpec"),
    "cluster": ("sim.hardware", "ClusterSpec"),
    "price": ("sim.hardware", "PriceSpec"),
    "engine": ("sim.plans", "EngineSpec"),
    "training_engine": ("sim.plans", "TrainingEngineSpec"),
    "sustained": ("sim.training", "SustainedSpec"),
    "model": ("sim.models", "ModelSpec"),
    "traffic": ("sim.workloads", "TrafficSpec"),
}


def schema(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of: {', '.join(SPECS)}.")] = "scenario",
    out: OutOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Print the JSON Schema of a KIND of file; with --out, write it to a file instead.

    Editors complete a scenario that starts with the line
    # yaml-language-server: $schema=../schemas/scenario.schema.json
    """
    document = json_schema(kind)
    if out is None:
        print_json(document)
        return 0
    path = writable_folder(out) / f"{kind}.schema.json"
    path.write_text(schema_text(kind), encoding="utf-8")
    remark(f"written to {path}", quiet=quiet)
    if as_json:
        print_json(document)
    return 0


def json_schema(kind: str) -> dict[str, Any]:
    """JSON Schema of the files of `kind`, a key of `SPECS`.

    Raises:
        InputError: if there is no such kind.
    """
    if kind not in SPECS:
        raise InputError(f"unknown kind of file {kind!r}{did_you_mean(kind, SPECS)}", allowed=[*SPECS])
    if kind == "scenario":
        from sim.scenario import scenario_schema

        return scenario_schema()
    module, name = SPECS[kind]
    return _extendable(getattr(import_module(module), name).model_json_schema())


def _extendable(document: dict[str, Any]) -> dict[str, Any]:
    """The schema of a data file that may instead extend another of its kind and then say only what differs."""
    extends = {"type": "string", "description": "name of a file of the same kind whose keys hold where absent here"}
    required = document.pop("required", [])
    document["properties"] = {**document["properties"], "extends": extends}
    return {**document, "if": {"not": {"required": ["extends"]}}, "then": {"required": required}}


def schema_text(kind: str) -> str:
    """Text of the schema file of `kind`, as stored in `schemas/`."""
    import json

    return json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"
