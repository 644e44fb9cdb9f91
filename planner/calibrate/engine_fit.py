r"""Fit an engine's overheads to measured runs: one joint, robust, shrunken fit.

Every parameter is :math:`\log\theta = \log\theta_0 + \sum_{levels} e`, an effect for the engine
family, for its version, and so on, each with a Gaussian prior: what few runs show stays
near what more runs show, and in the end near the kernels.  The objective is

.. math:: \sum_i \rho\!\left(\frac{\log \hat y_i - \log y_i}{\sigma}\right)
   + \sum_j (e_j - m_j)^2 / s_j^2

with usual values :math:`m` (0 but for :data:`USUAL`),

with soft-L1 :math:`\rho` (Cauchy for time to first token), minimised by Gauss-Newton with damping.

References
----------
.. [1] A. Gelman, J. Hill, "Data Analysis Using Regression and Multilevel/Hierarchical Models",
   Cambridge University Press, 2007 (partial pooling).
.. [2] P. J. Huber, E. M. Ronchetti, "Robust Statistics", Wiley, 2009.
.. [3] DeepSeek-AI, DeepEP, github.com/deepseek-ai/DeepEP, README (normal kernels: the host waits
   for received counts, hence no graphs).
.. [4] SGLang, github.com/sgl-project/sglang/pull/25195 and 31682 (graphs of prompts under
   data-parallel attention, the default since July 2026).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.evaluation.fitted import FACTORS, HOST, PARAMETERS
from planner.validation.engine_model import START, Sight, predict

Floats = NDArray[np.float64]

SIGMA = np.array([0.05, 0.20])
"""Spread of log(measured / predicted) that is expected of TPOT and TTFT."""

LEVELS = ("all", "weights", "family", "precision", "version", "part", "mode", "ranks")
"""Of :func:`planner.evaluation.fitted.groups`."""

OF_FACTOR = {"all": 0.12, "weights": 0.08, "family": 0.06, "precision": 0.05, "version": 0.05}
"""Level -> prior spread of the effect on a factor of kernels. [log]

None by part: what a part's kernels take is for calibrations to say.  Chosen on runs left out:
docs/runs.md."""

OF_HOST = {"family": 1.00, "version": 0.40, "part": 0.25, "mode": 0.40}
"""The same of host times."""

OF_STEP = {"family": 1.00, "version": 1.00}
"""The same of the host's time a step: one code in every mode and on every part."""

OF_PROMPT_STEP = {"family": 0.50, "version": 0.20, "part": 0.15, "mode": 0.20, "ranks": 0.40}
"""The same of the host's time of a step with prompts: 90 % between 1.5 and 16 ms.

Runs hardly tell it from work and waiting that the model lacks (with spreads of 1.0 they took 2 to
154 ms for it), which are not there at other loads and models."""

PRIORS: dict[str, dict[str, float]] = {
    **dict.fromkeys(FACTORS, OF_FACTOR),
    **dict.fromkeys(HOST, OF_HOST),
    "step_host": OF_STEP,
    "prefill_step_host": OF_PROMPT_STEP,
    "prefill": {**OF_FACTOR, "ranks": 0.08},
    "request_host": {**OF_HOST, "ranks": 0.40},
}
"""Parameter -> level -> prior spread of the effect. [log]

``ranks``: how attention and experts are divided where prompts are computed."""

USUAL: dict[tuple[str, str, str], float] = {
    ("prefill_step_host", "ranks", "sglang expert-parallel"): float(np.log(20.0)),
}
"""Effects whose prior is not around 0. [log]

Prompts under data-parallel attention with experts divided among the ranks: a time a step, not a
request, is what runs show.  Kernels are launched one by one on every rank [4]_, and where dispatch
makes the host wait for counts in every layer [3]_, launches do not run ahead of them: 61 layers of
some 25 launches each, 0.1 s in place of 5 ms (assumed; the runs say how much it is)."""

MATTERS = 3.84
"""Rise of -2 log likelihood above which runs do speak against a value (chi-squared, 95 %)."""

Key = tuple[str, str, str]
"""Parameter, level, group."""


@dataclass(frozen=True, eq=False)
class EngineFit:
    """Effects with their covariance."""

    keys: tuple[Key, ...]
    effects: Floats
    covariance: Floats
    prior_sd: Floats

    def theta(self, labels: dict[str, str]) -> Floats:
        """Values of all parameters for a run; a group that was not fitted adds nothing."""
        logs = np.array([np.log(START[name]) for name in PARAMETERS])
        for i, key in enumerate(self._chosen(labels)):
            if key is not None:
                logs[i] += sum(self.effects[j] for j in key)
        return np.asarray(np.exp(logs))

    def undetermined(self, labels: Sequence[dict[str, str]], share: float) -> set[Key]:
        """Return effects that bear on no parameter the runs determine.

        A parameter of a run is a sum of effects; runs may determine the sum though not its parts.
        It is undetermined where its standard error is above ``share`` of what the priors leave.

        Parameters
        ----------
        labels : of the runs that were fitted.
        """
        left = set(self.keys)
        for own in {tuple(sorted(each.items())): each for each in labels}.values():
            for chosen in self._chosen(own):
                spread = float(np.sqrt(np.sum(self.prior_sd[chosen] ** 2)))
                error = float(np.sqrt(self.covariance[np.ix_(chosen, chosen)].sum()))
                if chosen and error <= share * spread:
                    left.difference_update(self.keys[j] for j in chosen)
        return left

    def _chosen(self, labels: dict[str, str]) -> list[list[int]]:
        place = {key: j for j, key in enumerate(self.keys)}
        return [
            [
                place[name, level, labels[level]]
                for level in LEVELS
                if (name, level, labels[level]) in place
            ]
            for name in PARAMETERS
        ]


