"""How requests arrive: drawn from a process, recorded in a trace, or sent by waiting clients."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from planner.specs.base import Count, Spec
from planner.specs.lengths import Length
from planner.specs.requests import RequestTable

Rate = Annotated[float, Field(gt=0)]
Time = Annotated[float, Field(ge=0)]


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


class WeibullArrivals(Spec):
    """Independent Weibull-distributed gaps; ``cv`` 1 is Poisson, above 1 is bursty."""

    kind: Literal["weibull"] = "weibull"
    requests_per_s: Rate
    cv: Annotated[float, Field(ge=0.05, le=20)]
    """Coefficient of variation of the gaps. [dimensionless]"""


class ClosedLoopArrivals(Spec):
    """A fixed number of clients, each with one request in flight; all start at once."""

    kind: Literal["closed_loop"] = "closed_loop"
    concurrency: Count
    think_s: Time = 0.0
    """Pause between an answer and the client's next request. [s]"""


class CurveArrivals(Spec):
    """Time-of-day curve: a rate for each window, Poisson within a window."""

    kind: Literal["curve"] = "curve"
    window_s: Rate
    requests_per_s: tuple[Time, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _some_traffic(self) -> Self:
        if not any(self.requests_per_s):
            raise ValueError("every window has rate 0; give at least one rate above 0")
        return self


class SessionArrivals(Spec):
    """Conversations: each turn's prompt is all that was said before, and something new.

    ``lengths.input`` is what a user adds in a turn, ``lengths.output`` the answer.  With
    ``mean_think_s`` a turn is sent that long after the answer to the one before; with
    ``mean_turn_gap_s`` turns come at times drawn beforehand, whether answered or not.
    """

    kind: Literal["sessions"] = "sessions"
    sessions_per_s: Rate
    """Conversations that begin, as a Poisson process."""
    mean_turns: Annotated[float, Field(ge=1)]
    """Geometric: after every turn the conversation ends with probability 1 / mean_turns."""
    mean_think_s: Rate | None = None
    """From an answer to the next turn: reading and writing; exponential. [s]"""
    mean_turn_gap_s: Rate | None = None
    """From one turn's arrival to the next: waiting, reading and writing; exponential. [s]"""
    max_context_tokens: Count
    """A conversation ends before the turn whose prompt and answer would exceed this."""
    block_tokens: Count
    """Tokens of a KV block that can be reused. [tokens]"""
    shared_prefix: Length | None = None
    """What every conversation starts with (a system prompt); one draw of it for each ``group``."""
    groups: Count = 1
    """Different shared prefixes (applications, tenants); a conversation has any, equally likely."""

    @property
    def pause_s(self) -> float:
        """Mean of the pause that is drawn between turns. [s]"""
        return self.mean_think_s or self.mean_turn_gap_s or 0.0

    @model_validator(mode="after")
    def _one_pause(self) -> Self:
        if (self.mean_think_s is None) == (self.mean_turn_gap_s is None):
            raise ValueError(
                "give either mean_think_s (from an answer to the next turn) or mean_turn_gap_s "
                "(from a turn's arrival to the next, answered or not)"
            )
        return self


TraceFormat = Literal["auto", "azure", "mooncake", "burstgpt", "sharegpt", "table"]
Columns = Literal["arrival_s", "input_tokens", "output_tokens", "hash_ids", "priority"]
Bounds = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]


def _table(value: Any) -> RequestTable | None:
    if value is None or isinstance(value, RequestTable):
        return value
    raise ValueError("the rows of a trace are read from `file`, or given as columns")


ReadTable = Annotated[
    RequestTable | None,
    PlainValidator(_table),
    PlainSerializer(lambda table: None, when_used="json"),
]


