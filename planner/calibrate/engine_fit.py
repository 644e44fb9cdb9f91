r"""Fit an engine's overheads to measured runs: one joint, robust, shrunken fit.

Every parameter is :math:`\log\theta = \log\theta_0 + \sum_{levels} e`, an effect for the engine
family, for its version, and so on, each with a Gaussian prior around 0: what few runs show stays
near what more runs show, and in the end near the kernels.  The objective is

.. math:: \sum_i \rho\!\left(\frac{\log \hat y_i - \log y_i}{\sigma}\right) + \sum_j e_j^2 / s_j^2

with soft-L1 :math:`\rho`, minimised by Gauss-Newton with damping.

References
----------
.. [1] A. Gelman, J. Hill, "Data Analysis Using Regression and Multilevel/Hierarchical Models",
   Cambridge University Press, 2007 (partial pooling).
.. [2] P. J. Huber, E. M. Ronchetti, "Robust Statistics", Wiley, 2009.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.engine_model import FACTORS, PARAMETERS, START, Sight, predict

Floats = NDArray[np.float64]

SIGMA = np.array([0.05, 0.20])
"""Spread of log(measured / predicted) that is expected of TPOT and TTFT."""

LEVELS: dict[str, tuple[float, float]] = {
    "family": (0.40, 1.20),
    "precision": (0.25, 0.0),
    "version": (0.15, 0.50),
    "part": (0.15, 0.30),
    "mode": (0.0, 0.50),
}
"""Level -> prior spread of the effect on a factor, and on a host time (0: none). [log]"""

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
        return np.exp(logs)

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

    def log_sd(self, labels: dict[str, str], slopes: Floats) -> float:
        """Spread of log(prediction) from the parameters, unseen groups by their prior.

        Parameters
        ----------
        slopes : derivative of log(prediction) by each log(parameter).
        """
        weights = np.zeros(len(self.keys))
        unseen = 0.0
        place = {key: j for j, key in enumerate(self.keys)}
        for i, name in enumerate(PARAMETERS):
            for level in LEVELS:
                j = place.get((name, level, labels[level]))
                if j is not None:
                    weights[j] += slopes[i]
                else:
                    unseen += (slopes[i] * _prior(name, level)) ** 2
        return float(np.sqrt(weights @ self.covariance @ weights + unseen))


def _prior(name: str, level: str) -> float:
    return LEVELS[level][0 if name in FACTORS else 1]


def keys_of(sights: Sequence[Sight]) -> tuple[Key, ...]:
    """Return the effects that these runs bear on."""
    found = {
        (name, level, sight.labels[level])
        for sight in sights
        for level in LEVELS
        for name in PARAMETERS
        if _prior(name, level) > 0
    }
    return tuple(sorted(found))


def fit(sights: Sequence[Sight], start: EngineFit | None = None, rounds: int = 60) -> EngineFit:
    """Fit all effects to the runs.

    Parameters
    ----------
    start : effects to start from.
    """
    keys = keys_of(sights)
    place = {key: j for j, key in enumerate(keys)}
    sd = np.array([_prior(name, level) for name, level, _ in keys])
    rows = [
        [
            [place[name, level, s.labels[level]] for level in LEVELS
             if (name, level, s.labels[level]) in place]
            for name in PARAMETERS
        ]
        for s in sights
    ]  # fmt: skip
    effects = np.zeros(len(keys))
    if start is not None:
        old = dict(zip(start.keys, start.effects, strict=True))
        effects = np.array([old.get(key, 0.0) for key in keys])
    cost, jac, res, weight = _linearised(sights, rows, effects, sd)
    damping = 1e-3
    for _ in range(rounds):
        hessian = (jac * weight[:, None]).T @ jac + np.diag(1 / sd**2)
        gradient = jac.T @ (weight * res) + effects / sd**2
        step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), -gradient)
        trial = _linearised(sights, rows, effects + step, sd)
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
    return EngineFit(keys, effects, np.linalg.inv(hessian), sd)


def _linearised(
    sights: Sequence[Sight], rows: list[list[list[int]]], effects: Floats, sd: Floats
) -> tuple[float, Floats, Floats, Floats]:
    """Cost, Jacobian and residuals (in units of their spread), and robust weights."""
    base = np.array([np.log(START[name]) for name in PARAMETERS])
    jac = np.zeros((2 * len(sights), len(effects)))
    res = np.zeros(2 * len(sights))
    used = np.zeros(2 * len(sights))
    for i, (sight, chosen) in enumerate(zip(sights, rows, strict=True)):
        theta = np.exp([b + sum(effects[j] for j in js) for b, js in zip(base, chosen, strict=True)])
        means, slopes = predict(sight, theta)
        for which in range(2):
            if not np.isfinite(sight.measured[which]):
                continue
            at = 2 * i + which
            used[at] = 1.0
            res[at] = np.log(means[which] / sight.measured[which]) / SIGMA[which]
            for p, js in enumerate(chosen):
                jac[at, js] += slopes[which, p] / means[which] / SIGMA[which]
    robust = 1 / np.sqrt(1 + res**2)
    cost = float(np.sum(2 * (np.sqrt(1 + res**2) - 1) * used) + np.sum((effects / sd) ** 2))
    return cost, jac, res, robust * used
