"""Overheads of a serving engine as fitted to measured runs: looked up for one pool."""

import re
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.sourced import Sourced
from planner.specs.deployment import Pool
from planner.specs.model import ModelSpec
from planner.specs.overheads import (
    SHARED_LEVELS,
    EngineOverheads,
    HeldOutError,
    OverheadsFit,
    kernel_kind,
)

Mode = Literal["aggregated", "disaggregated"]

FACTORS = ("gemm", "moe", "attention", "prefill_attention", "floor", "comm", "prefill")
"""Measured over calibrated time."""
HOST = ("step_host", "prefill_step_host", "row_host", "request_host")
"""Times outside kernels. [s]"""
PARAMETERS = FACTORS + HOST

_FIELDS = {
    **{name: f"{name}_factor" for name in FACTORS},
    "step_host": "step_host_s", "prefill_step_host": "prefill_step_host_s",
    "row_host": "per_sequence_step_host_s", "request_host": "request_host_s",
}  # fmt: skip

LAYERS = 61
"""Layers of the models that were fitted (60 to 62): the host's time of a step with prompts is that
of launching this many, and a model of fewer takes its share (an assumption; no more for a model
of more: runs had none)."""

_FORMATS = {"nvfp4": "fp4"}
"""Checkpoint formats that measured runs call otherwise."""


def theta_of(stored: OverheadsFit, labels: Mapping[str, str]) -> NDArray[np.float64]:
    """Values of :data:`PARAMETERS`; a group that was never fitted adds nothing.

    Raises
    ------
    InputError
        The fit is of other parameters.
    """
    missing = [name for name in PARAMETERS if name not in stored.start]
    if missing:
        raise InputError("", "start", f"lacks {', '.join(missing)}: fit the engines again")
    logs = {name: float(np.log(stored.start[name])) for name in PARAMETERS}
    for effect in stored.effects:
        if labels.get(effect.level) == effect.group:
            logs[effect.parameter] += effect.log_effect
    return np.exp([logs[name] for name in PARAMETERS])


Whose = Literal["own", "all", "none"]
"""Whose kernel factors a model takes: the engine's, those of all engines, or calibrated ones."""


def kernels_from(stored: OverheadsFit, family: str, model: ModelSpec) -> Whose:
    """Whose runs were of models with the same kinds of kernels."""
    kind = kernel_kind(model)
    if not stored.kernel_kinds or f"{family} {kind}" in stored.kernel_kinds:
        return "own"
    known = {each.split(" ", maxsplit=1)[1] for each in stored.kernel_kinds}
    return "all" if kind in known else "none"


def theta_for(
    stored: OverheadsFit, labels: Mapping[str, str], model: ModelSpec
) -> NDArray[np.float64]:
    """:func:`theta_of`, for one model.

    Factors of kernels were fitted on kernels.  Where an engine has no run of a model with the same
    kinds of attention and experts, only the effects that belong to no engine change them; where no
    engine has one (dense models, so far), kernels take the time they were calibrated to.  Host
    times are the engine's own; that of a step with prompts is shorter for a model of fewer layers
    (:data:`LAYERS`).
    """
    theta = theta_of(stored, labels)
    theta[PARAMETERS.index("prefill_step_host")] *= min(1.0, model.layers / LAYERS)
    match kernels_from(stored, labels["family"], model):
        case "own":
            pass
        case "all":
            common = {level: group for level, group in labels.items() if level in SHARED_LEVELS}
            theta[: len(FACTORS)] = theta_of(stored, common)[: len(FACTORS)]
        case "none":
            theta[: len(FACTORS)] = 1.0
    return theta


def overheads_of(theta: NDArray[np.float64], source: str) -> EngineOverheads:
    """Write parameters as a scenario takes them."""
    return EngineOverheads(
        **{
            _FIELDS[name]: Sourced(float(value), source, confidence="derived")
            for name, value in zip(PARAMETERS, theta, strict=True)
        }
    )


