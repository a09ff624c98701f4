"""Curves of products and of decode attention, fitted to measured tables at the layers of the models that ship.

Start at `fit_products`, `fit_heads` and `fit_headwise`. A table's grid holds many shapes that no layer has, narrow ones
above all, and a form of seven parameters cannot follow both. So a curve is fitted where models are: to the products of
all shipped models on 1, 2, 4 and 8 tensor-parallel ranks, to their layouts of heads, each measured time read off the
table between its lines. Errors that go with a curve are those of models left out: every other model is fitted, the
layers that only the rest have are predicted, and the other way round. Absorbed projections have one shape per head
in all tables: every other number of tokens is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from sim.core import Array, data_names
from sim.costs import TABLES, CostModel, MeasuredKernels
from sim.costs.curves import Curves
from sim.costs.gemm import headwise_gemm_time_s
from sim.costs.tables import KernelRows
from sim.hardware import load_device
from sim.models import (
    GQA,
    DecodeAttention,
    Gemm,
    ModelSpec,
    Operator,
    activation_bytes,
    bytes_per_element,
    kv_heads_per_rank,
    load_model,
    stages,
    token_operators,
)
from sim.validation.kernels import ENGINES, KERNELS, Refitted

RANKS: Final = (1, 2, 4, 8)
"""Tensor-parallel ranks over which layers are divided."""

ROWS: Final = np.array(
    [
        *(1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 256, 320, 384, 512),
        *(768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384),
    ],
    dtype=np.float64,
)
"""Rows of a product [tokens]: batches of decodes, whole and odd, and prompts."""

SEQUENCES: Final = np.array([1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512], dtype=np.float64)
CONTEXTS: Final = 2.0 ** np.arange(8, 16)
MOST_KEYS: Final = 2.0**20
"""Keys of a batch up to which decodes are fitted."""

MOST_HEADS_PER_KEY: Final = 32.0
"""Query heads per KV head up to which: beyond, TensorRT-LLM has another kernel, 3 to 30 times slower."""

_SIDE: Final = ("router", "shared_gate", "k_up", "v_up", "stream_weights")
"""Products whose width is another than that of layers, or that engines run in another kernel."""

_SOFT: Final = 0.08
_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "t0_s": (5e-7, 3e-5),
    "e": (0.01, 1.0),
    "f": (0.2, 1.0),
    "p": (1.0, 8.0),
    "tau_s": (5e-11, 2e-5),
    "k_sat": (300.0, 1e6),
    "c": (0.01, 40.0),
    "lam_s": (1e-8, 6e-6),
    "a": (0.05, 2.0),
}

Params = Mapping[str, float]
Shape = tuple[float, ...]
Layers = Mapping[str, frozenset[Shape]]
_Data = TypeVar("_Data")


@dataclass(frozen=True)
class FittedKernel:
    """A fitted curve.

    Attributes:
        params: Its parameters, SI units; those that the shipped curve has as zero or infinite stay so.
        shipped: Median and 90th percentile of the error of the shipped curve at the layers.
        in_sample: The same of the fitted one.
        left_out: The same at layers of models that were not fitted.
    """

    params: Mapping[str, float]
    shipped: tuple[float, float]
    in_sample: tuple[float, float]
    left_out: tuple[float, float]


def fit_products(device: str, engine: str, dtype: str, *, models: Iterable[str] | None = None) -> FittedKernel | str:
    """The GEMM curve of a device, engine and format of weights; the reason where the tables have none.

    Args:
        device: Name of the device.
        engine: Family of the engine.
        dtype: Format of the weights.
        models: Names of the models whose layers count; None, of all that ship.
    """

    def operator(shape: Shape) -> Operator:
        n, k = shape
        return Gemm(name="product", cause="fit", m=ROWS, n=n, k=k, weights_dtype=dtype)

    return _fit(device, engine, "gemm", dtype, products_of(_shipped(models)), operator)


def fit_heads(device: str, engine: str, dtype: str, *, models: Iterable[str] | None = None) -> FittedKernel | str:
    """The curve of decode attention of a device, engine and format of the cache; likewise."""
    sequences, contexts = (axis.ravel() for axis in np.meshgrid(SEQUENCES, CONTEXTS))
    kept = sequences * contexts <= MOST_KEYS
    sequences, contexts = sequences[kept], contexts[kept]

    def operator(shape: Shape) -> Operator:
        q_heads, kv_heads, head_dim = shape
        return DecodeAttention(
            name="decode",
            cause="fit",
            sequences=sequences,
            context=sequences * contexts,
            q_heads=q_heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            v_dim=head_dim,
            kv_dtype=dtype,
        )

    return _fit(device, engine, "decode_attention", dtype, heads_of(_shipped(models)), operator)


def fit_headwise(device: str, engine: str, dtype: str) -> FittedKernel | str:
    """The curve of absorbed projections of a device, engine and format, fitted to every row of its table."""
    on = load_device(device)
    rows = TABLES.get("measured")(device=on, engine=engine, path="").rows("headwise_gemm", dtype)
    if not isinstance(rows, KernelRows):
        return rows
    curves, columns = Curves(on, engine, {}), rows.columns
    setup, shipped = curves.headwise(dtype), on.kernels.get("headwise_gemm", dtype, engine)

    def errors(params: Params, kept: NDArray[np.bool_]) -> Array:
        predicted_s = headwise_gemm_time_s(
            columns["m"][kept],
            columns["n"][kept],
            columns["k"][kept],
            heads=columns["heads"][kept],
            ends_bytes=activation_bytes("bf16"),
            weight_bytes=bytes_per_element(dtype),
            flops_per_s=setup.flops_per_s,
            bytes_per_s=on.memory_bytes_per_s,
            curve=replace(setup.curve, **params),
        )
        return np.asarray(predicted_s / rows.time_s[kept] - 1.0)

    every, even = np.ones(len(rows), dtype=bool), np.searchsorted(np.unique(columns["m"]), columns["m"]) % 2 == 0
    return _fitted_kernel(shipped, errors, every, [(even, ~even), (~even, even)])


def fits_markdown(devices: Iterable[str], engines: Iterable[str] = ENGINES) -> str:
    """A Markdown table of the errors at the layers of shipped models, median / 90th percentile in percent."""
    lines = ["| device | engine | kernel | shipped | refitted | models left out |", "|---|---|---|---|---|---|"]
    for device in devices:
        for engine in engines:
            for kernel, dtype in KERNELS:
                fit = {"gemm": fit_products, "decode_attention": fit_heads}.get(kernel)
                found = "" if fit is None else fit(device, engine, dtype)
                if isinstance(found, FittedKernel):
                    parts = (found.shipped, found.in_sample, found.left_out)
                    shown = [f"{100 * median:.1f} / {100 * p90:.0f}" for median, p90 in parts]
                    lines.append(f"| {' | '.join([device, engine, f'{kernel} {dtype}', *shown])} |")
    return "\n".join(lines) + "\n"


def products_of(models: Iterable[str]) -> Layers:
    """Columns and inner sizes `(n, k)` of the products of each model's layers on one rank."""
    return {name: _products(load_model(name)) for name in models}


