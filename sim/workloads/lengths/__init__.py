"""Laws of token counts: one file each, named in YAML by `kind`."""

from sim.workloads.lengths.base import LENGTHS, Marginal, Tokens

__all__ = ["LENGTHS", "Marginal", "Tokens"]
