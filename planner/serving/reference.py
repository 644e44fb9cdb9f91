"""The same simulation step by step, for tests: plain lists, everything counted anew every step.

Two things are shared with the jump engine on purpose: the router and arrivals, and the clock of a
stretch.  A step ends at ``start of the stretch + elapsed_s(steps)``, so that both engines round
alike and simultaneous events are ordered alike.  That steps really take what the stretch promised
is checked at each of them.
"""

import math
from dataclasses import dataclass, field

import simpy

from planner.serving.arrivals import Stream
from planner.serving.balance import RouterName
from planner.serving.engine import WAKING, Site
from planner.serving.meter import BIN_WIDTH, Meter
from planner.serving.records import Records
from planner.serving.scheduler import ReplicaConfig
from planner.serving.simulation import Front
from planner.serving.timing import RankLoad, Segment, Timing


def simulate_per_step(
    stream: Stream,
    timing: Timing,
    config: ReplicaConfig,
    *,
    replicas: int = 1,
    router: RouterName = "least_requests",
    horizon_s: float | None = None,
) -> Records:
    """Do what :func:`~planner.serving.simulation.simulate` does, with an event per step.

    Raises
    ------
    AssertionError
        A step takes another time than the ``Segment`` it belongs to said.
    """
    front = Front(stream, config, router)
    site = Site(front.clock, front.ledger, timing, config, front.answered)
    return front.run([PlainReplica(number, site) for number in range(replicas)], horizon_s)