def heads_of(models: Iterable[str]) -> Layers:
    """Query heads, KV heads and head dimensions of each model's grouped-query attention on one rank."""
    return {name: _heads(load_model(name)) for name in models}


def _shipped(models: Iterable[str] | None) -> Iterable[str]:
    return data_names("workloads/models") if models is None else models


def _products(model: ModelSpec) -> frozenset[Shape]:
    found = set()
    for tp in RANKS:
        for op in token_operators(model, stages(model, tp=tp, moe_tp=tp)[0], np.array([1.0])):
            if isinstance(op, Gemm) and op.name not in _SIDE:
                found.add((float(op.n), float(op.k)))
    return frozenset(found)


def _heads(model: ModelSpec) -> frozenset[Shape]:
    found = set()
    for group in model.layers:
        a = group.attention
        if isinstance(a, GQA) and a.value_dim == a.head_dim:
            for tp in (tp for tp in RANKS if a.heads % tp == 0):
                heads = a.heads / tp, float(kv_heads_per_rank(a, tp)), float(a.head_dim)
                if heads[0] / heads[1] <= MOST_HEADS_PER_KEY:
                    found.add(heads)
    return frozenset(found)


def _fit(
    name: str, engine: str, kernel: str, dtype: str, layers: Layers, operator: Callable[[Shape], Operator]
) -> FittedKernel | str:
    device = load_device(name)
    source = TABLES.get("measured")(device=device, engine=engine, path="")
    rows = source.rows(kernel, dtype)
    if not isinstance(rows, KernelRows):
        return rows
    curves = CostModel(device, engine=engine)
    tables = CostModel(device, engine=engine, measured=MeasuredKernels({kernel: source}, curves.price))

    shipped = device.kernels.get(kernel, dtype, engine)

    @cache
    def measured_s(shape: Shape) -> Array:
        return tables.cost(operator(shape)).time_s

    def errors(params: Params, shapes: list[Shape]) -> Array:
        costs = CostModel(replace(device, kernels=Refitted(device.kernels.name, params)), engine=engine)
        return np.concatenate([costs.cost(operator(one)).time_s / measured_s(one) - 1.0 for one in shapes])

    names = sorted(layers)
    halves = [frozenset[Shape]().union(*(layers[one] for one in names[half::2])) for half in (0, 1)]
    splits = [(sorted(one), sorted(other - one)) for one, other in (halves, halves[::-1])]
    return _fitted_kernel(shipped, errors, sorted(halves[0] | halves[1]), splits)


def _fitted_kernel(
    shipped: Params, errors: Callable[[Params, _Data], Array], every: _Data, splits: Iterable[tuple[_Data, _Data]]
) -> FittedKernel:
    """The curve fitted to `every`, and what it errs; left out, on the second part of a split where the first is fitted.

    Args:
        shipped: Parameters to start from.
        errors: Relative errors of parameters on some of the data.
        every: All data.
        splits: Data to fit and to judge.
    """

    def fitted(data: _Data) -> Params:
        return _fitted(shipped, lambda params: errors(params, data))

    best = fitted(every)
    apart = [errors(fitted(part), rest) for part, rest in splits]
    return FittedKernel(
        best,
        _summary(errors(shipped, every)),
        _summary(errors(best, every)),
        _summary(np.concatenate(apart)),
    )


def _fitted(shipped: Params, errors: Callable[[Params], Array]) -> Params:
    """Parameters of least error, robustly, in their logarithms; only those that `shipped` has above zero."""
    free = [one for one in _BOUNDS if shipped.get(one, 0.0) > 0.0]
    low, high = (np.log([_BOUNDS[one][end] for one in free]) for end in (0, 1))
    start = np.clip(np.log([shipped[one] for one in free]), low + 1e-3, high - 1e-3)

    def params(logs: Array) -> Params:
        return dict(zip(free, np.exp(logs).tolist(), strict=True))

    found = least_squares(
        lambda logs: np.log1p(errors(params(logs))),
        start,
        bounds=(low, high),
        loss="soft_l1",
        f_scale=_SOFT,
        max_nfev=120,
    )
    return params(found.x)


def _summary(errors: Array) -> tuple[float, float]:
    median, p90 = np.percentile(np.abs(errors), (50, 90))
    return float(median), float(p90)
