"""The limits that keep the code readable, and words that must not reach the repository."""

import ast
import json
import re
import statistics
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("sim", "tests", "benchmarks", "docs", "notebooks", "scenarios", "hardware_profiles", "workloads", "schemas")
TOP = ("*.md", "*.toml", "Makefile", ".ci/run", ".gitignore")
CODE = sorted((ROOT / "sim").rglob("*.py"))
PYTHON = sorted(path for folder in ("sim", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
MAX_FILE_LINES = 600
MEDIAN_FILE_LINES = 200
MAX_FUNCTION_LINES = 80
P95_FUNCTION_LINES = 45
MEDIAN_FUNCTION_LINES = 8

# Split, so that this file does not find itself.
FORBIDDEN = (
    "TO" + "DO",
    "FIX" + "ME",
    "X" + "XX",
    "NotImplemented" + "Error",
    "/wo" + "rk/",
    "/home" + "/",
    "/ro" + "ot/",
)
OUTSIDE_DATA = "../" + "shared"
MAY_NAME_OUTSIDE_DATA = (".ci/run",)


def texts() -> Iterator[Path]:
    """Every text file of the repository."""
    top = (ROOT.glob(pattern) for pattern in TOP)
    below = ((ROOT / folder).rglob("*") for folder in FOLDERS)
    for path in chain.from_iterable((*top, *below)):
        if path.is_file() and path.suffix in {"", ".md", ".py", ".toml", ".yaml", ".json", ".ipynb", ".typed", ".csv"}:
            yield path


def function_lengths() -> dict[str, int]:
    """Lines per function of the package, from the `def` line to the last."""
    lengths = {}
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = (
                    (node.end_lineno or 0) - node.lineno + 1
                )
    return lengths


def test_files_are_short() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON}
    assert {name: count for name, count in lines.items() if count > MAX_FILE_LINES} == {}
    assert statistics.median(count for name, count in lines.items() if name.startswith("sim")) < MEDIAN_FILE_LINES


def test_functions_are_short() -> None:
    lengths = function_lengths()
    assert {name: count for name, count in lengths.items() if count > MAX_FUNCTION_LINES} == {}
    ordered = sorted(lengths.values())
    assert statistics.median(ordered) <= MEDIAN_FUNCTION_LINES
    assert ordered[int(0.95 * len(ordered))] <= P95_FUNCTION_LINES


def test_no_forbidden_words() -> None:
    found = []
    for path in texts():
        name = str(path.relative_to(ROOT))
        words = FORBIDDEN if name in MAY_NAME_OUTSIDE_DATA else (*FORBIDDEN, OUTSIDE_DATA)
        text = path.read_text(encoding="utf-8")
        found += [f"{name}: {word}" for word in words if re.search(rf"(?<![A-Za-z]){re.escape(word)}", text)]
    assert found == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [str(path.relative_to(ROOT)) for path in PYTHON if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_one_registration_per_plugin_name() -> None:
    pattern = re.compile(r"^@([A-Z_]+)\.register\(\"([^\"]+)\"\)", re.MULTILINE)
    names = [match for path in CODE for match in pattern.findall(path.read_text(encoding="utf-8"))]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_stored_without_output(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert [cell["outputs"] for cell in cells if cell.get("outputs")] == []
    assert [cell["execution_count"] for cell in cells if cell.get("execution_count")] == []
