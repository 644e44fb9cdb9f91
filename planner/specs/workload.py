"""What traffic a scenario asks for: how requests arrive, and how long they are."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from planner.specs.base import Count, Spec

Rate = Annotated[float, Field(gt=0)]


class PoissonArrivals(Spec):
    """Memoryless arrivals at a constant rate."""

    kind: Literal["poisson"] = "poisson"
    requests_per_s: Rate


class GammaArrivals(Spec):
    """Independent gamma-distributed gaps; ``cv`` 1 is Poisson, above 1 is bursty."""

    kind: Literal["gamma"] = "gamma"
    requests_per_s: Rate
    cv: Rate
    """Coefficient of variation of the gaps. [dimensionless]"""


class ClosedLoopArrivals(Spec):
    """A fixed number of clients, each with one request in flight; all start at once."""

    kind: Literal["closed_loop"] = "closed_loop"
    concurrency: Count
    think_s: Annotated[float, Field(ge=0)] = 0.0
    """Pause between an answer and the client's next request. [s]"""


class TraceArrivals(Spec):
    """Requests exactly as recorded: three columns of equal length, sorted by time."""

    kind: Literal["trace"] = "trace"
    arrival_s: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    input_tokens: tuple[Count, ...]
    output_tokens: tuple[Count, ...]

    @model_validator(mode="after")
    def _columns(self) -> Self:
        sizes = {len(self.arrival_s), len(self.input_tokens), len(self.output_tokens)}
        if len(sizes) > 1:
            raise ValueError("arrival_s, input_tokens and output_tokens differ in length")
        if any(b < a for a, b in zip(self.arrival_s, self.arrival_s[1:], strict=False)):
            raise ValueError("arrival_s must not fall; sort the trace by time")
        return self


class CurveArrivals(Spec):
    """Time-of-day curve: a rate for each window, Poisson within a window."""

    kind: Literal["curve"] = "curve"
    window_s: Rate
    requests_per_s: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _some_traffic(self) -> Self:
        if not any(self.requests_per_s):
            raise ValueError("every window has rate 0; give at least one rate above 0")
        return self


Arrivals = Annotated[
    PoissonArrivals | GammaArrivals | ClosedLoopArrivals | TraceArrivals | CurveArrivals,
    Field(discriminator="kind"),
]


class FixedLength(Spec):
    """Always the same length."""

    kind: Literal["fixed"] = "fixed"
    tokens: Count


class UniformLength(Spec):
    """Whole numbers between two bounds, both included."""

    kind: Literal["uniform"] = "uniform"
    low_tokens: Count
    high_tokens: Count

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high_tokens < self.low_tokens:
            raise ValueError(f"high_tokens {self.high_tokens} is below low_tokens")
        return self


class LognormalLength(Spec):
    """Log-normal lengths given by their mean (not the median) and the sigma of the logarithm."""

    kind: Literal["lognormal"] = "lognormal"
    mean_tokens: Annotated[float, Field(ge=1)]
    sigma: Annotated[float, Field(ge=0)]
    max_tokens: Count
    """Longer draws are cut to this."""


class QuantileLength(Spec):
    """Equally likely bins, each with its mean length; a draw takes its bin's mean, rounded."""

    kind: Literal["quantiles"] = "quantiles"
    bin_means_tokens: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)


Length = Annotated[
    FixedLength | UniformLength | LognormalLength | QuantileLength, Field(discriminator="kind")
]


class LengthSegment(Spec):
    """Lengths that hold from a time of day on."""

    start_s: Annotated[float, Field(ge=0)] = 0.0
    input: Length
    output: Length


class Workload(Spec):
    """One stream of requests."""

    title: str = ""
    source: str = ""
    arrivals: Arrivals
    lengths: tuple[LengthSegment, ...] = ()
    """By time of day, the first from 0; empty only with a trace, which brings its own."""
    cached_input_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of every prompt already in the KV cache: not computed again, but held and read."""
    notes: str = ""

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if isinstance(self.arrivals, TraceArrivals):
            if self.lengths:
                raise ValueError("a trace brings its own lengths; remove lengths")
        elif not self.lengths:
            raise ValueError("lengths is missing; give at least one {input, output} pair")
        starts = [segment.start_s for segment in self.lengths]
        if starts and (starts[0] != 0 or starts != sorted(set(starts))):
            raise ValueError("lengths must start at start_s 0 and rise")
        return self


class Run(Spec):
    """How much of the workload is simulated, and which requests count."""

    requests: Count | None = None
    """Stop arrivals after this many requests."""
    duration_s: Rate | None = None
    """Stop arrivals after this time."""
    window: Literal["peak_output", "peak_requests"] | Annotated[int, Field(ge=0)] | None = None
    """Measure one window of a curve: by its number, or the busiest by output tokens or requests.
    Its predecessors of ``warmup_s`` run before it."""
    start_s: Annotated[float, Field(ge=0)] = 0.0
    """Time of day at which a curve starts."""
    warmup_s: Annotated[float, Field(ge=0)] = 0.0
    """Requests that arrive before this are served but not counted."""
    warmup_requests: Annotated[int, Field(ge=0)] = 0
    """The first requests, served but not counted."""
    seed: Annotated[int, Field(ge=0)] = 1


class Slo(Spec):
    """Latency promises.  A limit that is absent is not promised. [s]"""

    ttft_p50_s: Rate | None = None
    ttft_p90_s: Rate | None = None
    ttft_p95_s: Rate | None = None
    ttft_p99_s: Rate | None = None
    tpot_p50_s: Rate | None = None
    tpot_p90_s: Rate | None = None
    tpot_p95_s: Rate | None = None
    tpot_p99_s: Rate | None = None
    e2e_p95_s: Rate | None = None
    e2e_p99_s: Rate | None = None
