"""Adam on the host's processors with its states in the host's memory (ZeRO-Offload, arXiv 2101.06840, section 4).

Gradients cross to the host as the backward pass makes them, the update streams through host memory, and updated 16-bit
parameters cross back tile by tile beside it. Arithmetic hides behind memory: about 15 operations for 30 bytes, of which
a server's vector units do more than its memory can feed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from sim.core import Array, Reason
from sim.hardware import Cluster

_PARAM_BYTES: Final = 2.0
STATE_BYTES: Final = 12.0
"""Two moments and a copy of the parameter in fp32 [B]."""
LINK_FRAC: Final = 0.85
"""Share of the link to the host that copies from pinned memory reach (PCIe 4 and 5 with 256-byte packets)."""


@dataclass(frozen=True)
class HostUpdate:
    """Times per parameter of a device's share [s], in the shape of the gradients' bytes.

    Attributes:
        gradient_s: Its gradient to the host.
        update_s: The update, while all devices of the node have theirs done; or the new parameter back, if slower.
    """

    gradient_s: Array
    update_s: Array


def host_update(cluster: Cluster, *, gradient_bytes: Array | float, memory_frac: float) -> HostUpdate:
    """Times of the update on the hosts of a cluster.

    Gradient and states read, states written, 16-bit parameter written: `g + 12 + 12 + 2` bytes, over the node's DRAM
    bandwidth that its devices share.

    Args:
        cluster: The cluster; its nodes say how fast their memory is.
        gradient_bytes: Bytes of a gradient as it crosses.
        memory_frac: Share of the DRAM's theoretical bandwidth that the update reaches.
    """
    node, device = cluster.node, cluster.device
    moved = np.asarray(gradient_bytes) + 2.0 * STATE_BYTES + _PARAM_BYTES
    memory_s = moved * cluster.devices_per_node / (memory_frac * node.host_bytes_per_s)
    link = LINK_FRAC * device.host_bytes_per_s
    return HostUpdate(np.asarray(gradient_bytes) / link, np.maximum(memory_s, _PARAM_BYTES / link))


def host_reasons(cluster: Cluster, *, parameters: float | None = None) -> list[Reason]:
    """Why the hosts cannot hold and update the states of so many parameters per device; empty if they can.

    Args:
        cluster: The cluster.
        parameters: Parameters of a device's share; None to ask only whether the host is known.
    """
    node = cluster.node
    if not (node.host_bytes_per_s and node.host_bytes and cluster.device.host_bytes_per_s):
        return [
            Reason(
                "host_memory",
                f"adam_cpu needs size and bandwidth of the host's memory, which {node.name} does not tell: give "
                "host_memory and host_memory_bandwidth of the node, host_bandwidth of the device",
            )
        ]
    needed = 0.0 if parameters is None else STATE_BYTES * parameters * cluster.devices_per_node
    if needed <= node.host_bytes:
        return []
    return [
        Reason(
            "host_memory",
            f"states of {needed / 2**30:.0f} GiB do not fit the {node.host_bytes / 2**30:.0f} GiB of a {node.name}'s "
            "host; more nodes, or zero 1 and above, divide them",
            {"needed_bytes": needed, "host_bytes": node.host_bytes},
        )
    ]
