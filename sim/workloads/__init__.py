"""Requests to simulate, generated or read from a trace.

Start in `requests` (the table every source fills) and `traffic` (what a traffic file may say, and how requests are
drawn from it). `arrivals`, `lengths` and `traces` hold one plug-in a file.
"""

from sim.workloads.arrivals import ARRIVALS, ArrivalProcess, Renewal
from sim.workloads.blocks import PromptBlocks
from sim.workloads.fit import fit_traffic
from sim.workloads.joint import JointLengths
from sim.workloads.lengths import LENGTHS, Marginal
from sim.workloads.prefixes import SharedPrefix
from sim.workloads.report import TraceReport
from sim.workloads.requests import RequestTable
from sim.workloads.traces import TRACES, RawTrace, TraceFile, TraceFormat, TraceSpec, read_trace
from sim.workloads.traffic import TrafficSpec, generate, load_traffic
from sim.workloads.write import save_traffic, traffic_yaml

__all__ = [
    "ARRIVALS",
    "LENGTHS",
    "TRACES",
    "ArrivalProcess",
    "JointLengths",
    "Marginal",
    "PromptBlocks",
    "RawTrace",
    "Renewal",
    "RequestTable",
    "SharedPrefix",
    "TraceFile",
    "TraceFormat",
    "TraceReport",
    "TraceSpec",
    "TrafficSpec",
    "fit_traffic",
    "generate",
    "load_traffic",
    "read_trace",
    "save_traffic",
    "traffic_yaml",
]
