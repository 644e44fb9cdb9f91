r"""How far the time of a step may be off: causes of error, each with its 5th and 95th percentile.

Causes are taken as independent, so their logarithms add by squares, above and below apart:

.. math:: \ln f_{95} = \sqrt{\sum_i h_i^2}, \qquad \ln f_{5} = -\sqrt{\sum_i l_i^2}

Serving runs that a fit had not seen were predicted with kernels of their own error, so an
engine's spread holds that of ordinary kernels; only what is above it counts beside it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from planner.evaluation.fitted import elsewhere, release_of
from planner.evaluation.replica import Replica
from planner.evaluation.widths import other_model, width_of
from planner.sourced import DOUBTFUL, Sourced
from planner.specs.base import Spec
from planner.specs.calibration import Achieved, AttentionVariant, CalibrationSpec, standing_in
from planner.specs.provenance import BORROWED, Provenance
from planner.step import Step

Z = 1.645
"""Standard deviations between the middle and the 95th percentile of a normal distribution."""

CONFIDENCE_LOG_SD: Mapping[str, float] = {
    "recalled": 0.05, "contradictory": 0.10, "estimate": 0.15, "assumed": 0.20,
}  # fmt: skip
"""Log-spread of a doubtful fact by its confidence word.  ``assumed`` is measured, 0.18 rounded up
(``scripts/measure_spreads.py``: parts of a step by the assumed shares against the fitted ones on
six fitted parts); the others are our own judgement."""

UNKNOWN_ENGINE = {"mean_tpot_s": (-0.33, 0.30), "mean_ttft_s": (-0.75, 1.65)}
"""5th and 95th percentile of log(measured / predicted) of 437 measured runs predicted without any
overheads fitted, or of runs whose engine was new to the fit where that is wider
(``scripts/measure_spreads.py``)."""

ORDINARY_KERNELS_LOG_SD = 0.07
"""Log-spread of a step from kernels alone, typical of the measured runs: what an engine's spread
already holds (``scripts/measure_spreads.py``)."""

UNKNOWN_HOST_LOG_SD = 0.7
"""Log-spread of an assumed host time a step: fitted engines differ by about a factor two."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One cause: 5th and 95th percentile of log(true time / predicted time)."""

    name: str
    low: float
    high: float
    about: str

    def __post_init__(self) -> None:
        if not self.low <= 0.0 <= self.high:
            raise ValueError(f"spread {self.name} must hold 0, got {self.low:g} to {self.high:g}")


def joint(spreads: Iterable[Spread]) -> tuple[float, float]:
    """5th and 95th percentile of the log of all causes together.

    References
    ----------
    .. [1] JCGM 100:2008, "Guide to the expression of uncertainty in measurement", 5.1.2.
    """
    found = list(spreads)
    return -math.hypot(*(s.low for s in found)), math.hypot(*(s.high for s in found))


def step_spreads(replica: Replica, steps: Iterable[tuple[Step, float]]) -> tuple[Spread, ...]:
    """Causes of error in the time of a replica's steps.

    Parameters
    ----------
    steps : steps with the share of busy time that is like each.
    """
    weighed = [(step, weight) for step, weight in steps if weight > 0]
    found = [engine_spread(replica, "mean_tpot_s"), kernel_spread(replica, weighed)]
    found += stated_peaks(replica, weighed)
    found += hiding(replica, weighed)
    found += acceptance(replica)
    return tuple(s for s in found if s.low < 0 or s.high > 0)


def engine_spread(replica: Replica, quantity: str) -> Spread:
    """Spread of a mean latency that fitted overheads leave, or that their absence leaves."""
    engine, part = replica.pool.engine, replica.hardware.accelerator.name
    who = engine.title or engine.name
    unknown = UNKNOWN_ENGINE[quantity]
    if engine.fit is None:
        low, high = unknown
        about = f"nothing is fitted for {who}: the spread of measured runs without any fit"
        return Spread("engine", low, high, about)
    label = f"{engine.name} {release_of(engine.version)} | {part} | {replica.model.name}"
    seen = label in engine.fit.combinations
    vendor = replica.hardware.accelerator.vendor
    low, high = width_of(engine.fit, quantity, vendor, replica.model.name, seen) or unknown
    if elsewhere(engine.fit, vendor):
        which = "reported runs on other makers' parts than those that were fitted"
    elif seen:
        which = "measured runs of configurations left out, this version, part and model fitted"
    elif other_model(engine.fit, replica.model.name):
        which = "measured runs of models left out, and reported runs of models that were not fitted"
    else:
        which = (
            "measured runs of versions, parts and models left out: this combination was not fitted"
        )
    return Spread("engine", min(low, 0.0), max(high, 0.0), f"{who}: {which}")


