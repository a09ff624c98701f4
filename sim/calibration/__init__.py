"""Calibration: named parameters of an engine or device profile, fitted to measured rows, with what they could not tell.

Start in `parameters` (which parameters, and how sure the profile was before) and `subjects` (whose they are), then
`fit` (robust regression with those priors, through the whole simulation) and `profile` (the new profile as a YAML file
that extends the old one).
`objective` is what fits make smallest. `response` has predictions as piecewise linear functions of the parameters, to
which `pooled` fits all versions of an engine together; `cross` leaves models and systems out.
`training` does the same for what devices sustain and engines cost in training, `training_study` says what the numbers
are worth.
"""

from sim.calibration.cross import GROUPS, cross_validate, cross_validate_all
from sim.calibration.fit import Calibration, Fitted, calibrate
from sim.calibration.parameters import PARAMETERS, Parameter, device_parameters, parameters_of
from sim.calibration.profile import profile_yaml
from sim.calibration.training import FREE_NUMBERS, FreeNumber, TrainingFit, fit_training
from sim.calibration.training_study import TrainingStudy, study_training

__all__ = [
    "FREE_NUMBERS",
    "GROUPS",
    "PARAMETERS",
    "Calibration",
    "Fitted",
    "FreeNumber",
    "Parameter",
    "TrainingFit",
    "TrainingStudy",
    "calibrate",
    "cross_validate",
    "cross_validate_all",
    "device_parameters",
    "fit_training",
    "parameters_of",
    "profile_yaml",
    "study_training",
]
