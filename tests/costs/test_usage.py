"""Uses of several operators, stages and pools as one."""

from __future__ import annotations

from itertools import permutations

from sim.costs import Use, merged

CURVE = Use("analytic", "h100 curves")
MEASURED = Use("measured", "a table", "8 heads stand in for 6", 10, 2)
OTHER = Use("measured", "a table", "8 heads stand in for 7", 5, 1)
MISSING = Use("analytic", "h100 curves", "not measured over 4 ranks")


def test_look_ups_add_up_and_notes_that_differ_are_kept() -> None:
    (use,) = merged([{"gemm": MEASURED}, {"gemm": OTHER}]).values()
    assert (use.look_ups, use.outside, use.table) == (15, 3, "a table")
    assert use.note == f"{MEASURED.note}; {OTHER.note}"


def test_what_is_measured_for_some_and_not_for_others_is_said_whatever_the_order() -> None:
    for order in permutations([CURVE, MEASURED, MISSING]):
        found = merged({"all_reduce": use} for use in order)
        assert found == {"all_reduce": MEASURED, "all_reduce, in part": MISSING}
        assert merged([found, {"all_reduce": MISSING}]) == found, "stages, then pools"


def test_a_curve_with_a_reason_is_one_use() -> None:
    assert merged([{"gemm": CURVE}, {"gemm": MISSING}]) == {"gemm": MISSING}
