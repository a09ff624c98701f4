"""Arrival processes: one file each, named in YAML by `kind`."""

from sim.workloads.arrivals.base import ARRIVALS, ArrivalProcess, Renewal

__all__ = ["ARRIVALS", "ArrivalProcess", "Renewal"]
