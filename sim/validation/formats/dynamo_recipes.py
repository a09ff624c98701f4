"""How InferenceX launches engines that only compute prompts and engines that only decode: public recipes of Dynamo.

Facts of the recipes that its `nvidia-master.yaml` names (srt-slurm, branch sa-submission-q1-2026 and recipes/gb200-fp4,
gb200-fp8, b200-fp4, b200-fp8, vllm/kimi-k2.5; 2025-12 to 2026-04), not fitted. Rows of the table record the GPUs of an
engine, but not always how they are divided (attention data parallelism is missing in some, in some it stands beside
experts that it does not go with), and never how many sequences a decode engine takes: recipes capture CUDA graphs up to
a batch and let no more in, so that further requests wait for their first token.

A deployment is looked up by system, precision, lengths, workers and GPUs of either kind; of several recipes for one,
that with the fewest users at or above the row's, else the one with the most.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

from sim.validation.formats.base import Line

_DEEPSEEK: Final = ("deepseek-ai/DeepSeek-V3", "nvidia/DeepSeek-R1-NVFP4")
_KIMI: Final = ("moonshotai/Kimi-K2.5",)

_RECIPES: Final = """
trtllm b200_sxm fp4 1024 1024 16384
  1xdep4 1xdep8   4096:512
  1xdep4 2xdep8   2192:128
  1xdep4 5xdep8   1365:32
  1xdep4 5xtep8   6:1 180:32
  1xdep4 6xtep8   450:64
trtllm b200_sxm fp4 8192 1024 16896
  1xdep4 5xtep8   6:1 100:16
  2xdep4 5xtep8   370:64
  4xdep4 1xdep8   1606:192
  4xdep4 3xdep8   837:32
  7xdep4 2xdep8   2222:128
trtllm b200_sxm fp8 1024 1024 8320
  1xdp8 3xtp8     128:1024
  1xdp8 5xdep8    1920:48
  1xdp8 1xdep8    4096:512
  2xdp8 5xdep8    5152:128
trtllm b200_sxm fp8 8192 1024 8320
  1xdp8 1xtp8     1:1
  1xdp8 4xtp8     128:32
  1xdp8 6xtp8     96:16
  1xdp8 1xdep8    128:128 256:256
  1xdp8 2xdep8    128:64
  2xdp8 1xdep8    640:640
trtllm gb200 fp4 1024 1024 16384
  1xdep4 1xdep8   4301:512
  1xdep4 1xdep32  666:16
  1xdep4 2xdep4   6144:768
  1xdep4 4xtep8   5:1 192:32
  2xdep4 1xdep16  4301:256
  2xdep4 1xdep32  2253:64
trtllm gb200 fp4 1024 8192 16384
  1xdep4 7xtep8   5:1
  1xdep4 15xtep4  60:4 135:8
  1xdep4 1xdep32  563:16 2048:64 4096:128 8192:256
trtllm gb200 fp4 8192 1024 16384
  1xdep4 4xtep8   5:1 76:16
  2xdep4 1xdep32  333:8
  7xdep4 1xdep32  1229:32
  8xdep4 1xdep16  2253:128
  10xdep4 1xdep16 4096:256
trtllm gb200 fp8 1024 1024 16384
  1xdep8 1xdep8   4301:512 6144:768
  1xdep8 1xdep16  2151:128
  1xdep8 1xdep32  256:8 1127:32
  1xdep8 3xtep8   3:1 27:8
trtllm gb200 fp8 1024 8192 16384
  1xdep8 2xdep16  8192:256
  1xdep8 1xdep32  564:16 2048:64
  1xdep8 4xtep8   4:1 36:8
trtllm gb200 fp8 8192 1024 16384
  5xdep8 1xdep16  1229:64
  4xdep8 1xdep32  666:16
  3xdep8 1xdep16  615:32
  2xdep8 1xdep32  333:8
  1xdep8 3xtep8   6:1 18:4 63:16
trtllm h200_sxm fp8 1024 1024 8192
  1xdep8 9xtep8   9:1 576:256
  1xdep8 9xdep8   1152:512
  1xdep8 6xdep8   1536:512
  2xdep8 7xdep8   3584:512
trtllm h200_sxm fp8 8192 1024 16640
  1xtep8 7xtep8   7:1 28:32
  1xtep8 6xtep8   48:16
  1xtep8 3xtep8   48:32
  2xtep8 5xtep8   160:128
  2xtep8 3xdep8   192:128
  1xtep8 1xdep8   128:256
  5xtep8 3xdep8   768:256
  3xtep8 1xdep8   512:512
