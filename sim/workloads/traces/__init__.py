"""Importers of recorded traffic: one format a file, told apart by their first line."""

from sim.workloads.traces.base import TRACES, RawTrace, TraceFile, TraceFormat
from sim.workloads.traces.read import TraceSpec, read_trace

__all__ = ["TRACES", "RawTrace", "TraceFile", "TraceFormat", "TraceSpec", "read_trace"]