def kernel_spread(replica: Replica, steps: list[tuple[Step, float]]) -> Spread:
    """Spread from kernels and links, as far as it is above that of the measured runs."""
    log_sd = kernel_log_sd(replica, steps)
    extra = Z * math.sqrt(max(0.0, log_sd**2 - ORDINARY_KERNELS_LOG_SD**2))
    name = replica.hardware.calibration.name
    return Spread(
        "kernels", -extra, extra,
        f"residuals of the fits of {name}, and errors of transferred and assumed shares, above "
        "what measured runs hold",
    )  # fmt: skip


def kernel_log_sd(replica: Replica, steps: list[tuple[Step, float]]) -> float:
    """Log-spread of a step's time from its kernels: a law's error is one error wherever it is used.

    References
    ----------
    .. [1] JCGM 100:2008, 5.1.2 (shares of the step are the sensitivities).
    """
    shares: dict[str, float] = {}
    total = sum(step.time_s * weight for step, weight in steps)
    for step, weight in steps:
        for part in step.parts:
            shares[part.law] = shares.get(part.law, 0.0) + weight * part.time_s / total
        shares["host"] = shares.get("host", 0.0) + weight * step.overhead_s / total
    calibration = replica.hardware.calibration
    host = shares.pop("host", 0.0)
    own = host * UNKNOWN_HOST_LOG_SD if calibration.step_overhead_s.doubtful else 0.0
    if replica.pool.engine.overheads.step_host_s > 0:
        own = 0.0
    return math.hypot(own, *(w * law_log_sd(law, calibration) for law, w in shares.items()))


def law_log_sd(law: str, calibration: CalibrationSpec) -> float:
    """Log-spread of one law: its fit's residual, and what transfer or assumption adds."""
    if law.startswith("links/"):
        return _link_log_sd(law.removeprefix("links/"), calibration)
    family, _, kind = law.partition("/")
    if family in ("attention_decode", "attention_prefill"):
        laws: Mapping[str, Achieved] = getattr(calibration, f"{family}_variants")
        kind = standing_in(laws, cast(AttentionVariant, kind)) or ""
        law = f"{family}/{kind}"
    found = _achieved(calibration, family, kind)
    if found is None:
        return CONFIDENCE_LOG_SD["assumed"]
    made = calibration.provenance
    key = law if made and law in made.residual_sigma else family
    residual = made.residual_sigma.get(key, 0.0) if made else 0.0
    doubt = max((_word(v) for v in (found.compute_share, found.memory_share)), default=0.0)
    if made and made.transferred_from and not _has_rows(made, family):
        doubt = max(doubt, _transfer_log_sd(made, family, kind))
    if family == "elementwise" and not residual:
        return doubt
    if not residual and not doubt:  # read off published figures by hand
        return CONFIDENCE_LOG_SD["estimate"]
    return math.hypot(residual, doubt)


def _achieved(calibration: CalibrationSpec, family: str, kind: str) -> Achieved | None:
    if family in ("gemm", "grouped_gemm"):
        table: Mapping[str, Achieved] = getattr(calibration, family)
        stored = {str(name): law for name, law in calibration.stored_experts.items()}
        return table.get(kind) or stored.get(kind)
    if family == "elementwise":
        return calibration.elementwise
    if family in ("attention_decode", "attention_prefill"):
        variants: Mapping[str, Achieved] = getattr(calibration, f"{family}_variants")
        base: Achieved = getattr(calibration, family)
        return variants.get(kind, base)
    return None


def _word(value: Sourced) -> float:
    return CONFIDENCE_LOG_SD.get(value.confidence, 0.0)


_ROWS = {"grouped_gemm": ("grouped_gemm", "moe_layer")}


def _has_rows(made: Provenance, family: str) -> bool:
    return any(r.used and r.family in _ROWS.get(family, (family,)) for r in made.rows)