trtllm h100_sxm fp8 1024 1024 2048
  1xdep16 3xtep16 6:1 9:2 30:8 60:16
  1xdep16 3xdep16 231:4 462:8 924:16 1845:32
  2xdep16 1xdep16 4916:256
trtllm h100_sxm fp8 8192 1024 8448
  1xdep16 3xtep16 6:1 9:2 30:8
  1xdep16 2xtep16 154:64
  2xdep16 1xdep16 308:16
sglang b200_sxm fp4 1024 1024 8192
  1xdep4 5xtep8   128:512
  1xdep4 6xtep8   256:512
  1xdep4 1xdep8   512:128
  1xdep4 2xdep8   512:64
sglang b200_sxm fp4 8192 1024 8192
  1xtp4 1xtp8     64:512
  1xdep4 1xtep8   128:512
  1xdep4 5xtep8   8:512
  2xdep4 5xtep8   128:512
  7xdep4 2xdep8   2048:256
sglang b200_sxm fp8 1024 1024 32768
  1xtep8 1xtep8   4:512
  1xtep8 3xtep8   256:512
sglang gb200 fp4 1024 1024 16384
  1xtp4 2xtp4     64:512
  4xdep4 1xdep32  12000:1024
sglang gb200 fp4 8192 1024 24576
  1xtp4 4xtp4     64:512
  10xtp4 1xdep32  2048:512
sglang gb200 fp8 1024 1024 16384
  1xtp4 1xtp4     8:128
  1xtp4 4xtp4     128:128
  2xdep8 1xdep32  6144:1024
  1xdep8 1xdep8   4096:1024
sglang gb200 fp8 8192 1024 16384
  1xtp8 1xtp8     16:128
  5xdep8 1xdep32  6144:256
vllm gb200 fp4 1024 1024 16384
  1xdep4 4xtep4   256:1024
  1xdep4 1xdep16  1024:256
  2xdep4 1xdep16  2048:256
vllm gb200 fp4 8192 1024 16384
  1xdep4 4xtep4   256:16
