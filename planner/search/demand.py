"""What a run asks for at least: its own requests, and what they leave undone at its end."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.serving import generate
from planner.serving.arrivals import RequestStream
from planner.specs.workload import Run, Workload
from planner.workloads import Traffic, resolve_run

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Demand:
    """A run's own requests beside the traffic they are drawn from."""

    share: float = 1.0
    """Of the expected requests, prompt and answer tokens, the least that the run has; at most 1."""
    warmup_s: float = 0.0
    answers: FloatArray | None = None
    """Tokens of every counted answer; None: not known before the run."""

    def done_share(self, pace_s: float, duration_s: float) -> float:
        r"""Share of the window's answer tokens that must be produced before its end.

        An answer of ``o`` tokens at a pace ``p`` takes :math:`\tau = p\,o`.  What is begun in the
        window and not done at its end is what was begun in the warm-up of length ``W`` and not
        done at *its* end, but for answers longer than the warm-up:

        .. math:: 1 - \frac{E[\max(0, \tau - W)^2]}{2\,p\,E[o]\,D}

        Parameters
        ----------
        pace_s : the slowest that is allowed. [s]
        duration_s : of the window, ``D``. [s]

        References
        ----------
        .. [1] J. D. C. Little, "A Proof for the Queuing Formula L = lambda W", Oper. Res. 9(3),
           1961 (the area under the curve of what is under way).
        """
        if self.answers is None or not len(self.answers):
            return 1.0
        beyond_s = np.maximum(0.0, pace_s * self.answers - self.warmup_s)
        left = float((beyond_s**2).mean()) / (2 * pace_s * float(self.answers.mean()) * duration_s)
        return max(0.0, 1.0 - left)


EXPECTED = Demand()
"""The traffic as it is described, and windows so long that their ends do not matter."""


def demand(workload: Workload, run: Run, traffic: Traffic) -> Demand:
    """Return what the run with its own seed asks for, where that is known before it."""
    if not np.isfinite(traffic.requests):
        return EXPECTED
    stream = generate(workload, resolve_run(workload, run))
    if not isinstance(stream, RequestStream):
        return EXPECTED
    counted = stream.arrival_s >= stream.warmup_s
    counted[: stream.warmup_requests] = False
    if not counted.any():
        return EXPECTED
    answers = stream.output_tokens[counted].astype(float)
    found = (
        len(answers) / traffic.requests,
        float(stream.input_tokens[counted].sum()) / (traffic.requests * traffic.input_tokens),
        float(answers.sum()) / (traffic.requests * traffic.output_tokens),
    )
    return Demand(min(1.0, *found), float(stream.arrival_s[counted][0]), answers)