class TraceArrivals(Spec):
    """Requests as recorded: read from a file, or three columns of equal length sorted by time.

    In this order: a range of times and lengths is chosen, time is stretched, the number of
    requests scaled, and the result repeated up to a horizon.
    """

    kind: Literal["trace"] = "trace"
    arrival_s: tuple[Time, ...] = ()
    input_tokens: tuple[Count, ...] = ()
    output_tokens: tuple[Count, ...] = ()
    file: str | None = None
    """CSV, JSON lines, JSON or Parquet; a relative path starts at the scenario's folder."""
    format: TraceFormat = "auto"
    columns: dict[Columns, str] = Field(default_factory=dict)
    """Name of each column in an own CSV, JSONL or Parquet file, where it differs."""
    block_tokens: Count | None = None
    """Tokens named by one hash id; None: as the format says (Mooncake: 512). [tokens]"""
    chars_per_token: Rate | None = None
    """For files of text (ShareGPT): characters counted as one token, an assumption."""
    from_s: Time = 0.0
    """Leave out what is recorded earlier. [s]"""
    to_s: Rate | None = None
    """Leave out what is recorded from here on. [s]"""
    input_range_tokens: Bounds | None = None
    """Leave out shorter and longer prompts. [tokens]"""
    output_range_tokens: Bounds | None = None
    """Leave out shorter and longer answers. [tokens]"""
    time_scale: Rate = 1.0
    """Every time is multiplied by this: 0.5 sends the same requests in half the time."""
    rate_scale: Rate = 1.0
    """So many times the requests in the same time: thinned at random, or copied."""
    copy_shift_s: Time = 60.0
    """Each copy is later by a draw between 0 and this, and shares prefixes with itself only. [s]"""
    horizon_s: Rate | None = None
    """Repeat the trace up to this time; every pass shares prefixes with itself only. [s]"""
    resample_block_s: Rate | None = None
    """Fill the horizon with stretches of this length drawn at random (a block bootstrap). [s]"""
    requests_per_s: Rate | None = None
    """Poisson arrivals at this rate in place of the recorded times; the only way to use a file
    without times.  Rows keep their order where they share prefixes, else they are drawn."""
    table: ReadTable = Field(default=None, repr=False)
    """What was read from ``file``; filled in when the scenario is loaded."""

    def reading(self) -> tuple[str, ...]:
        """What is read and how: a table that was read so need not be read again."""
        how = (self.file, self.format, self.columns, self.block_tokens, self.chars_per_token)
        return tuple(map(str, how))

    def is_read(self) -> bool:
        """The rows of ``file`` are here."""
        return self.table is not None and self.table.read_from == self.reading()

    @model_validator(mode="after")
    def _rows(self) -> Self:
        sizes = {len(self.arrival_s), len(self.input_tokens), len(self.output_tokens)}
        if len(sizes) > 1:
            raise ValueError("arrival_s, input_tokens and output_tokens differ in length")
        if any(b < a for a, b in zip(self.arrival_s, self.arrival_s[1:], strict=False)):
            raise ValueError("arrival_s must not fall; sort the trace by time")
        if (self.file is None) == (not self.arrival_s):
            raise ValueError("give either a file or the columns of the trace (at least one row)")
        return self

    @model_validator(mode="after")
    def _choices(self) -> Self:
        if self.to_s is not None and self.to_s <= self.from_s:
            raise ValueError(f"to_s {self.to_s:g} must be after from_s {self.from_s:g}")
        for bounds in (self.input_range_tokens, self.output_range_tokens):
            if bounds and bounds[1] < bounds[0]:
                raise ValueError(f"a range of lengths must rise, got {bounds[0]} to {bounds[1]}")
        if self.resample_block_s is not None and self.horizon_s is None:
            raise ValueError("resample_block_s needs horizon_s, the time to fill")
        if self.requests_per_s is not None and (
            self.time_scale != 1 or self.rate_scale != 1 or self.horizon_s is not None
        ):
            raise ValueError(
                "requests_per_s replaces the recorded times; remove time_scale, rate_scale "
                "and horizon_s"
            )
        return self


Arrivals = Annotated[
    PoissonArrivals
    | GammaArrivals
    | WeibullArrivals
    | ClosedLoopArrivals
    | SessionArrivals
    | TraceArrivals
    | CurveArrivals,
    Field(discriminator="kind"),
]