"""
"""Engine, system, precision, lengths and token budget of a prefill rank; below, prefill and decode engines and users:
sequences of a decode rank. `tp`: attention and experts divided; `tep`: attention divided, experts whole; `dp`: every
rank has all of attention, experts divided; `dep`: all of attention, experts whole. SGLang on B200 with FP8 is left out
for long prompts: its recipes changed between runs of the table."""


_BALANCED: Final = (16, 256)
"""Ranks, and sequences of each at least, of decode engines whose recipes balance experts (`eplb256` in their names)."""


class _Recipe(NamedTuple):
    """A recipe: its engines, and the sequences that a decode rank takes for so many users."""

    prefill: str
    decode: str
    budget: int
    sequences: dict[int, int]


@cache
def _recipes() -> dict[tuple[str, ...], list[_Recipe]]:
    """Recipes by engine, system, precision and lengths."""
    found: dict[tuple[str, ...], list[_Recipe]] = {}
    here: list[_Recipe] = []
    budget = 0
    for line in filter(None, _RECIPES.splitlines()):
        words = line.split()
        if not line.startswith(" "):
            here, budget = found.setdefault(tuple(words[:5]), []), int(words[5])
            continue
        users = (word.split(":") for word in words[2:])
        here.append(_Recipe(words[0], words[1], budget, {int(most): int(each) for most, each in users}))
    return found


def disaggregated_plan(line: Line, plan: dict[str, Any]) -> dict[str, Any]:
    """The plan of a row with prefill and decode engines as its recipe has it; unchanged where none is known.

    Args:
        line: The row.
        plan: Plan fields as the row records them.
    """
    engine = line.text("backend")
    known = _KIMI if engine == "vllm" else _DEEPSEEK
    if not line.text("measured_on") or line.text("arch") not in (*_DEEPSEEK, *_KIMI):
        return plan
    options: dict[str, Any] = {"kv_dtype": "fp8"}
    recipe = _recipe(line, plan) if line.text("arch") in known else None
    if recipe is None:
        return {**plan, **options}
    users = line.whole("concurrency") or 0
    chosen = min((most for most in recipe.sequences if most >= users), default=max(recipe.sequences))
    decode = {**_ranks(recipe.decode), "max_num_seqs": recipe.sequences[chosen]}
    first = {**_ranks(recipe.prefill), "max_num_batched_tokens": recipe.budget}
    for pool in (decode, first):
        pool.update({**_exchange(line, pool), **_balancer(line, pool), **_library(line, pool)})
        if engine == "sglang":
            pool["kv_memory_frac"] = _static_share(line, pool, prompts=pool is first)
    if engine == "sglang" and decode["dp"] == 1 and line.text("system") == "gb200":
        decode["queue_interval"] = 10  # --scheduler-recv-interval of the low-latency recipes
    return {**plan, **options, **decode, "prefill": {**plan["prefill"], **first}}


def _recipe(line: Line, plan: dict[str, Any]) -> _Recipe | None:
    key = tuple(line.text(name) for name in ("backend", "system", "precision", "isl", "osl"))
    wanted = [(pool["replicas"], pool["tp"] * pool["dp"]) for pool in (plan["prefill"], plan)]
    users = line.whole("concurrency") or 0
    fitting = [
        recipe
        for recipe in _recipes().get(key, [])
        if [(one["replicas"], one["tp"] * one["dp"]) for one in map(_ranks, (recipe.prefill, recipe.decode))] == wanted
    ]
    above = [recipe for recipe in fitting if max(recipe.sequences) >= users]
    if above:
        return min(above, key=lambda recipe: min(most for most in recipe.sequences if most >= users))
    return max(fitting, key=lambda recipe: max(recipe.sequences), default=None)


def _ranks(engines: str) -> dict[str, Any]:
    """Plan fields of engines such as `2xdep8`."""
    count, kind = engines.split("x", 1)
    letters = kind.rstrip("0123456789")
    ranks = int(kind.removeprefix(letters))
    tp, dp = (1, ranks) if letters.startswith("d") else (ranks, 1)
    ep, moe_tp = (ranks, 1) if "e" in letters else (1, ranks)
    return {"replicas": int(count), "tp": tp, "dp": dp, "ep": ep, "moe_tp": moe_tp}


def _static_share(line: Line, pool: dict[str, Any], *, prompts: bool) -> float:
    """`mem-fraction-static` of SGLang's recipes: no engine of theirs is left to work it out."""
    if line.text("system") == "b200_sxm":
        return 0.85
    fp8, long = line.text("precision") == "fp8", (line.whole("isl") or 0) > 1024
    if pool["dp"] > 1:
        if not prompts:
            return 0.82 if fp8 else 0.83
        return (0.80 if long else 0.75) if fp8 else 0.84
    if fp8 and long:
        return 0.6 if prompts else 0.7
    return 0.95 if prompts or fp8 else 0.88


def _exchange(line: Line, pool: dict[str, Any]) -> dict[str, Any]:
    """All-to-all between experts where a recipe turns it on: DeepEP in SGLang's GB200 ones, NVLink in vLLM's."""
    if pool["dp"] == 1 or pool["ep"] == 1 or line.text("system") != "gb200":
        return {}
    engine, fp8 = line.text("backend"), line.text("precision") == "fp8"
    asked = engine == "vllm" or (engine == "sglang" and (fp8 or pool["dp"] > 8))
    return {"expert_exchange": "all_to_all"} if asked else {}


def _balancer(line: Line, pool: dict[str, Any]) -> dict[str, Any]:
    """Load balancers of experts, which TensorRT-LLM's FP4 recipes for GB200 have for many sequences on 16 ranks."""
    recipes = (line.text("backend"), line.text("system"), line.text("precision")) == ("trtllm", "gb200", "fp4")
    ranks, sequences = _BALANCED
    balanced = recipes and pool["ep"] == ranks and pool.get("max_num_seqs", 0) >= sequences
    return {"expert_balancer": True} if balanced else {}


def _library(line: Line, pool: dict[str, Any]) -> dict[str, Any]:
    """Library of the experts (`moe_config.backend`) that TensorRT-LLM's FP8 recipes for Blackwell choose.

    `TRTLLM` in all engines on B200 and, on GB200, where attention is divided; `DEEPGEMM`, its own choice, elsewhere.
    """
    if line.text("backend") != "trtllm" or line.text("precision") != "fp8":
        return {}
    system = line.text("system")
    generated = system == "b200_sxm" or (system == "gb200" and pool["dp"] == 1)
    return {"moe_backend": "trtllm-gen"} if generated else {}
