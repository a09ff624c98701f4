"""Messages say where, what, what is allowed and the next step; errors survive the way between processes."""

import pickle

import pytest

from sim.core import InfeasibleError, InputError, PlansimError, Reason, SloNotMetError, did_you_mean, require_extra


def test_full_message() -> None:
    error = InputError(
        "unknown node 'dgx-h10'; did you mean 'dgx-h100'?",
        file="scenario.yaml",
        line=14,
        path="cluster.node",
        hint="plansim list nodes",
    )
    assert str(error) == (
        "scenario.yaml:14 cluster.node: unknown node 'dgx-h10'; did you mean 'dgx-h100'? (plansim list nodes)"
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "bad"),
        ({"file": "a.yaml"}, "a.yaml: bad"),
        ({"path": "a.b"}, "a.b: bad"),
        ({"line": 3}, "bad"),
        ({"value": None}, "bad; got None"),
        ({"value": 3, "allowed": ["1", "2"]}, "bad; got 3; allowed: 1, 2"),
        ({"allowed": "1 or 2"}, "bad; allowed: 1 or 2"),
        ({"allowed": [str(i) for i in range(14)]}, "bad; allowed: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"),
    ],
)
def test_parts_of_the_message(fields: dict[str, object], text: str) -> None:
    assert str(InputError("bad", **fields)) == text  # type: ignore[arg-type]


def test_value_is_not_said_twice() -> None:
    assert str(InputError("unknown node 'x'", value="x")) == "unknown node 'x'"


@pytest.mark.parametrize(
    ("error", "code"),
    [(PlansimError("x"), 1), (InputError("x"), 2), (InfeasibleError("x"), 3), (SloNotMetError("x"), 4)],
)
def test_exit_codes(error: PlansimError, code: int) -> None:
    assert error.exit_code == code


def test_errors_survive_pickling() -> None:
    given = InputError("bad", file="a.yaml", line=2, path="p", value=5, allowed=["1"], hint="do")
    assert str(pickle.loads(pickle.dumps(given))) == str(given)
    missing = pickle.loads(pickle.dumps(InputError("bad")))
    assert str(missing) == "bad"
    ruled_out = InfeasibleError("no plan fits", [Reason("memory", "needs 90 GB of 80 GB", {"needed_bytes": 9e10})])
    copy = pickle.loads(pickle.dumps(ruled_out))
    assert copy.reasons == ruled_out.reasons
    assert str(copy) == "no plan fits\n  - [memory] needs 90 GB of 80 GB"


def test_suggestions() -> None:
    assert did_you_mean("dgx-h10", ["dgx-h100", "dgx-a100"]) == "; did you mean 'dgx-h100'?"
    assert did_you_mean("DGX-H100", ["dgx-h100"]) == "; did you mean 'dgx-h100'?"
    assert did_you_mean("zzz", ["dgx-h100"]) == ""
    assert did_you_mean("x", []) == ""


def test_missing_extra_says_how_to_install() -> None:
    assert require_extra("json", "dev").__name__ == "json"
    with pytest.raises(InputError, match=r"pip install 'plansim\[dev\]'"):
        require_extra("a_package_nobody_has", "dev")
