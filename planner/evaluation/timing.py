"""The physics of a step as tables: what the event loop asks for thousands of times a second."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from planner.evaluation.overlap_tables import SlotTables
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
    _tokens: list[float] = field(init=False)
    _head: list[float] = field(init=False)
    _experts: dict[bool, list[float]] = field(init=False)
    _hideable: dict[bool, list[float]] = field(init=False)
    _ideal: dict[str, list[float]] = field(init=False)
    _cores: list[_Core] = field(init=False)
    _prefill: list[tuple[_Core, ...]] = field(init=False)
    """A group's ways to attend to a prompt; the fastest runs."""
    _drafts: list[float] = field(init=False)
    _draft_experts: list[float] = field(init=False)
    _draft_prompt: tuple[list[float], list[float]] = field(init=False)
    _draft_cores: list[_Core] = field(init=False)
    _draft_prompts: list[tuple[_Core, ...]] = field(init=False)
    _cut_prompts: list[tuple[_Core, ...]] = field(init=False)
    """The same while traffic of another micro-batch holds multiprocessors."""
    _slots: dict[bool, SlotTables] = field(init=False)

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
        model, shares = self.model, self.model.calibration
        self._cores = _fit(model.decode_attention, shares.attention_decode)
        self._draft_cores = _fit(model.draft_attention, shares.attention_decode)
        self._drafts = _listed(model.drafting(own).time_s, own)
        self._draft_experts = _listed(model.drafting_experts(group).time_s, group)
        self._draft_experts[0] = 0.0  # no sequence, no draft
        self._draft_prompt = (
            _listed(model.draft_tokens(own).time_s, own),
            _listed(model.draft_experts(group, prefill=True).time_s, group),
        )
        self._slots = {
            prefill: SlotTables(model, prefill, self.max_rank_tokens, self.ranks)
            for prefill in (False, True)
            if model.scheduled
        }
        self._prefill = _forms(model.prefill_attention, shares.attention_prefill)
        self._draft_prompts = _forms(model.draft_prompts, shares.attention_prefill)
        beside = model.beside_traffic(prefill=True) if self._slots else model
        self._cut_prompts = _forms(beside.prefill_attention, shares.attention_prefill)

    def segment(self, ranks: list[RankLoad], epoch: int = 0) -> Segment:
        """Return the stretch that starts with these loads.

        With speculation a step yields several tokens, and the event loop counts in tokens: a
        token takes its part of the step, prompts computed in between take their time once.
        """
        whole = ranks[0] if len(ranks) == 1 else _together(ranks)
        group, new = whole.sequences, whole.prefill_tokens
        time, slope, valid, without = self._step(ranks, group, new)
        compute, memory = self._ideal_s(whole, len(ranks))
        power = self.power.replica_w(compute / time, memory / time)
        tokens, prefill_s = self.model.tokens_per_step, 0.0
        if new:
            prefill_s, valid = max(0.0, time - without), 1
        first_s = time if tokens == 1.0 else without / tokens + (time - without)
        return Segment(first_s, slope / tokens, valid, 0.0, prefill_s, power)

    def _step(self, ranks: list[RankLoad], group: int, new: int) -> tuple[float, float, int, float]:
        """Time of a step, slope, validity, and its time without prompts (all, if none). [s]"""
        if self._slots and self._cuts(ranks):
            return self._in_slots(ranks, group, new)
        busy, slope, valid, decode_only = self._slowest(ranks)
        time, slope, valid = self._with_experts(group, new, (busy, slope, valid))
        if not new:
            return time, slope, valid, time
        without = self._with_experts(group, 0, (decode_only, 0.0, 1))[0] if group else 0.0
        return time, slope, 1, without

    def _cuts(self, ranks: list[RankLoad]) -> bool:
        """Whether the busiest rank has enough to make micro-batches of."""
        prefill = any(load.prefill_tokens for load in ranks)
        most = max(load.sequences + load.prefill_tokens for load in ranks)
        return most >= self._slots[prefill].micro_batches

    def _in_slots(
        self, ranks: list[RankLoad], group: int, new: int
    ) -> tuple[float, float, int, float]:
        """:meth:`_step` under a policy with slots: every stage waits for its slowest rank."""
        time, slope, valid = self._slots_s(ranks, group, new)
        if not new:
            return time, slope, valid, time
        without = 0.0
        if group:
            decoding = [replace(load, prefill_tokens=0, prompts_finished=0) for load in ranks]
            without = self._step(decoding, group, 0)[0]
        return time, slope, 1, without

    def _slots_s(self, ranks: list[RankLoad], group: int, new: int) -> tuple[float, float, int]:
        q, slots = self.model.query_tokens, self._slots[new > 0]
        core, slope, valid = self._slowest_core(ranks, 1)
        part, up, own = self._slowest_core(ranks, slots.micro_batches)
        valid = min(valid, own)
        most = max(q * load.sequences + load.prefill_tokens for load in ranks)
        rows = max(q * load.sequences + load.prompts_finished for load in ranks)
        time, total, own = slots.layers(most, q * group + new, (core, slope), (part, up))
        valid = min(valid, own)
        after = self._head[rows] + self._draft_experts[group]
        after += self._drafts[max(load.sequences for load in ranks)] if group else 0.0
        if new and self.model.draft:
            after += self._draft_prompt[0][max(load.prefill_tokens for load in ranks)]
            after += self._draft_prompt[1][new]
        time += after + self.model.overhead_s
        if self.model.draft is None:
            return time, total, valid
        drafting, more, own = self._slowest_core(ranks, 1, drafts=True)
        return time + drafting, total + more, min(valid, own)

    def _slowest_core(
        self, ranks: list[RankLoad], cuts: int, drafts: bool = False
    ) -> tuple[float, float, int]:
        """Attention cores of one of ``cuts`` equal parts on the slowest rank, slope, validity."""
        rows = [
            self._attention(load, cuts, drafts)
            for load in ranks
            if load.sequences or load.prefill_tokens
        ]
        best, slope, _ = max(rows)
        valid = 1 << 62
        for time, own, limit in rows:
            valid = min(valid, limit)
            if own > slope:
                valid = min(valid, overtaking_steps(best - time, own - slope))
        return best, slope, valid

    def _attention(self, load: RankLoad, cuts: int, drafts: bool) -> tuple[float, float, int]:
        """Attention cores of one of ``cuts`` equal parts of a rank's load, slope, validity."""
        time, slope, valid = 0.0, 0.0, 1 << 62
        if load.sequences:
            cores = self._draft_cores if drafts else self._cores
            time, slope, valid = _decoding(cores, load, cuts)
        if load.prefill_tokens:
            forms = self._draft_prompts if drafts else self._prefill
            forms = self._cut_prompts if cuts > 1 else forms
            time, valid = time + _prompting(forms, load, cuts), 1
        return time, slope, valid

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
        s, q, drafting = load.sequences, self.model.query_tokens, 0.0
        core, slope, valid = 0.0, 0.0, 1 << 62
        if s:
            core, slope, valid = _decoding(self._cores, load, 1)
            if self.model.draft:
                drafting, more, limit = _decoding(self._draft_cores, load, 1)
                drafting, slope, valid = drafting + self._drafts[s], slope + more, min(valid, limit)
        s *= q
        decode = core + drafting + self._tokens[s] + self._head[s] if s else 0.0
        new = load.prefill_tokens
        if not new:
            return decode, slope, valid, decode
        core += _prompting(self._prefill, load, 1)
        if self.model.draft:
            drafting += self._draft_prompt[0][new] + _prompting(self._draft_prompts, load, 1)
        time = core + drafting + self._tokens[s + new] + self._head[s + load.prompts_finished]
        return time, slope, 1, decode

    def _with_experts(
        self, sequences: int, new: int, rank: tuple[float, float, int]
    ) -> tuple[float, float, int]:
        """Add experts, exposed communication and host time to the slowest rank's work."""
        busy, slope, valid = rank
        group = self.model.query_tokens * sequences + new
        busy += self._experts[new > 0][group] + self._draft_experts[sequences]
        if new:
            busy += self._draft_prompt[1][new]
        hideable = self._hideable[new > 0][group]
        total = busy + hideable + self.model.overhead_s
        hidden = self.model.overlap_share * hideable
        if hidden <= busy:
            return total - hidden, slope, valid
        if slope:
            valid = min(valid, overtaking_steps(hidden - busy, slope))
        return total - busy, 0.0, valid

    def _ideal_s(self, whole: RankLoad, ranks: int) -> tuple[float, float]:
        """Seconds a device's matrix units and memory would be busy at stated peaks, mean rank."""
        table = self._ideal
        group = self.model.query_tokens * whole.sequences + whole.prefill_tokens
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


