"""Law 7: with a server that takes one request at a time, the machinery reproduces textbook queues and Little's law."""

from math import factorial

import numpy as np
import pytest

from sim.serving import ConstantCost, EngineLimits, OpenLoop, RequestLog, serve

_ONE_AT_A_TIME = EngineLimits(max_sequences=1, token_budget=64, chunk_limit=64, kv_blocks=10**7, block_tokens=16)
_STEP_S = 1e-3


def _waits(service_steps: np.ndarray, arrival_s: np.ndarray, *, servers: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Waiting time and time in system [s] of each request, served in `service_steps` iterations."""
    log = RequestLog(np.ones_like(service_steps), service_steps)
    serve(
        log,
        OpenLoop(arrival_s),
        costs=[ConstantCost(_STEP_S)] * servers,
        limits=_ONE_AT_A_TIME,
        router="central_queue",
    )
    return np.asarray(log.scheduled_s) - arrival_s, np.asarray(log.finish_s) - arrival_s


def _batch_interval(values: np.ndarray, *, batches: int = 40) -> tuple[float, float]:
    """Mean and half-width of its 99.9 % interval by batch means (autocorrelated samples)."""
    means = np.array([part.mean() for part in np.array_split(values[len(values) // 10 :], batches)])
    return float(means.mean()), float(3.55 * means.std(ddof=1) / np.sqrt(batches))


def _poisson(rng: np.random.Generator, rate: float, count: int) -> np.ndarray:
    return np.cumsum(rng.exponential(1 / rate, count))


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_m_d_1(load: float) -> None:
    """Mean wait of M/D/1 is rho s / (2 (1 - rho)) (Pollaczek-Khinchine with zero variance)."""
    rng = np.random.default_rng(11)
    steps = np.full(60_000, 100)
    service_s = 100 * _STEP_S
    waits, _ = _waits(steps, _poisson(rng, load / service_s, len(steps)))
    mean, half = _batch_interval(waits)
    assert mean == pytest.approx(load * service_s / (2 * (1 - load)), abs=half)
    assert half < 0.25 * mean


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_m_m_1(load: float) -> None:
    """Mean wait of M/M/1 is rho s / (1 - rho); service is geometric in iterations, whose variance is s^2 (1 - p)."""
    rng = np.random.default_rng(12)
    mean_steps = 400
    steps = rng.geometric(1 / mean_steps, 60_000)
    service_s = mean_steps * _STEP_S
    waits, system = _waits(steps, _poisson(rng, load / service_s, len(steps)))
    mean, half = _batch_interval(waits)
    second_moment = service_s**2 * (2 - 1 / mean_steps)
    exact = load / service_s * second_moment / (2 * (1 - load))
    assert mean == pytest.approx(exact, abs=half)
    assert exact == pytest.approx(load * service_s / (1 - load), rel=2e-3), "the geometric law is near exponential"
    assert system.min() > 0


@pytest.mark.parametrize(("servers", "load"), [(2, 0.7), (4, 0.8)])
def test_m_m_c(servers: int, load: float) -> None:
    """Mean wait of M/M/c is Erlang C times s / (c (1 - rho))."""
    rng = np.random.default_rng(13)
    mean_steps = 500
    steps = rng.geometric(1 / mean_steps, 80_000)
    service_s = mean_steps * _STEP_S
    waits, _ = _waits(steps, _poisson(rng, load * servers / service_s, len(steps)), servers=servers)
    offered = load * servers
    tail = offered**servers / factorial(servers) / (1 - load)
    erlang_c = tail / (sum(offered**n / factorial(n) for n in range(servers)) + tail)
    mean, half = _batch_interval(waits)
    assert mean == pytest.approx(erlang_c * service_s / (servers * (1 - load)), abs=half)
    assert half < 0.25 * mean


def test_littles_law() -> None:
    """Number in system, averaged over time, equals arrival rate times mean time in system."""
    rng = np.random.default_rng(14)
    arrival = _poisson(rng, 8.0, 20_000)
    steps = rng.integers(1, 200, len(arrival))
    _, system = _waits(steps, arrival)
    finish = arrival + system
    events = np.concatenate([arrival, finish])
    change = np.concatenate([np.ones_like(arrival), -np.ones_like(finish)])
    order = np.argsort(events, kind="stable")
    present = np.cumsum(change[order])[:-1]
    time_average = float((present * np.diff(events[order])).sum() / finish.max())
    assert time_average == pytest.approx(len(arrival) / finish.max() * system.mean(), rel=1e-9)