_BUILD = re.compile(r"[.-]?(?:post|pre|rc|dev)\d*")
"""Parts of a version that name a build of a release (``0.5.8.post1``, ``1.2.0rc6.post2``)."""


def release_of(version: str) -> str:
    """Return the release that a version is a build of: builds share their code and their fit."""
    return _BUILD.sub("", version) if re.match(r"(?:[a-z]+-)?\d", version) else version


def groups(
    version: str, weights: str, part: str, mode: str, attention_dp: int, moe_ep: int
) -> dict[str, str]:
    """Return the group at every level of the fit.

    Parameters
    ----------
    version : family and version of the engine, a space between; builds of one release are one.
    attention_dp, moe_ep : attention and expert ranks of a replica that computes prompts.
    """
    family, _, build = version.partition(" ")
    apart = "tensor" if attention_dp == 1 else "data" if moe_ep == 1 else "expert"
    return {
        "all": "all",
        "weights": weights,
        "family": family,
        "precision": f"{family} {weights}",
        "version": f"{family} {release_of(build)}",
        "part": part,
        "mode": f"{family} {mode}",
        "ranks": f"{family} {apart}-parallel",
    }


def labels_of(pool: Pool, part: str, mode: Mode) -> dict[str, str]:
    """Return the group of a pool at every level of the fit."""
    weights = _FORMATS.get(pool.weights, pool.weights)
    version = f"{pool.engine.name} {pool.engine.version}"
    division = pool.parallelism
    return groups(version, weights, part, mode, division.attention_dp, division.moe_ep)


def with_fitted(pool: Pool, part: str, mode: Mode, model: ModelSpec) -> Pool:
    """Return the pool with its engine's fitted overheads for this part, format and mode.

    An overhead that was stated stays as it is.  An engine without a fit is left alone.

    Parameters
    ----------
    part : name of the accelerator.
    mode : whether prompts and answers have pools of their own.
    model : what runs; see :func:`theta_for`.
    """
    stored = pool.engine.fit
    if stored is None:
        return pool
    theta = theta_for(stored, labels_of(pool, part, mode), model)
    fitted = overheads_of(theta, stored.source)
    given = pool.engine.overheads
    changed = {
        name: getattr(fitted, name)
        for name in _FIELDS.values()
        if _neutral(getattr(given, name)) and not _neutral(getattr(fitted, name))
    }
    overheads = given.model_copy(update=changed)
    engine = pool.engine.model_copy(update={"overheads": overheads})
    return pool.model_copy(update={"engine": engine})


def _neutral(value: Sourced) -> bool:
    """Whether nobody has stated or fitted this overhead."""
    return value.note == "not fitted" and value.source == "assumption"


def elsewhere(stored: OverheadsFit, vendor: str) -> bool:
    """Whether no run on any part of this maker was fitted."""
    return bool(stored.makers) and vendor not in stored.makers


def unseen(pool: Pool, part: str, model: str) -> tuple[str, ...]:
    """What of a pool the fit has no runs of: ``versions``, ``parts``, ``models``."""
    stored = pool.engine.fit
    if stored is None:
        return ()
    seen = [combination.split(" | ") for combination in stored.combinations]
    wanted = (f"{pool.engine.name} {release_of(pool.engine.version)}", part, model)
    names = ("versions", "parts", "models")
    return tuple(name for i, name in enumerate(names) if all(row[i] != wanted[i] for row in seen))


def expected_error(
    pool: Pool, part: str, model: str, quantity: str = "mean_tpot_s"
) -> HeldOutError | None:
    """Return the fit's error on runs of a kind it had not seen: of several kinds the largest.

    Where version, part and model all occur in the fit, the error of configurations left out.
    """
    stored = pool.engine.fit
    if stored is None:
        return None
    kinds = unseen(pool, part, model) or ("configurations",)
    found = [e for e in stored.held_out if e.left_out in kinds and e.quantity == quantity]
    return max(found, key=lambda e: e.median_abs_error, default=None)
