"""KV caches on their way from the engines that compute prompts to those that decode.

A request is computed by the ranks of one data-parallel rank of a prefill engine (its tensor- and pipeline-parallel
group) and received by such a group of a decode engine. Each group sends or receives through the links of its own
devices, one cache after the other in the order of the requests for them, as work requests of an RDMA queue pair are
carried out. Engines do not say which group a request is in (they fold groups, see `compiled`), so the group that is
free first takes it. A transfer goes at the rate of its slower end and keeps either end busy for as long as its bytes
take there, so a wide end serves several narrow ones side by side.

The transfer begins when the decode engine has reserved the blocks and ends before its first decoding step, as NIXL
connectors and the KV senders of SGLang and TensorRT-LLM do without layer-wise overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sim.kernel import Kernel, Priority


@dataclass(frozen=True)
class KvTransfer:
    """How KV gets from prefill to decode engines.

    Attributes:
        bytes_per_token: Received per prompt token by all ranks of a group together [B], copies included, of layers that
            keep every token.
        send_bytes_per_s: Rate at which a sending group can send [B/s].
        receive_bytes_per_s: Rate at which a receiving group can receive [B/s].
        send_groups: Groups of a prefill engine.
        receive_groups: Groups of a decode engine.
        latency_s: From the request for a transfer to its first byte [s].
        windows: Of layers that keep the latest tokens: how many, and the bytes of each [B].
        state_bytes: Of a sequence of any length [B]: recurrent states.
    """

    bytes_per_token: float
    send_bytes_per_s: float
    receive_bytes_per_s: float
    send_groups: int = 1
    receive_groups: int = 1
    latency_s: float = 0.0
    windows: tuple[tuple[int, float], ...] = ()
    state_bytes: float = 0.0

    def size_bytes(self, tokens: int) -> float:
        """Bytes of a prompt of `tokens` [B]."""
        latest = sum(min(tokens, window) * each for window, each in self.windows)
        return tokens * self.bytes_per_token + latest + self.state_bytes

    def alone_s(self, tokens: int) -> float:
        """Time [s] of a transfer of `tokens` that shares its links with no other."""
        return self.latency_s + self.size_bytes(tokens) / min(self.send_bytes_per_s, self.receive_bytes_per_s)


class KvNetwork:
    """The links of all prefill and decode engines: when each group has sent and received what it has been given.

    Args:
        transfer: Sizes and rates.
        kernel: The clock.
        senders: Prefill engines.
        receivers: Decode engines.
    """

    def __init__(self, transfer: KvTransfer, kernel: Kernel, *, senders: int, receivers: int) -> None:
        self._transfer = transfer
        self._kernel = kernel
        self._out_s = [[0.0] * transfer.send_groups for _ in range(senders)]
        self._in_s = [[0.0] * transfer.receive_groups for _ in range(receivers)]

    def send(self, tokens: int, *, sender: int, receiver: int, done: Callable[[], None]) -> None:
        """Brings the KV of `tokens` from one engine to another, then calls `done`."""
        sending, receiving = self._out_s[sender], self._in_s[receiver]
        first, second = sending.index(min(sending)), receiving.index(min(receiving))
        transfer, size_bytes = self._transfer, self._transfer.size_bytes(tokens)
        start_s = max(self._kernel.now, sending[first], receiving[second])
        sending[first] = start_s + transfer.latency_s + size_bytes / transfer.send_bytes_per_s
        receiving[second] = start_s + transfer.latency_s + size_bytes / transfer.receive_bytes_per_s
        self._kernel.at(start_s + transfer.alone_s(tokens), done, priority=Priority.TRANSFER)
