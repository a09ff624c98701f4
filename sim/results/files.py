"""Writing results: JSON without NaN, Parquet with units in its schema, and a manifest; the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from sim.core import InputError, to_yaml
from sim.results.metrics import METRICS

SCHEMA_VERSION: Final = 1
"""Version of the JSON documents and tables; it changes when a reader of the old ones would be misled."""

_SUFFIXES: Final = (
    ("_usd_per_million_output_tokens", "USD/1M tok"),
    ("_bytes_per_s", "bytes/s"),
    ("_per_s_per_gpu", "1/s/GPU"),
    ("_per_s", "1/s"),
    ("_usd_per_h", "USD/h"),
    ("_tokens", "tokens"),
    ("_bytes", "bytes"),
    ("_frac", "1"),
    ("_s", "s"),
    ("_j", "J"),
    ("_w", "W"),
)


def json_ready(value: Any) -> Any:
    """`value` as plain data that JSON can hold: numpy numbers become Python's, NaN and infinities None.

    Raises:
        TypeError: if it holds something that is no data.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [json_ready(item) for item in value]
    if isinstance(value, (np.bool_, np.integer, int)):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if value is pd.NA:
        return None
    if isinstance(value, Path):
        return value.as_posix()
    kind = "dataclass " if is_dataclass(value) else ""
    raise TypeError(f"cannot put the {kind}{type(value).__name__} {value!r} into JSON")


def json_text(document: Mapping[str, Any]) -> str:
    """`document` as indented JSON text with a final newline; numbers in full precision, keys in their order."""
    return json.dumps(json_ready(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def column_unit(name: str) -> str:
    """Unit of a table column by its name: a metric's own, else by suffix; empty for counts and labels."""
    metric = METRICS.get(name.partition(".")[0])
    if metric is not None:
        return metric.unit
    return next((unit for suffix, unit in _SUFFIXES if name.endswith(suffix)), "")


def column_units(table: pd.DataFrame) -> dict[str, str]:
    """Unit of every column; a table's own `attrs["units"]` comes before what the names say."""
    own: Mapping[str, str] = table.attrs.get("units", {})
    return {str(name): own.get(str(name), column_unit(str(name))) for name in table.columns}


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes `table` as Parquet (zstd); each field's metadata and the schema's name the unit, `unit` and `units`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    units = column_units(table)
    plain = pa.Table.from_pandas(table, preserve_index=False)
    fields = [field.with_metadata({"unit": units[field.name]}) for field in plain.schema]
    about = {"plansim.schema_version": str(SCHEMA_VERSION), "units": json.dumps(units)}
    schema = pa.schema(fields, metadata=about)
    pq.write_table(plain.cast(schema), path, compression="zstd", version="2.6")


def read_units(path: Path) -> dict[str, str]:
    """Units by column of a table written by `write_table`."""
    import pyarrow.parquet as pq

    metadata = pq.read_schema(path).metadata or {}
    units: dict[str, str] = json.loads(metadata.get(b"units", b"{}"))
    return units


def save_folder(
    folder: Path | str,
    *,
    command: str,
    document: Mapping[str, Any],
    scenario: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
) -> Path:
    """Writes a result: `result.json`, `scenario.yaml`, one Parquet file per table, and `manifest.json` over them.

    Args:
        folder: Made if absent; files of the same names are replaced.
        command: Verb that made the result.
        document: The result as JSON.
        scenario: The resolved scenario.
        tables: Tables by file name without its ending; a name may have a folder.

    Returns:
        The folder.

    Raises:
        InputError: if it cannot be written.
    """
    root = Path(folder)
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / "result.json").write_text(json_text(document), encoding="utf-8")
        (root / "scenario.yaml").write_text(to_yaml(json_ready(scenario)), encoding="utf-8")
        for name, table in tables.items():
            path = root / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_table(table, path)
        names = ["result.json", "scenario.yaml", *(f"{name}.parquet" for name in tables)]
        entries = {name: _entry(root / name, tables.get(name.removesuffix(".parquet"))) for name in names}
        manifest = {"schema_version": SCHEMA_VERSION, "command": command, "files": entries}
        (root / "manifest.json").write_text(json_text(manifest), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write results to {str(root)!r}: {error.strerror or error}", hint="name a folder you may write to"
        ) from None
    return root


def _entry(path: Path, table: pd.DataFrame | None) -> dict[str, Any]:
    data = path.read_bytes()
    entry: dict[str, Any] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    if table is not None:
        entry |= {"rows": len(table), "units": column_units(table)}
    return entry


def text_column(values: Sequence[str]) -> pd.Series:
    """A text column that keeps its type when it is empty."""
    return pd.Series(list(values), dtype="str")
