"""The embedded backend: numpy on this machine's processor."""

import math
from typing import Any

import numpy as np

from . import cpu_kernels as kernels
from . import cpu_reference as exact
from . import device, work
from .blas import Blas, said
from .case import TOLERANCE, Case, Check, measured
from .cpu_kernels import Array, Doubles
from .points import Point
from .recorded import Recorded
from .routing import Routed, route
from .timing import by_clock, sets_past_cache

CACHE_BYTES = 64e6
"""Operands rotate over this much memory, more than the caches of the processors it is run on."""
CHECK_ELEMENTS = 1 << 24
"""Multiplications above which the reference is made of part of the rows only."""
POOL_ELEMENTS = 1 << 25
"""Random numbers from which large operands are cut; small ones are drawn afresh."""


def relative_error(got: Array, reference: Doubles) -> float:
    """Norm of the difference over the norm of the reference."""
    norm = float(np.linalg.norm(reference))
    return float(np.linalg.norm(got.astype(np.float64) - reference)) / max(norm, 1e-300)


class CpuBackend:
    """Every operation in numpy, fp32, timed by the host's clock."""

    name = "cpu"

    def __init__(self, seed: int, quick: bool = False, recorded: Recorded | None = None) -> None:
        self._seed, self._recorded = seed, recorded
        self._blas = Blas()
        self._threads = self._blas.threads()
        if not said():
            self._blas.limit(1)
        self._target_s = 2e-4 if quick else 6e-3
        self._cache_bytes = 1e6 if quick else CACHE_BYTES
        pool = np.random.default_rng(seed)
        size = 1 << 20 if quick else POOL_ELEMENTS
        self._pool: Array = pool.standard_normal(size, dtype=np.float32)
        self._cursor = 0

    def header(self, seed: int, budget_s: float) -> dict[str, Any]:
        """First line of the rows."""
        return device.header("cpu", seed, budget_s, blas_threads=self._blas.threads())

    def prepare(self, points: list[Point]) -> None:
        """Warm BLAS up: what threads it has start at the first product."""
        ones = np.ones((256, 256), dtype=np.float32)
        for _ in range(20):
            ones @ ones

    def recover(self, error: Exception) -> bool:
        """Nothing is held between points."""
        return True

    def close(self) -> None:
        """Give BLAS its threads back."""
        if self._threads is not None:
            self._blas.limit(self._threads)

    def measure(self, point: Point) -> dict[str, Any]:
        """Check against float64, then time."""
        self._cursor = 0
        rng = np.random.default_rng([self._seed, *point.label().encode()])
        case = getattr(self, f"_{_builder(point.op)}")(point, rng)
        error = case.check().passed() if case.check else None
        timed = by_clock(case.call, case.sets, self._target_s)
        return {**measured(case, error, timed.as_dict()), "clock_mhz": None}

    def _draw(self, rng: np.random.Generator, *shape: int) -> Array:
        """Draw normal numbers, never zeros: afresh if few, else the next of the pool."""
        size = math.prod(shape)
        if not 1 << 18 < size <= len(self._pool):
            return rng.standard_normal(shape, dtype=np.float32)
        if self._cursor + size > len(self._pool):
            self._cursor = 0
        self._cursor += size
        return self._pool[self._cursor - size : self._cursor].reshape(shape)

    def _routed(self, point: Point, rng: np.random.Generator) -> Routed:
        names = ("group_tokens", "experts", "local_experts", "top_k")
        tokens, experts, local, top_k = (int(point.shape[name]) for name in names)
        name = str(point.shape["distribution"])
        by = self._recorded if self._recorded and name == "recorded" else name
        here = route(tokens, experts, local, top_k, by, rng)
        if not here.pairs:
            raise ValueError("no token of this batch picks an expert of this device")
        return here

    def _sets(self, operand_bytes: float, most: int = 64) -> int:
        return sets_past_cache(operand_bytes, self._cache_bytes, most)

    def _launch(self, point: Point, rng: np.random.Generator) -> Case:
        x, out = self._draw(rng, 1), self._draw(rng, 1)
        return Case(lambda _: np.add(x, x, out=out), work.Work(0, 0), note="one call of numpy")

    def _memory(self, point: Point, rng: np.random.Generator) -> Case:
        moved = int(point.shape["bytes"])
        size = moved // (2 if point.op == "hbm_copy" else 1)
        sets = self._sets(moved)
        x = self._draw(rng, sets, size // 4)
        if point.op == "hbm_read":
            done = Case(lambda i: x[i].max(), work.Work(0, moved), sets)
            done.check = lambda: _check(
                np.array([x[0].max()]), np.array([float(x[0].astype(np.float64).max())])
            )
            return done
        if point.op == "hbm_write":
            x = x.copy()  # the pool stays as it is
            return Case(lambda i: x[i].fill(1.5), work.Work(0, moved), sets)
        out = np.empty_like(x)
        return Case(lambda i: np.copyto(out[i], x[i]), work.Work(0, moved), sets)

    def _gemm(self, point: Point, rng: np.random.Generator) -> Case:
        m, k, n = (int(point.shape[name]) for name in ("m", "k", "n"))
        sets = self._sets(4.0 * k * n)
        x, weights = self._draw(rng, m, k), self._draw(rng, sets, n, k)
        out = np.empty((m, n), dtype=np.float32)

        def check() -> Check:
            some = slice(None, max(1, CHECK_ELEMENTS // (k * n)))
            got = np.matmul(x, weights[0].T)[some]
            return _check(got, x[some].astype(np.float64) @ weights[0].T.astype(np.float64))

        return Case(
            lambda i: np.matmul(x, weights[i].T, out=out),
            work.gemm(m, k, n, "fp32"), sets, check,
        )  # fmt: skip

    def _grouped_gemm(self, point: Point, rng: np.random.Generator) -> Case:
        here, k, n = self._routed(point, rng), int(point.shape["k"]), int(point.shape["n"])
        _, starts = kernels.permute(here.ids, len(here.counts))
        sets = self._sets(4.0 * here.touched * k * n, 8)
        x, weights = self._draw(rng, here.pairs, k), self._draw(rng, sets, len(here.counts), n, k)
        out = np.empty((here.pairs, n), dtype=np.float32)

        def check() -> Check:
            expert = int(np.argmax(here.counts))
            rows = slice(starts[expert], starts[expert + 1])
            got = kernels.grouped_gemm(x, weights[0], starts, out)[rows]
            return _check(got, x[rows].astype(np.float64) @ weights[0][expert].T.astype(np.float64))

        return Case(
            lambda i: kernels.grouped_gemm(x, weights[i], starts, out),
            work.grouped_gemm(here.pairs, here.pairs, here.touched, k, n, "fp32"),
            sets, check, _counts(here),
        )  # fmt: skip

    def _moe_layer(self, point: Point, rng: np.random.Generator) -> Case:
        here, hidden = self._routed(point, rng), int(point.shape["hidden"])
        width = int(point.shape["intermediate"])
        sets = self._sets(12.0 * here.touched * hidden * width, 8)
        x = self._draw(rng, here.tokens, hidden) * np.float32(hidden**-0.5)  # gates of order one
        weights = _picked(rng, here)
        up = self._draw(rng, sets, len(here.counts), 2 * width, hidden)
        down = self._draw(rng, sets, len(here.counts), hidden, width)

        def check() -> Check:
            got = kernels.moe_layer(x, here.ids, weights, up[0], down[0])
            few = min(here.tokens, max(1, CHECK_ELEMENTS // (3 * hidden * width)))
            return _check(got[:few], exact.moe_layer(x[:few], here.ids, weights, up[0], down[0]))

        return Case(
            lambda i: kernels.moe_layer(x, here.ids, weights, up[i], down[i]),
            work.moe_layer(here.tokens, here.pairs, here.touched, hidden, width, "fp32"),
            sets, check, _counts(here), "permute to weighted sum",
        )  # fmt: skip

    def _moe_permute(self, point: Point, rng: np.random.Generator) -> Case:
        here = self._routed(point, rng)
        experts = len(here.counts)

        def check() -> Check:
            order, starts = kernels.permute(here.ids, experts)
            found = np.repeat(np.arange(experts), np.diff(starts))
            return _check(found.astype(np.float32), here.ids.ravel()[order].astype(np.float64))

        return Case(
            lambda _: kernels.permute(here.ids, experts),
            work.permute(here.ids.size, experts), 1, check, _counts(here),
        )  # fmt: skip

    def _moe_combine(self, point: Point, rng: np.random.Generator) -> Case:
        here, hidden = self._routed(point, rng), int(point.shape["hidden"])
        order, _ = kernels.permute(here.ids, len(here.counts))
        rows, weights = self._draw(rng, here.pairs, hidden), _picked(rng, here)

        def check() -> Check:
            reference = np.zeros((here.tokens, hidden))
            scaled = rows.astype(np.float64) * weights.ravel()[order, None]
            np.add.at(reference, order // here.ids.shape[1], scaled)
            return _check(kernels.combine(rows, order, weights, here.tokens), reference)

        return Case(
            lambda _: kernels.combine(rows, order, weights, here.tokens),
            work.combine(here.tokens, here.pairs, hidden, "fp32"), 1, check, _counts(here),
        )  # fmt: skip

    def _moe_router(self, point: Point, rng: np.random.Generator) -> Case:
        tokens, experts, top_k = (int(point.shape[n]) for n in ("tokens", "experts", "top_k"))
        logits = self._draw(rng, tokens, experts)
        bias = self._draw(rng, experts) * np.float32(0.01)
        plain = point.shape["variant"] == "softmax"

        def call(turn: int) -> tuple[kernels.Ints, Array]:
            if plain:
                return kernels.route_softmax(logits, top_k)
            return kernels.route_sigmoid_grouped(
                logits, bias, top_k, exact.GROUPS, exact.TOP_GROUPS
            )

        def check() -> Check:
            got = np.zeros((tokens, experts), dtype=np.float32)
            np.put_along_axis(got, *call(0), axis=1)
            return _check(got, exact.router(logits, None if plain else bias, top_k))

        return Case(call, work.router(tokens, experts, top_k), 1, check)

    def _attention_decode(self, point: Point, rng: np.random.Generator) -> Case:
        if point.shape["variant"] == "gqa":
            return self._gqa_decode(point, rng)
        names = ("sequences", "context_tokens", "heads", "kv_lora_rank", "rope_dim")
        sequences, total, heads, latent, rope = (int(point.shape[name]) for name in names)
        query = self._draw(rng, sequences, heads, latent + rope)
        sets = self._sets(4.0 * total * (latent + rope), 16)
        cache = self._draw(rng, sets, sequences, total // sequences, latent + rope)
        scale = (latent + rope) ** -0.5

        def check() -> Check:
            got = kernels.mla_decode(query[:1], cache[0][:1], latent, scale)
            keys = cache[0][0].astype(np.float64)
            share = exact.softmax(query[0].astype(np.float64) @ keys.T * scale)
            return _check(got[0], share @ keys[:, :latent])

        return Case(
            lambda i: kernels.mla_decode(query, cache[i], latent, scale),
            work.mla_decode(sequences, total, heads, latent, rope, "fp32"), sets, check,
        )  # fmt: skip

    def _gqa_decode(self, point: Point, rng: np.random.Generator) -> Case:
        names = ("sequences", "context_tokens", "heads", "kv_heads", "head_dim")
        sequences, total, heads, kv_heads, size = (int(point.shape[name]) for name in names)
        sets = self._sets(8.0 * total * kv_heads * size, 16)
        query = self._draw(rng, sequences, kv_heads, heads // kv_heads, size)
        keys, values = (
            self._draw(rng, sets, sequences, kv_heads, total // sequences, size) for _ in "kv"
        )

        def check() -> Check:
            q, k, v = (part[:1].astype(np.float64) for part in (query, keys[0], values[0]))
            share = exact.softmax(q @ k.swapaxes(-1, -2) * size**-0.5)
            return _check(kernels.gqa_decode(query[:1], keys[0][:1], values[0][:1]), share @ v)

        return Case(
            lambda i: kernels.gqa_decode(query, keys[i], values[i]),
            work.gqa_decode(sequences, total, heads, kv_heads, size, "fp32"), sets, check,
        )  # fmt: skip

    def _attention_prefill(self, point: Point, rng: np.random.Generator) -> Case:
        names = ("sequences", "tokens", "heads", "kv_heads", "head_dim")
        sequences, tokens, heads, kv_heads, size = (int(point.shape[name]) for name in names)
        length = tokens // sequences
        query = self._draw(rng, sequences, kv_heads, heads // kv_heads, length, size)
        keys, values = (self._draw(rng, sequences, kv_heads, 1, length, size) for _ in "kv")
        pairs = work.causal_pairs(sequences, length)

        def check() -> Check:
            q, k, v = (part[:1, :1].astype(np.float64) for part in (query, keys, values))
            score = q @ k.swapaxes(-1, -2) * size**-0.5
            score[..., ~np.tri(length, dtype=bool)] = -np.inf
            return _check(kernels.prefill(query, keys, values)[:1, :1], exact.softmax(score) @ v)

        return Case(
            lambda _: kernels.prefill(query, keys, values),
            work.prefill(tokens, pairs, heads, kv_heads, (size, size), "fp32"),
            1, check, {"pairs": pairs},
        )  # fmt: skip

    def _elementwise(self, point: Point, rng: np.random.Generator) -> Case:
        tokens, hidden = int(point.shape["tokens"]), int(point.shape["hidden"])
        x, weight = self._draw(rng, tokens, hidden), self._draw(rng, hidden)
        match point.shape["variant"]:
            case "rms_norm":
                wide = x.astype(np.float64)
                norm = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-6) * weight
                return Case(
                    lambda _: kernels.rms_norm(x, weight), work.Work(0, 8 * x.size), 1,
                    lambda: _check(kernels.rms_norm(x, weight), norm),
                )  # fmt: skip
            case "silu_mul":
                both = self._draw(rng, tokens, 2 * hidden)
                gate, up = np.split(both.astype(np.float64), 2, axis=1)
                return Case(
                    lambda _: kernels.silu_mul(both), work.silu_mul(tokens, hidden, "fp32"), 1,
                    lambda: _check(kernels.silu_mul(both), gate / (1 + np.exp(-gate)) * up),
                )  # fmt: skip
            case _:
                angle = rng.uniform(0, 6, (tokens, hidden // 2))
                turn = x[:, : hidden // 2].astype(np.float64) + 1j * x[:, hidden // 2 :]
                turn = turn * np.exp(1j * angle)
                cosine, sine = (f(angle).astype(np.float32) for f in (np.cos, np.sin))
                return Case(
                    lambda _: kernels.rope(x, cosine, sine), work.Work(0, 12 * x.size), 1,
                    lambda: _check(
                        kernels.rope(x, cosine, sine), np.concatenate([turn.real, turn.imag], 1)
                    ),
                )  # fmt: skip


def _builder(op: str) -> str:
    return "memory" if op.startswith("hbm_") else op


def _check(got: Array, reference: Doubles) -> Check:
    return Check(relative_error(got, reference), TOLERANCE["fp32"])


def _picked(rng: np.random.Generator, here: Routed) -> Array:
    return rng.uniform(0.5, 1.5, here.ids.shape).astype(np.float32)


def _counts(here: Routed) -> dict[str, int]:
    largest = int(here.counts.max())
    return {
        "tokens": here.tokens, "pairs": here.pairs, "touched": here.touched, "largest": largest
    }  # fmt: skip
