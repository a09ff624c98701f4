"""Hugging Face architectures, one family a file: how a `config.json` of that `model_type` becomes layers.

Start in `base`: the alias table, the reader that the builders share, and the registry. A new architecture is a new
file here with a function registered under its `model_type`.
"""

from sim.models.architectures.base import ARCHITECTURES, ConfigReader, Parts

__all__ = ["ARCHITECTURES", "ConfigReader", "Parts"]
