"""Tables of measurements, one file per kind; each is recognised by its header.

`base` has the contract. What a table does not record and has to be assumed stands in its module's docstring and in
`assumptions`; it is one assumption per engine version, never one per row.
"""

from sim.validation.formats.base import MEASUREMENTS, MeasurementFile, MeasurementFormat

__all__ = ["MEASUREMENTS", "MeasurementFile", "MeasurementFormat"]
