"""The physics of a step as tables: what the event loop asks for thousands of times a second."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from planner.evaluation.attention import DecodeCore, decode_cores
from planner.evaluation.graphs import NO_GRAPH, PaddedSizes, Size
from planner.evaluation.lines import dot
from planner.evaluation.overlap_tables import SlotTables
from planner.evaluation.power import PowerModel
from planner.evaluation.prompts import PrefillCore, prefill_cores
from planner.serving.timing import RankLoad, Segment, overtaking_steps
from planner.step import StepModel
from planner.step.graphs import rows_s

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
    power: PowerModel
    _query_tokens: int = field(init=False)
    _prefill_factor: float = field(init=False)
    _overhead_s: dict[bool, float] = field(init=False)
    _tokens: list[float] = field(init=False)
    _head: list[float] = field(init=False)
    _experts: dict[bool, list[float]] = field(init=False)
    _hideable: dict[bool, list[float]] = field(init=False)
    _ideal: dict[str, list[float]] = field(init=False)
    _cores: list[DecodeCore] = field(init=False)
    _only_core: DecodeCore | None = field(init=False)
    """Where there is one core, and nothing is drafted: most models."""
    _prefill: list[tuple[PrefillCore, ...]] = field(init=False)
    """A group's ways to attend to a prompt; the fastest runs."""
    _prompts: list[float] = field(init=False)
    _drafts: list[float] = field(init=False)
    _draft_experts: list[float] = field(init=False)
    _draft_prompt: tuple[list[float], list[float]] = field(init=False)
    _draft_cores: list[DecodeCore] = field(init=False)
    _draft_prompts: list[tuple[PrefillCore, ...]] = field(init=False)
    _cut_prompts: list[tuple[PrefillCore, ...]] = field(init=False)
    """The same while traffic of another micro-batch holds multiprocessors."""
    _slots: dict[bool, SlotTables] = field(init=False)
    _padded: PaddedSizes | None = field(init=False)
    _row_s: float = field(init=False)
    """Host time of a decoding sequence's rows. [s]"""
    _prompt_row_s: float = field(init=False)
    """Host time of the row of a prompt that ends. [s]"""
    _own: list[float] = field(init=False)
    """Work of a rank's sequences beside attention cores, where nothing is padded. [s]"""

    def __post_init__(self) -> None:
        self._query_tokens = self.model.query_tokens
        self._prefill_factor = self.model.own_factor(prefill=True)
        self._overhead_s = {prefill: self.model.host_s(prefill) for prefill in (False, True)}
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
        model = self.model
        self._cores, self._prefill = decode_cores(model), prefill_cores(model)
        self._only_core = self._cores[0] if len(self._cores) == 1 and not model.draft else None
        beside = model.beside_traffic(prefill=True) if model.scheduled else model
        self._cut_prompts = prefill_cores(beside)
        passes = [inner for inner, times in model.draft_passes() for _ in range(times)]
        self._draft_cores = [core for inner in passes for core in decode_cores(inner)]
        self._draft_prompts = prefill_cores(passes[0]) if passes else []
        self._prompts = _listed(model.prompts(own).time_s, own)
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
        self._row_s = float(rows_s(model, 1.0))
        self._prompt_row_s = float(model.overheads.per_sequence_step_host_s)
        self._padded, q = PaddedSizes.of(model), self._query_tokens
        rows = np.asarray(self._tokens)[::q] + np.asarray(self._head)[::q]
        n = len(rows)
        self._own = (np.asarray(self._drafts)[:n] + rows + self._row_s * own[:n]).tolist()

    def segment(self, ranks: list[RankLoad], epoch: int = 0) -> Segment:
        """Return the stretch that starts with these loads.

        With speculation a step yields several tokens, and the event loop counts in tokens: a
        token takes its part of the step, prompts computed in between take their time once.
        """
        whole = ranks[0] if len(ranks) == 1 else _together(ranks)
        size = self._padded.of_step(ranks) if self._padded else NO_GRAPH
        time, slope, valid, without = self._step(ranks, whole, size)
        compute, memory = self._ideal_s(whole, len(ranks), size)
        power = self.power.replica_w(compute / time, memory / time)
        tokens, prefill_s = self.model.tokens_per_step, 0.0
        if whole.prefill_tokens:
            prefill_s, valid = max(0.0, time - without), 1
        first_s = time if tokens == 1.0 else without / tokens + (time - without)
        return Segment(first_s, slope / tokens, valid, 0.0, prefill_s, power)

    def _step(
        self, ranks: list[RankLoad], whole: RankLoad, size: Size
    ) -> tuple[float, float, int, float]:
        """Time of a step, slope, validity, and its time without prompts (all, if none). [s]"""
        if self._slots and self._cuts(ranks):
            return self._in_slots(ranks, whole, size)
        busy, slope, valid, decode_only = self._slowest(ranks, size)
        sequences, new = whole.sequences, whole.prefill_tokens
        time, slope, valid = self._with_experts(sequences, new, size, (busy, slope, valid))
        if not new:
            return time, slope, valid, time
        if not sequences:
            return time, slope, 1, 0.0
        alone = size.without or size
        without = self._with_experts(sequences, 0, alone, (decode_only, 0.0, 1))[0]
        return time, slope, 1, without

    def _cuts(self, ranks: list[RankLoad]) -> bool:
        """Whether the busiest rank has enough to make micro-batches of."""
        prefill = any(load.prefill_tokens for load in ranks)
        most = max(load.sequences + load.prefill_tokens for load in ranks)
        return most >= self._slots[prefill].micro_batches

    def _in_slots(
        self, ranks: list[RankLoad], whole: RankLoad, size: Size
    ) -> tuple[float, float, int, float]:
        """:meth:`_step` under a policy with slots: every stage waits for its slowest rank."""
        time, slope, valid = self._slots_s(ranks, whole, size)
        if not whole.prefill_tokens:
            return time, slope, valid, time
        without = 0.0
        if whole.sequences:
            decoding = [replace(load, prefill_tokens=0, prompts_finished=0) for load in ranks]
            alone = RankLoad(whole.sequences)
            without = self._step(decoding, alone, size.without or size)[0]
        decode_s = without - self._overhead_s[False] if whole.sequences else 0.0
        prompts_s = max(0.0, time - self._overhead_s[True] - decode_s)
        return time + (self._prefill_factor - 1.0) * prompts_s, slope, 1, without

    def _slots_s(
        self, ranks: list[RankLoad], whole: RankLoad, size: Size
    ) -> tuple[float, float, int]:
        q, new = self._query_tokens, whole.prefill_tokens
        slots, busiest = self._slots[new > 0], max(load.sequences for load in ranks)
        core, slope, valid = self._slowest_core(ranks, 1)
        part, up, own = self._slowest_core(ranks, slots.micro_batches)
        valid = min(valid, own)
        most = size.tokens or size.tokens_with_prompts
        most = most or max(q * load.sequences + load.prefill_tokens for load in ranks)
        rows = size.rows or max(q * load.sequences + load.prompts_finished for load in ranks)
        group, sequences = self._sent(whole.sequences, new, size)
        time, total, own = slots.layers(most, group, (core, slope), (part, up))
        valid = min(valid, own)
        after = self._head[rows] + self._row_s * busiest
        if new:
            after += self._prompt_row_s * max(load.prompts_finished for load in ranks)
        if whole.sequences:
            after += self._drafts[size.sequences or busiest]
            after += self._draft_experts[sequences]
        if new and self.model.draft:
            after += self._draft_prompt[0][max(load.prefill_tokens for load in ranks)]
            after += self._draft_prompt[1][new]
        time += after + self._overhead_s[new > 0] + size.launch_s
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

    def _slowest(self, ranks: list[RankLoad], size: Size) -> tuple[float, float, int, float]:
        """Time, slope and validity of the slowest rank's own work, and its time without prefill."""
        if len(ranks) == 1:
            return self._rank(ranks[0], size)
        rows = self._rows(ranks, size)
        best, slope, _, decode = max(rows)
        valid = 1 << 62
        for time, own, limit, without in rows:
            if own > slope:
                passes = overtaking_steps(best - time, own - slope)
                valid = passes if passes < valid else valid
            valid = limit if limit < valid else valid
            decode = without if without > decode else decode
        return best, slope, valid, decode

    def _rows(self, ranks: list[RankLoad], size: Size) -> list[tuple[float, float, int, float]]:
        """:meth:`_rank` of every rank that has something to do."""
        core = self._only_core if size is NO_GRAPH else None
        rows = []
        for load in ranks:
            if load.prefill_tokens or core is None:
                if load.sequences or load.prefill_tokens:
                    rows.append(self._rank(load, size))
            elif s := load.sequences:  # as _rank has it, without three calls
                time, slope, valid = core.at(
                    s, load.context_tokens, load.capped_tokens, load.growing
                )
                time += self._own[s]
                rows.append((time, slope, valid, time))
        return rows

    def _rank(self, load: RankLoad, size: Size) -> tuple[float, float, int, float]:
        """One rank's own work, its slope and validity, and the work without prompts."""
        s, cores, slope, valid = load.sequences, 0.0, 0.0, 1 << 62
        decode = without = 0.0
        if s:
            cores, slope, valid = _decoding(self._cores, load, 1)
            if self.model.draft:
                drafting, more, limit = _decoding(self._draft_cores, load, 1)
                cores, slope, valid = cores + drafting, slope + more, min(valid, limit)
            if size.sequences:  # decoding alone, in a graph
                decode = cores + self._padded_own(s, size)
                return decode, slope, valid, decode
            decode = without = cores + self._own[s]
            if size.without is not None and size.without.sequences:
                without = cores + self._padded_own(s, size.without)
        if load.prefill_tokens:
            return decode + self._prefill_factor * self._prompt_own(load, size), slope, 1, without
        if not size.tokens_with_prompts:
            return decode, slope, valid, without
        more = self._tokens[size.tokens_with_prompts] - self._tokens[self._query_tokens * s]
        return decode + self._prefill_factor * more, slope, 1, without

    def _padded_own(self, s: int, size: Size) -> float:
        """Work of a rank's ``s`` sequences in a graph, beside attention cores. [s]"""
        padded = size.sequences
        own = self._own[padded] - self._row_s * (padded - s)
        if size.rows:
            return own
        return own + self._head[self._query_tokens * s] - self._head[size.tokens]

    def _prompt_own(self, load: RankLoad, size: Size) -> float:
        """What a step with prompts takes on a rank beside its decoding, before the factor. [s]"""
        new, s = load.prefill_tokens, self._query_tokens * load.sequences
        own = self._prompts[new] + _prompting(self._prefill, load, 1)
        own += self._prompt_row_s * load.prompts_finished
        if self.model.draft:
            own += self._draft_prompt[0][new] + _prompting(self._draft_prompts, load, 1)
        own += self._tokens[size.tokens_with_prompts or s + new]
        own += self._head[s + load.prompts_finished]
        return own - (self._tokens[s] + self._head[s]) if s else own

    def _with_experts(
        self, sequences: int, new: int, size: Size, rank: tuple[float, float, int]
    ) -> tuple[float, float, int]:
        """Add experts, exposed communication and host time to the slowest rank's work."""
        busy, slope, valid = rank
        group, sent = self._sent(sequences, new, size)
        busy += self._experts[new > 0][group] + self._draft_experts[sent]
        if new:
            busy += self._draft_prompt[1][new]
        hideable = self._hideable[new > 0][group]
        total = busy + hideable + self._overhead_s[new > 0] + size.launch_s
        hidden = self.model.overlap_share * hideable
        if hidden <= busy:
            return total - hidden, slope, valid
        if slope:
            valid = min(valid, overtaking_steps(hidden - busy, slope))
        return total - busy, 0.0, valid

    def _sent(self, sequences: int, new: int, size: Size) -> tuple[int, int]:
        """Tokens of all ranks that experts compute, and sequences among them."""
        if size.group_tokens:
            return size.group_tokens, size.group_sequences or sequences
        if size.one_more and size.sequences * self.ranks > sequences:
            sequences += self.model.shard.pp
        return self._query_tokens * sequences + new, sequences

    def _ideal_s(self, whole: RankLoad, ranks: int, size: Size) -> tuple[float, float]:
        """Seconds a device's matrix units and memory would be busy at stated peaks, mean rank."""
        table = self._ideal
        group = self._sent(whole.sequences, whole.prefill_tokens, size)[0]
        own = -(-group // ranks)
        compute = table["experts_compute"][group] + table["tokens_compute"][own]
        memory = table["experts_memory"][group] + table["tokens_memory"][own]
        load = whole.sequences, whole.context_tokens, whole.capped_tokens
        for core in self._cores:
            compute += dot(core.ideal_compute, load) / ranks
            memory += dot(core.ideal_memory, load) / ranks
        if whole.prefill_tokens:
            prompts = whole.prefill_tokens, whole.prefill_pairs, whole.prefill_capped_pairs
            each = prompts[0] / ranks, prompts[1] / ranks, prompts[2] / ranks
            longest = whole.prefill_longest or None
            for forms in self._prefill:
                form = min(forms, key=lambda f: f.at(*prompts, longest))
                compute += dot(form.ideal_compute, prompts) / ranks
                memory += form.crossing_s(each)
        return compute, memory


def _decoding(cores: list[DecodeCore], load: RankLoad, cuts: int) -> tuple[float, float, int]:
    """Attention cores of one of ``cuts`` equal parts of the decoding load, slope, validity."""
    if cuts == 1 and len(cores) == 1:  # most models: as below, three times faster
        return cores[0].at(load.sequences, load.context_tokens, load.capped_tokens, load.growing)
    s, context = load.sequences / cuts, load.context_tokens / cuts
    capped, growing = load.capped_tokens / cuts, load.growing / cuts
    core, slope, valid = 0.0, 0.0, 1 << 62
    for group in cores:
        time, up, limit = group.at(s, context, capped, growing)
        core += time
        slope += up
        valid = min(valid, limit)
    return core, slope, valid


def _prompting(groups: list[tuple[PrefillCore, ...]], load: RankLoad, cuts: int) -> float:
    """Attention cores of one of ``cuts`` equal parts of a rank's prompts. [s]"""
    prompts = (
        load.prefill_tokens / cuts, load.prefill_pairs / cuts, load.prefill_capped_pairs / cuts
    )  # fmt: skip
    longest = load.prefill_longest or None
    return sum(min(form.at(*prompts, longest) for form in forms) for forms in groups)


def _together(ranks: list[RankLoad]) -> RankLoad:
    """Sum of what all ranks bring."""
    sequences = context = capped = new = longest = 0
    pairs = capped_pairs = 0.0
    for load in ranks:
        sequences += load.sequences
        context += load.context_tokens
        capped += load.capped_tokens
        if load.prefill_tokens:
            new += load.prefill_tokens
            pairs += load.prefill_pairs
            capped_pairs += load.prefill_capped_pairs
            longest = max(longest, load.prefill_longest)
    return RankLoad(sequences, context, capped, 0, new, pairs, capped_pairs, 0, longest)


def _listed(values: object, like: FloatArray) -> list[float]:
    """A table as plain floats: list look-ups are three times faster than an array's."""
    listed: list[float] = np.broadcast_to(np.asarray(values, dtype=float), like.shape).tolist()
    return listed
