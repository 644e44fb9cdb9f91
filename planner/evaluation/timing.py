"""The physics of a step as tables: what the event loop asks for thousands of times a second."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planner.evaluation.attention import (
    DecodeCore,
    PrefillCore,
    decode_cores,
    dot,
    prefill_cores,
)
from planner.serving.timing import RankLoad, Segment, overtaking_steps
from planner.step import StepModel

FloatArray = NDArray[np.float64]


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
    _tokens: list[float] = field(init=False)
    _head: list[float] = field(init=False)
    _experts: dict[bool, list[float]] = field(init=False)
    _hideable: dict[bool, list[float]] = field(init=False)
    _ideal: dict[str, list[float]] = field(init=False)
    _cores: list[DecodeCore] = field(init=False)
    _prefill: list[tuple[PrefillCore, ...]] = field(init=False)
    """A group's ways to attend to a prompt; the fastest runs."""

    def __post_init__(self) -> None:
        own = np.arange(self.max_rank_tokens + 1, dtype=float)
        group = np.arange(self.max_rank_tokens * self.ranks + 1, dtype=float)
        tokens, head = self.model.tokens(own), self.model.head(own)
        self._tokens, self._head = _listed(tokens.time_s, own), _listed(head.time_s, own)
        self._experts, self._hideable = {}, {}
        for prefill in (False, True):
            work, hideable = self.model.experts(group, prefill)
            self._experts[prefill] = _listed(work.time_s, group)
            self._hideable[prefill] = _listed(hideable, group)
        self._ideal = {
            "tokens_compute": _listed(tokens.compute_s, own),
            "tokens_memory": _listed(tokens.memory_s, own),
            "experts_compute": _listed(work.compute_s, group),
            "experts_memory": _listed(work.memory_s, group),
        }
        self._cores, self._prefill = decode_cores(self.model), prefill_cores(self.model)

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
        s, context, capped = load.sequences, load.context_tokens, load.capped_tokens
        core, slope, valid = 0.0, 0.0, 1 << 62
        if s:
            for group in self._cores:
                time, up, limit = group.at(s, context, capped, load.growing)
                core += time
                slope += up
                valid = min(valid, limit)
        decode = core + self._tokens[s] + self._head[s] if s else 0.0
        new = load.prefill_tokens
        if not new:
            return decode, slope, valid, decode
        prompts = new, load.prefill_pairs, load.prefill_capped_pairs
        for forms in self._prefill:
            core += min(form.at(*prompts) for form in forms)
        time = core + self._tokens[s + new] + self._head[s + load.prompts_finished]
        return time, slope, 1, decode

    def _with_experts(
        self, group: int, prefill: bool, rank: tuple[float, float, int]
    ) -> tuple[float, float, int]:
        """Add experts, exposed communication and host time to the slowest rank's work."""
        busy, slope, valid = rank
        busy += self._experts[prefill][group]
        hideable = self._hideable[prefill][group]
        total = busy + hideable + self.model.overhead_s
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
        load = whole.sequences, whole.context_tokens, whole.capped_tokens
        for core in self._cores:
            compute += dot(core.ideal_compute, load) / ranks
            memory += dot(core.ideal_memory, load) / ranks
        if whole.prefill_tokens:
            prompts = whole.prefill_tokens, whole.prefill_pairs, whole.prefill_capped_pairs
            for forms in self._prefill:
                form = min(forms, key=lambda f: f.at(*prompts))
                compute += dot(form.ideal_compute, prompts) / ranks
                memory += dot(form.ideal_memory, prompts) / ranks
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

    def replica_w(self, compute_share: float, memory_share: float) -> float:
        """Power of all devices of a replica and their part of the hosts. [W]"""
        busy = min(1.0, max(compute_share, memory_share))
        return self.devices * (self.host_w + self.idle_w + (self.max_w - self.idle_w) * busy)

    @property
    def idle_replica_w(self) -> float:
        """Power of a replica with nothing to do. [W]"""
        return self.devices * (self.host_w + self.idle_w)
