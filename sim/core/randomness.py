"""Random numbers from named streams, so that adding one draw shifts no other.

Every stream is spawned from the one seed of a run and its name alone. Two plans simulated with the same seed see
the same traffic (common random numbers), whatever else they draw.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """An independent generator for the stream called `names` of the run with `seed`.

    The name is hashed with BLAKE2 into the spawn key of a `numpy.random.SeedSequence`, which makes streams
    statistically independent and the same on every platform.
    """
    digest = hashlib.blake2b("/".join(map(str, names)).encode(), digest_size=16).digest()
    key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy=seed, spawn_key=key)))
