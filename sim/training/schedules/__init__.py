"""Pipeline schedules, one file each: which passes a device runs, in which order.

`base` has the contract. A schedule is registered by name and chosen with `plan: {schedule: NAME}`.
"""

from sim.training.schedules.base import (
    SCHEDULES,
    SYMBOLS,
    Orders,
    Pass,
    PassKind,
    PassTable,
    Route,
    Schedule,
    counted,
    loop_route,
    v_route,
)

__all__ = [
    "SCHEDULES",
    "SYMBOLS",
    "Orders",
    "Pass",
    "PassKind",
    "PassTable",
    "Route",
    "Schedule",
    "counted",
    "loop_route",
    "v_route",
]
