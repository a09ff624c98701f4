"""Profiling of the machine at hand: PyTorch kernels timed, efficiency curves fitted, a device that scenarios can name.

The order of things: `shapes` (what is measured), `operands` and `kernels` (PyTorch calls with cold or warm operands),
`timing` (the only clock of plansim), `samples` (the measurements as a CSV file), `fit` (parameters of the forms in
`sim.costs`) and `files` (device, kernels, node and link as YAML). `session` runs them. `check` closes the loop: a small
`transformer` is predicted from the files and timed, in prefill, decode and one training step (`training`).

Only `operands`, `kernels`, `collective`, `transformer` and the timing part of `check` need PyTorch.
"""

from sim.calibration.local.check import STEPS, CheckCase, Step, check, median_error
from sim.calibration.local.files import DeviceFiles
from sim.calibration.local.operands import Backend
from sim.calibration.local.samples import Case, Sample, read_samples, write_samples
from sim.calibration.local.session import LocalProfile, profile

__all__ = [
    "STEPS",
    "Backend",
    "Case",
    "CheckCase",
    "DeviceFiles",
    "LocalProfile",
    "Sample",
    "Step",
    "check",
    "median_error",
    "profile",
    "read_samples",
    "write_samples",
]
