"""The physics of a step as tables: what the event loop asks for thousands of times a second."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from planner.serving.timing import RankLoad, Segment, overtaking_steps
from planner.specs.hardware import Achieved
from planner.step import Duration, StepModel

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Core:
    """Attention of one group of layers: two lines, the higher one is the time.

    ``floor + max(c . x, m . x)`` for the load ``x``: (sequences, context, capped context) in
    decode, (tokens, pairs, capped pairs) in prefill.  Affine in a stretch until the lines cross.
    """

    floor: float
    compute: tuple[float, float, float]
    memory: tuple[float, float, float]

    def lines(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Time by compute and by memory, without the floor. [s]"""
        a, b, c = self.compute
        d, e, f = self.memory
        return a * x + b * y + c * z, d * x + e * y + f * z


@dataclass(slots=True)
class TableTiming:
    """Implements :class:`planner.serving.timing.Timing` for one replica.

    Everything that depends on a token count alone is tabulated for every whole number of tokens,
    so a look-up is exact; attention is affine in the loads.
    """

    model: StepModel
    max_rank_tokens: int
    ranks: int
    power: "PowerModel"
    _prefill_factor: float = field(init=False)
    _overhead_s: dict[bool, float] = field(init=False)
    _tokens: list[float] = field(init=False)
    _head: list[float] = field(init=False)
    _experts: dict[bool, list[float]] = field(init=False)
    _hideable: dict[bool, list[float]] = field(init=False)
    _ideal: dict[str, list[float]] = field(init=False)
    _cores: list[_Core] = field(init=False)
    _prefill: list[tuple[_Core, ...]] = field(init=False)
    """A group's ways to attend to a prompt; the fastest runs."""

    def __post_init__(self) -> None:
        overheads, host_s = self.model.overheads, self.model.overhead_s
        self._prefill_factor = float(overheads.prefill_factor)
        self._overhead_s = {False: host_s, True: host_s + overheads.prefill_step_host_s}
        own = np.arange(self.max_rank_tokens + 1, dtype=float)
        group = np.arange(self.max_rank_tokens * self.ranks + 1, dtype=float)
        tokens, head = self.model.tokens(own), self.model.head(own)
        self._tokens, self._head = _listed(tokens.time_s, own), _listed(head.time_s, own)
        self._experts, self._hideable = {}, {}
        for prefill in (False, True):
            work, hideable = self.model.experts(group, prefill)
            factor = self._prefill_factor if prefill else 1.0
            self._experts[prefill] = _listed(factor * work.time_s, group)
            self._hideable[prefill] = _listed(factor * hideable, group)
        self._ideal = {
            "tokens_compute": _listed(tokens.compute_s, own),
            "tokens_memory": _listed(tokens.memory_s, own),
            "experts_compute": _listed(work.compute_s, group),
            "experts_memory": _listed(work.memory_s, group),
        }
        model, shares = self.model, self.model.calibration
        self._cores = _fit(model.decode_attention, shares.attention_decode)
        forms = [
            _fit(partial(model.prefill_attention, sparse=sparse), shares.attention_prefill)
            for sparse in (True, False)
        ]
        self._prefill = [tuple(dict.fromkeys(both)) for both in zip(*forms, strict=True)]

    def segment(self, ranks: list[RankLoad], epoch: int = 0) -> Segment:
        """Return the stretch that starts with these loads."""
        busy, slope, valid, decode_only = self._slowest(ranks)
        whole = ranks[0] if len(ranks) == 1 else _together(ranks)
        group, new = whole.sequences, whole.prefill_tokens
        time, slope, valid = self._with_experts(group + new, new > 0, (busy, slope, valid))
        prefill_s = 0.0
        if new:
            without = self._with_experts(group, False, (decode_only, 0.0, 1))[0] if group else 0.0
            prefill_s, valid = max(0.0, time - without), 1
        compute, memory = self._ideal_s(whole, len(ranks))
        power = self.power.replica_w(compute / time, memory / time)
        return Segment(time, slope, valid, 0.0, prefill_s, power)

    def _slowest(self, ranks: list[RankLoad]) -> tuple[float, float, int, float]:
        """Time, slope and validity of the slowest rank's own work, and its time without prefill."""
        if len(ranks) == 1:
            return self._rank(ranks[0])
        rows = [self._rank(load) for load in ranks if load.sequences or load.prefill_tokens]
        best, slope, _, decode = max(rows)
        valid = 1 << 62
        for time, own, limit, without in rows:
            if own > slope:
                limit = min(limit, overtaking_steps(best - time, own - slope))  # noqa: PLW2901
            valid = min(valid, limit)
            decode = max(decode, without)
        return best, slope, valid, decode

    def _rank(self, load: RankLoad) -> tuple[float, float, int, float]:
        s, context, capped, growing = (
            load.sequences, load.context_tokens, load.capped_tokens, load.growing
        )  # fmt: skip
        core, slope, valid = 0.0, 0.0, 1 << 62
        if s:
            for group in self._cores:
                c_s, c_x, c_y = group.compute
                m_s, m_x, m_y = group.memory
                compute = c_s * s + c_x * context + c_y * capped
                memory = m_s * s + m_x * context + m_y * capped
                up_c, up_m = c_x * s + c_y * growing, m_x * s + m_y * growing
                if compute < memory or (compute == memory and up_c < up_m):
                    compute, memory, up_c, up_m = memory, compute, up_m, up_c
                core += group.floor + compute
                slope += up_c
                if up_m > up_c:
                    valid = min(valid, overtaking_steps(compute - memory, up_m - up_c))
        decode = core + self._tokens[s] + self._head[s] if s else 0.0
        new = load.prefill_tokens
        if not new:
            return decode, slope, valid, decode
        prompts = new, load.prefill_pairs, load.prefill_capped_pairs
        own = self._tokens[s + new] + self._head[s + load.prompts_finished]
        own -= self._tokens[s] + self._head[s] if s else 0.0
        for forms in self._prefill:
            own += min(form.floor + max(form.lines(*prompts)) for form in forms)
        return decode + self._prefill_factor * own, slope, 1, decode

    def _with_experts(
        self, group: int, prefill: bool, rank: tuple[float, float, int]
    ) -> tuple[float, float, int]:
        """Add experts, exposed communication and host time to the slowest rank's work."""
        busy, slope, valid = rank
        busy += self._experts[prefill][group]
        hideable = self._hideable[prefill][group]
        total = busy + hideable + self._overhead_s[prefill]
        hidden = self.model.overlap_share * hideable
        if hidden <= busy:
            return total - hidden, slope, valid
        if slope:
            valid = min(valid, overtaking_steps(hidden - busy, slope))
        return total - busy, 0.0, valid

    def _ideal_s(self, whole: RankLoad, ranks: int) -> tuple[float, float]:
        """Seconds a device's matrix units and memory would be busy at stated peaks, mean rank."""
        table, group = self._ideal, whole.sequences + whole.prefill_tokens
        own = -(-group // ranks)
        compute = table["experts_compute"][group] + table["tokens_compute"][own]
        memory = table["experts_memory"][group] + table["tokens_memory"][own]
        c_share, m_share = self.power.decode_shares
        for core in self._cores:
            lines = core.lines(whole.sequences, whole.context_tokens, whole.capped_tokens)
            compute += c_share / ranks * lines[0]
            memory += m_share / ranks * lines[1]
        if whole.prefill_tokens:
            c_share, m_share = self.power.prefill_shares
            prompts = whole.prefill_tokens, whole.prefill_pairs, whole.prefill_capped_pairs
            for forms in self._prefill:
                lines = min(form.lines(*prompts) for form in forms)
                compute += c_share / ranks * lines[0]
                memory += m_share / ranks * lines[1]
        return compute, memory


def _together(ranks: list[RankLoad]) -> RankLoad:
    """Sum of what all ranks bring."""
    sequences = context = capped = new = 0
    pairs = capped_pairs = 0.0
    for load in ranks:
        sequences += load.sequences
        context += load.context_tokens
        capped += load.capped_tokens
        if load.prefill_tokens:
            new += load.prefill_tokens
            pairs += load.prefill_pairs
            capped_pairs += load.prefill_capped_pairs
    return RankLoad(sequences, context, capped, 0, new, pairs, capped_pairs)


_UNITS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def _fit(core: Callable[..., list[Duration]], shares: Achieved) -> list[_Core]:
    """Read the coefficients of both lines off the op itself, at unit loads."""
    unit = [core(*load) for load in _UNITS]
    floors = core(0.0, 0.0, 0.0)

    def line(group: int, which: str, share: float) -> tuple[float, float, float]:
        x, y, z = (float(getattr(each[group], which)) / share for each in unit)
        return x, y, z

    return [
        _Core(
            float(floor.time_s),
            line(i, "compute_s", float(shares.compute_share)),
            line(i, "memory_s", float(shares.memory_share)),
        )
        for i, floor in enumerate(floors)
    ]


def _listed(values: object, like: FloatArray) -> list[float]:
    """A table as plain floats: list look-ups are three times faster than an array's."""
    listed: list[float] = np.broadcast_to(np.asarray(values, dtype=float), like.shape).tolist()
    return listed


@dataclass(frozen=True, slots=True)
class PowerModel:
    r"""Device power between idle and maximum, by the busier of matrix units and memory.

    .. math:: P = P_{idle} + (P_{max} - P_{idle}) \max(u_c, u_m)

    Host power (server minus devices) is constant.  A linear law is an assumption [1]_.

    References
    ----------
    .. [1] X. Fan, W.-D. Weber, L. Barroso, "Power Provisioning for a Warehouse-sized Computer",
       ISCA 2007 (linear in utilisation, for servers).
    """

    devices: int
    idle_w: float
    max_w: float
    host_w: float
    decode_shares: tuple[float, float]
    prefill_shares: tuple[float, float]
    """Achieved (compute, memory) shares of attention, to turn its time into use of the peaks."""

    def replica_w(self, compute_share: float, memory_share: float) -> float:
        """Power of all devices of a replica and their part of the hosts. [W]"""
        busy = min(1.0, max(compute_share, memory_share))
        return self.devices * (self.host_w + self.idle_w + (self.max_w - self.idle_w) * busy)

    @property
    def idle_replica_w(self) -> float:
        """Power of a replica with nothing to do. [W]"""
        return self.devices * (self.host_w + self.idle_w)