def _decoding(cores: list[_Core], load: RankLoad, cuts: int) -> tuple[float, float, int]:
    """Attention cores of one of ``cuts`` equal parts of the decoding load, slope, validity."""
    s, context = load.sequences / cuts, load.context_tokens / cuts
    capped, growing = load.capped_tokens / cuts, load.growing / cuts
    core, slope, valid = 0.0, 0.0, 1 << 62
    for group in cores:
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
    return core, slope, valid


def _prompting(groups: list[tuple[_Core, ...]], load: RankLoad, cuts: int) -> float:
    """Attention cores of one of ``cuts`` equal parts of a rank's prompts. [s]"""
    prompts = (
        load.prefill_tokens / cuts, load.prefill_pairs / cuts, load.prefill_capped_pairs / cuts
    )  # fmt: skip
    return sum(min(form.floor + max(form.lines(*prompts)) for form in forms) for forms in groups)


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


def _forms(core: Callable[..., list[Duration]], shares: Achieved) -> list[tuple[_Core, ...]]:
    """Each group's ways to attend to a prompt: over picked keys, or over all with a mask."""
    forms = [_fit(partial(core, sparse=sparse), shares) for sparse in (True, False)]
    return [tuple(dict.fromkeys(both)) for both in zip(*forms, strict=True)]


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