def prior_sd(name: str, level: str) -> float:
    """Prior spread of a level's effect on a parameter; 0: it has none. [log]"""
    return PRIORS[name].get(level, 0.0)


def keys_of(sights: Sequence[Sight]) -> tuple[Key, ...]:
    """Return the effects that these runs bear on."""
    found = {
        (name, level, sight.labels[level])
        for sight in sights
        for level in LEVELS
        for name in PARAMETERS
        if prior_sd(name, level) > 0
    }
    return tuple(sorted(found))


def fit(sights: Sequence[Sight], start: EngineFit | None = None, rounds: int = 60) -> EngineFit:
    """Fit all effects to the runs.

    Parameters
    ----------
    start : effects to start from.
    """
    keys = keys_of(sights)
    sd = np.array([prior_sd(name, level) for name, level, _ in keys])
    problem = _Problem(sights, keys, sd)
    usual = problem.usual
    effects = usual.copy()
    if start is not None:
        old = dict(zip(start.keys, start.effects, strict=True))
        effects = np.array([old.get(key, USUAL.get(key, 0.0)) for key in keys])
    cost, jac, res, weight = problem.linearised(effects)
    damping = 1e-3
    for _ in range(rounds):
        hessian = (jac * weight[:, None]).T @ jac + np.diag(1 / sd**2)
        gradient = jac.T @ (weight * res) + (effects - usual) / sd**2
        step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), -gradient)
        trial = problem.linearised(effects + step)
        if trial[0] <= cost:
            gain = cost - trial[0]
            effects = effects + step
            cost, jac, res, weight = trial
            damping = max(damping / 5, 1e-9)
            if gain < 1e-6 * (1 + cost):
                break
        else:
            damping *= 8
            if damping > 1e8:
                break
    hessian = (jac * weight[:, None]).T @ jac + np.diag(1 / sd**2)
    return EngineFit(keys, effects, np.asarray(np.linalg.inv(hessian), np.float64), sd)


def refused(sights: Sequence[Sight], found: EngineFit, share: float) -> set[Key]:
    """Return the effects that runs do not determine, by parameter.

    A time so short that it hardly matters has no slope by its logarithm and looks undetermined
    (:meth:`EngineFit.undetermined`), yet runs may well exclude a longer one: effects stay where
    runs fit worse without them by more than :data:`MATTERS`.
    """
    left = found.undetermined([sight.labels for sight in sights], share)
    problem = _Problem(sights, found.keys, found.prior_sd)
    best = problem.misfit(found.effects)
    for parameter in PARAMETERS:
        own = {key for key in left if key[0] == parameter}
        without = np.array([key not in own for key in found.keys])
        if own and problem.misfit(found.effects * without) - best > MATTERS:
            left -= own
    return left


class _Problem:
    """The runs as arrays."""

    def __init__(self, sights: Sequence[Sight], keys: tuple[Key, ...], sd: Floats) -> None:
        self.decode = np.array([s.decode for s in sights])
        self.prefill = np.array([s.prefill for s in sights])
        self.apart_s = np.array([s.apart_s for s in sights])
        self.measured = np.array([s.measured for s in sights])
        self.sd = sd
        self.design = np.zeros((len(PARAMETERS), len(sights), len(keys)))
        for j, (name, level, group) in enumerate(keys):
            at = PARAMETERS.index(name)
            self.design[at, :, j] = [s.labels[level] == group for s in sights]
        self.usual = np.array([USUAL.get(key, 0.0) for key in keys])
        self.base = np.log([START[name] for name in PARAMETERS])

    def linearised(self, effects: Floats) -> tuple[float, Floats, Floats, Floats]:
        """Cost, Jacobian and residuals (in units of their spread), and robust weights.

        Soft-L1 for TPOT; Cauchy for TTFT, where a queue may be anything.
        """
        theta = np.exp(self.base + (self.design @ effects).T)
        means, slopes = predict(self.decode, self.prefill, self.apart_s, theta)
        used = np.isfinite(self.measured)
        ratio = np.where(used, means / np.where(used, self.measured, 1.0), 1.0)
        res = np.log(np.maximum(ratio, 1e-9)) / SIGMA
        scaled = np.where(used[:, :, None], slopes / means[:, :, None], 0.0) / SIGMA[:, None]
        jac = np.zeros((*res.shape, len(effects)))
        for p in range(len(PARAMETERS)):
            jac += scaled[:, :, p, None] * self.design[p][:, None, :]
        bent = np.sqrt(1 + res**2)
        loss = np.where([True, False], 2 * (bent - 1), np.log1p(res**2))
        weight = used / np.where([True, False], bent, 1 + res**2)
        cost = float(np.sum(loss)) + self._of_priors(effects)
        flat = res.ravel()
        return cost, jac.reshape(len(flat), -1), flat, weight.ravel()

    def misfit(self, effects: Floats) -> float:
        """Cost without that of the priors."""
        return self.linearised(effects)[0] - self._of_priors(effects)

    def _of_priors(self, effects: Floats) -> float:
        return float(np.sum(((effects - self.usual) / self.sd) ** 2))
