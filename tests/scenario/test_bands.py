"""Intervals widen with everything about a scenario that is unlike the measured rows."""

import math
from dataclasses import replace

import pytest

from sim.plans import EngineSpec, ErrorBand, ErrorDomain, load_engine
from sim.scenario import Setting, bands_for

KNOWN = Setting("m", "d", generic=False, concurrency=8, input_tokens=1000.0, output_tokens=100.0)


def engine(**stretch: float | None) -> EngineSpec:
    stretches = {"new_model": 1.5, "new_device": 2.0, "new_load": 1.2, **stretch}
    band = ErrorBand(metric="tpot_s", low=0.8, high=1.25, rows=20, groups=3, source="fitted", ref="rows", **stretches)
    domain = ErrorDomain(
        models=("m",), devices=("d",), concurrency=(1, 64), input_tokens=(100, 8000), output_tokens=(10, 1000)
    )
    return load_engine("vllm").model_copy(update={"errors": (band,), "errors_on": domain})


def width(setting: Setting, **stretch: float | None) -> float:
    """Half width in units of the band's own."""
    band = bands_for(engine(**stretch), setting)["tpot_s"]
    assert band.low * band.high == pytest.approx(1.0)
    return math.log(band.low) / math.log(0.8)


def test_what_was_measured_has_the_plain_band() -> None:
    assert width(KNOWN) == pytest.approx(1.0)
    assert width(replace(KNOWN, concurrency=None)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "stretch"),
    [
        ({"model": "other"}, 1.5),
        ({"device": "other"}, 2.0),
        ({"concurrency": 500}, 1.2),
        ({"input_tokens": 50_000.0}, 1.2),
        ({"output_tokens": 2.0}, 1.2),
    ],
)
def test_each_kind_of_novelty_has_its_stretch(change: dict[str, object], stretch: float) -> None:
    assert width(replace(KNOWN, **change)) == pytest.approx(stretch)  # type: ignore[arg-type]


def test_more_novelty_is_never_surer() -> None:
    """Added variances: wider than each alone, narrower than their product."""
    both = width(replace(KNOWN, model="other", device="other"))
    assert 2.0 < both < 1.5 * 2.0
    assert width(replace(KNOWN, model="other", device="other", generic=True)) > both


def test_an_unknown_stretch_leaves_the_interval_unknown() -> None:
    assert bands_for(engine(new_model=None), replace(KNOWN, model="other")) == {}
    assert set(bands_for(engine(new_model=None), KNOWN)) == {"tpot_s"}
