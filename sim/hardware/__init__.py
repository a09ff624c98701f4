"""Hardware: devices, memory, links, nodes and clusters as data with sources, and what groups of devices get.

Start in `spec` (what the YAML files say), then `device` and `cluster` (the same as plain SI numbers), `topology` (links
as a graph), `curves` (kernel efficiencies; `scales` are
factors on them) and `power`.
"""

from sim.hardware.cluster import Cluster, CommGroup, Node, load_cluster, load_node
from sim.hardware.curves import KernelCurves
from sim.hardware.device import CollectiveCurve, Device, Link, device_of, load_device, load_link
from sim.hardware.power import LOWEST_CLOCK, clock_within, lowest_cap_w, power_w, resting_w
from sim.hardware.scales import Scales
from sim.hardware.spec import (
    SCALED_RATES,
    ClusterSpec,
    CollectiveSpec,
    CurveSpec,
    DeviceSpec,
    KernelsSpec,
    LinkSpec,
    NodeSpec,
    PriceSpec,
    ScalesSpec,
)
from sim.hardware.topology import build_graph

__all__ = [
    "LOWEST_CLOCK",
    "SCALED_RATES",
    "Cluster",
    "ClusterSpec",
    "CollectiveCurve",
    "CollectiveSpec",
    "CommGroup",
    "CurveSpec",
    "Device",
    "DeviceSpec",
    "KernelCurves",
    "KernelsSpec",
    "Link",
    "LinkSpec",
    "Node",
    "NodeSpec",
    "PriceSpec",
    "Scales",
    "ScalesSpec",
    "build_graph",
    "clock_within",
    "device_of",
    "load_cluster",
    "load_device",
    "load_link",
    "load_node",
    "lowest_cap_w",
    "power_w",
    "resting_w",
]