def _transfer_log_sd(made: Provenance, family: str, kind: str) -> float:
    """Error of shares taken from another part, as held out where both were measured."""
    kind = kind if family in ("gemm", "grouped_gemm") else ""
    found = [
        h.p90_abs_error
        for h in made.held_out
        if h.split in ("part", *BORROWED)
        and h.family in _ROWS.get(family, (family,))
        and h.dtype.startswith(kind)
    ]
    if not found:
        return CONFIDENCE_LOG_SD["assumed"]
    return math.log1p(max(found)) / Z


def _link_log_sd(name: str, calibration: CalibrationSpec) -> float:
    links = calibration.links
    law: Spec | None
    if name == "all_to_all":
        key, law = f"exchanges/{links.low_latency}/", links.exchanges.get(links.low_latency)
    elif name == "all_reduce" and links.direct:
        key, law = "direct", links.direct
    else:
        ring = links.rings.get(name)  # type: ignore[call-overload]
        key, law = f"rings/{name}", ring
    if law is None:
        return CONFIDENCE_LOG_SD["assumed"]
    made = links.provenance
    residual = [v for k, v in made.residual_sigma.items() if k.startswith(key)] if made else []
    moved = bool(made and made.transferred_from)
    doubt = max((_word(v) for v in _numbers(law) if v), default=0.0)
    if moved:
        doubt = max(doubt, CONFIDENCE_LOG_SD["estimate"])
    return math.hypot(max(residual, default=0.0), doubt)


def _numbers(law: Spec) -> Iterable[Sourced]:
    for name in type(law).model_fields:
        value = getattr(law, name)
        if isinstance(value, Sourced):
            yield value
        elif isinstance(value, Spec):
            yield from _numbers(value)


def stated_peaks(replica: Replica, steps: list[tuple[Step, float]]) -> list[Spread]:
    """Doubtful facts of the part: bandwidth, matrix rates, links."""
    part, system = replica.hardware.accelerator, replica.hardware.system
    rates = [r for _, r in part.dense_flop_per_s if r is not None]
    facts = {
        "memory": [part.memory_bytes_per_s],
        "compute": rates,
        "network": [system.scale_up.bytes_per_s],
    }
    total = sum(step.time_s * weight for step, weight in steps)
    found = []
    for bound, numbers in facts.items():
        log_sd = max((_word(n) for n in numbers if n.confidence in DOUBTFUL), default=0.0)
        share = sum(step.by_bound().get(bound, 0.0) * w for step, w in steps) / total
        if log_sd and share:
            low, high = of_share(min(share, 1.0), log_sd)
            found.append(Spread(f"stated {bound}", low, high, f"{part.title}: a doubtful fact"))
    return found


def of_share(share: float, log_sd: float) -> tuple[float, float]:
    """Percentiles of a whole of which a share is off by a log-normal factor."""
    return (
        math.log1p(share * math.expm1(-Z * log_sd)),
        math.log1p(share * math.expm1(Z * log_sd)),
    )


def hiding(replica: Replica, steps: list[tuple[Step, float]]) -> list[Spread]:
    """An assumed share of communication that computation hides: all of it, or none."""
    share = replica.pool.overlap_share
    if replica.pool.overlap != "share" or not share:
        return []
    total = sum(step.time_s * weight for step, weight in steps)
    hidden = sum(max(0.0, step.hidden_s) * weight for step, weight in steps) / total
    rest = min(hidden * (1 / share - 1), 0.9)
    return [
        Spread(
            "hidden communication", math.log1p(-rest), math.log1p(hidden),
            f"overlap_share {share:g} is assumed: from nothing hidden to everything",
        )
    ]  # fmt: skip


def acceptance(replica: Replica) -> list[Spread]:
    """Accepted draft tokens: they depend on the text."""
    spec = replica.pool.speculative
    if spec is None:
        return []
    log_sd = CONFIDENCE_LOG_SD["contradictory" if spec.source else "estimate"]
    return [Spread("accepted tokens", -Z * log_sd, Z * log_sd, "acceptance depends on the text")]


def widened(
    point: float, interval: tuple[float, float], logs: tuple[float, float]
) -> tuple[float, float]:
    """Squares of logarithms added on both sides of a point inside an interval."""
    if not point:
        return interval
    low = math.hypot(math.log(max(interval[0], 1e-9 * point) / point), logs[0])
    high = math.hypot(math.log(interval[1] / point), logs[1])
    return point * math.exp(-low), point * math.exp(high)