@dataclass(eq=False)
class _Sequence:
    request: int
    input_tokens: int
    output_tokens: int
    cached: int
    """Tokens in the cache."""
    produced: int = 0
    chunk: int = 0
    """Prompt tokens computed in this step."""

    @property
    def decoding(self) -> bool:
        return self.produced > 0

    @property
    def reserved(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass
class _Rank:
    waiting: list[_Sequence] = field(default_factory=list)
    admitted: list[_Sequence] = field(default_factory=list)


class PlainReplica:
    """A replica that looks at every sequence in every step."""

    def __init__(self, number: int, site: Site) -> None:
        self.meter = Meter()
        self.now_s = 0.0
        self._number, self._site, self._config = number, site, site.config
        self._ranks = [_Rank() for _ in range(site.config.ranks)]
        self._idle, self._stopped = True, False
        self._composition: object = None
        self._step_s = self._stretch_s = 0.0
        self._stretch_steps = 0
        self._segment = Segment(0.0)

    def submit(self, request: int, now_s: float) -> None:
        """Take a request that arrives now. [s]"""
        ledger = self._site.ledger
        tokens = ledger.input_tokens[request]
        computed = math.ceil(tokens * (1 - self._config.cached_input_share) - 1e-9)
        sequence = _Sequence(
            request, tokens, ledger.output_tokens[request], cached=tokens - max(1, computed)
        )
        rank = min(self._ranks, key=lambda one: len(one.waiting) + len(one.admitted))
        rank.waiting.append(sequence)
        if self._idle and not self._stopped:
            self._idle = False
            self._site.clock.at(now_s, WAKING, self._wake)

    def stop(self, now_s: float) -> None:
        """End the step in progress and do no other."""
        self._stopped = True

    def produced(self) -> dict[int, int]:
        """Tokens so far of each request that is decoding now."""
        admitted = [one for rank in self._ranks for one in rank.admitted]
        return {one.request: one.produced for one in admitted if one.decoding}

    def _wake(self, event: simpy.Event) -> None:
        self._begin(self._site.clock.now)

    def _begin(self, now_s: float) -> None:
        if self._stopped:
            return
        for rank in self._ranks:
            self._admit(rank, now_s)
            self._cut_prompts(rank)
        self._idle = not any(rank.admitted for rank in self._ranks)
        if self._idle:
            return
        self._follow(now_s)
        self._step_s = now_s
        self.now_s = self._stretch_s + self._segment.elapsed_s(self._stretch_steps)
        self._site.clock.at(self.now_s, self._number, self._end)

    def _admit(self, rank: _Rank, now_s: float) -> None:
        slots = min(self._config.max_sequences, self._config.max_step_tokens)
        while rank.waiting and len(rank.admitted) < slots:
            together = [*rank.admitted, rank.waiting[0]]
            overhead = self._config.sequence_overhead_tokens * len(together)
            reserved = overhead + sum(sequence.reserved for sequence in together)
            if reserved > self._config.kv_capacity_tokens:
                break
            self._site.ledger.admitted_s[rank.waiting[0].request] = now_s
            rank.admitted.append(rank.waiting.pop(0))

    def _cut_prompts(self, rank: _Rank) -> None:
        budget = self._config.max_step_tokens - sum(one.decoding for one in rank.admitted)
        for sequence in rank.admitted:
            sequence.chunk = 0
            if not sequence.decoding:
                sequence.chunk = min(budget, sequence.input_tokens - sequence.cached)
                budget -= sequence.chunk

    def _load(self, rank: _Rank) -> RankLoad:
        cap = self._config.cap_tokens or math.inf
        contexts = [one.cached for one in rank.admitted if one.decoding]
        queries = [
            one.cached + i for one in rank.admitted for i in range(1, one.chunk + 1)
        ]  # context of each prompt token, itself included
        return RankLoad(
            sequences=len(contexts),
            context_tokens=sum(contexts),
            capped_tokens=int(sum(min(context, cap) for context in contexts)),
            growing=sum(context < cap for context in contexts),
            prefill_tokens=len(queries),
            prefill_pairs=sum(queries),
            prefill_capped_pairs=sum(min(query, cap) for query in queries),
            prompts_finished=sum(
                one.chunk > 0 and one.cached + one.chunk == one.input_tokens
                for one in rank.admitted
            ),
        )

    def _follow(self, now_s: float) -> None:
        """Go on with the stretch if nothing changed, else begin another."""
        loads = [self._load(rank) for rank in self._ranks]
        fresh = self._site.timing.segment(loads)
        composition = [
            [(one.request, one.chunk) for one in rank.admitted] + [load.growing]
            for rank, load in zip(self._ranks, loads, strict=True)
        ]
        old, done = self._segment, self._stretch_steps
        prefill = any(load.prefill_tokens for load in loads)
        if composition != self._composition or prefill or done == old.valid_steps:
            self._composition, self._segment = composition, fresh
            self._stretch_s, self._stretch_steps = now_s, 1
            return
        promised_s = old.first_step_s + done * old.slope_s_per_step
        if not math.isclose(fresh.first_step_s, promised_s, rel_tol=1e-9):
            raise AssertionError(
                f"step {done} of a stretch takes {fresh.first_step_s} s, not {promised_s} s"
            )
        self._stretch_steps += 1

    def _measure(self, start_s: float, end_s: float) -> None:
        meter, step_s = self.meter, end_s - start_s
        admitted = [one for rank in self._ranks for one in rank.admitted]
        decoding = sum(one.decoding for one in admitted)
        meter.steps += 1
        meter.stretches += 1
        meter.busy_s += step_s
        meter.energy_j += self._segment.power_w * step_s
        meter.prefill_s += self._segment.prefill_s if self._stretch_steps == 1 else 0.0
        meter.kv_token_s += step_s * sum(one.cached + one.chunk + one.decoding for one in admitted)
        if decoding and end_s > meter.gaps_from_s:
            meter.gap_tokens += decoding
            meter.gap_sum_s += decoding * step_s
            index = math.floor(math.log(step_s) / BIN_WIDTH)
            meter.gap_bins[index] = meter.gap_bins.get(index, 0) + decoding

    def _end(self, event: simpy.Event) -> None:
        self._measure(self._step_s, self.now_s)
        finished = []
        for rank in self._ranks:
            for sequence in rank.admitted:
                if sequence.decoding:
                    sequence.cached += 1
                    sequence.produced += 1
                elif sequence.chunk:
                    sequence.cached += sequence.chunk
                    if sequence.cached == sequence.input_tokens:
                        sequence.produced = 1
                        self._site.ledger.first_token_s[sequence.request] = self.now_s
            done = [one for one in rank.admitted if one.produced == one.output_tokens]
            rank.admitted = [one for one in rank.admitted if one not in done]
            finished += done
        for sequence in finished:
            self._site.ledger.finish_s[sequence.request] = self.now_s
            self._site.answered(self._number, self.now_s)
        self._begin(self.now_s)
