"""The same simulation step by step, for tests: plain lists, everything counted anew every step.

Two things are shared with the jump engine on purpose: the router and arrivals, and the clock of a
stretch.  A step ends at ``start of the stretch + elapsed_s(steps)``, so that both engines round
alike and simultaneous events are ordered alike.  That steps really take what the stretch promised
is checked at each of them.
"""

import math

import simpy

from planner.serving.arrivals import Stream
from planner.serving.balance import PrefixAware
from planner.serving.clock import WAKING
from planner.serving.cluster import Cluster, PoolSetup
from planner.serving.config import ReplicaConfig
from planner.serving.meter import Meter
from planner.serving.plain import PlainRank as _Rank
from planner.serving.plain import PlainSequence as _Sequence
from planner.serving.plain import cut_prompts, fits, load_of, open_for_prompts, used_tokens
from planner.serving.plain_cache import PlainCache
from planner.serving.records import Records
from planner.serving.simulation import simulate_cluster
from planner.serving.site import Site
from planner.serving.timing import Segment, Timing, delayed, scaled
from planner.specs.deployment import RouterName


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
    cluster = Cluster((PoolSetup(timing, config, replicas, router),))
    return simulate_cluster(stream, cluster, horizon_s=horizon_s, engine=PlainReplica)


class PlainReplica:
    """A replica that looks at every sequence in every step."""

    def __init__(self, number: int, site: Site) -> None:
        self.meter = Meter()
        self.now_s = 0.0
        self._number, self._site, self._config = number, site, site.config
        self._ranks = self._empty()
        self._inbox: list[tuple[_Rank, _Sequence]] = []
        self._idle, self._stopped = True, False
        self._composition: object = None
        self._step_s = self._stretch_s = 0.0
        self._stretch_steps = 0
        self._segment = Segment(0.0)
        self._event: simpy.Event | None = None
        self._since_poll = self._held = 0
        self._factor = 1.0

    def submit(self, request: int, now_s: float) -> None:
        """Take a request that arrives now. [s]"""
        ledger, role = self._site.ledger, self._config.role
        sequence = _Sequence(
            request,
            ledger.prompts[request],
            1 if role == "prefill" else ledger.answers[request],
            self._prefix(request),
        )

        def load(rank: _Rank) -> int:
            boxed = sum(one is rank for one, _ in self._inbox)
            return len(rank.waiting) + len(rank.admitted) + boxed

        loads = [load(rank) for rank in self._ranks]
        member = loads.index(min(loads))
        if self._config.rank_router == "prefix_aware" and len(loads) > 1:
            aware = PrefixAware(len(loads))
            aware.outstanding[:] = loads
            matches = [rank.cache.find(sequence) for rank in self._ranks if rank.cache]
            member = aware.choose(matches, sequence.prompt)
        self._inbox.append((self._ranks[member], sequence))
        if self._config.poll_steps == 1:
            self._read_inbox()
        if self._idle and not self._stopped:
            self._idle = False
            self._event = self._site.clock.at(now_s, WAKING, self._wake)

    def match(self, request: int, now_s: float) -> int:
        """Prompt tokens that the best rank's cache holds of a request now. [tokens]"""
        one = _Sequence(request, self._site.ledger.prompts[request], 1, 0)
        return max(rank.cache.find(one) for rank in self._ranks if rank.cache)

    def _empty(self) -> list[_Rank]:
        """Ranks that hold nothing."""
        ranks = [_Rank() for _ in range(self._config.ranks)]
        prefixes = self._site.ledger.prefixes
        if self._config.prefix_cache and prefixes is not None:
            for rank in ranks:
                rank.cache = PlainCache(rank, self._config, prefixes)
                rank.cache.store = prefixes.tiers[self._number] if prefixes.tiers else None
        return ranks

    def stop(self, now_s: float) -> None:
        """End the step in progress and do no other."""
        self._stopped = True

    def slow(self, now_s: float, factor: float) -> None:
        """From the next step on, let every step take ``factor`` times as long."""
        self._factor = factor

    def fail(self, now_s: float) -> list[int]:
        """Break off the step in progress and forget everything.  Return its requests."""
        everyone = [one for rank in self._ranks for one in rank.admitted + rank.waiting]
        for one in everyone:
            if self._config.role != "prefill":
                self._write(one, one.produced)
        if now_s < self.now_s:
            self.meter.busy_s += now_s - self._step_s
            self.meter.energy_j += self._segment.power_w * (now_s - self._step_s)
            self.now_s = now_s
        lost = [one.request for one in everyone] + [one.request for _, one in self._inbox]
        self._ranks = self._empty()
        self._inbox = []
        self._event, self._idle, self._composition = None, True, None
        self._held = 0
        return sorted(lost)

    def remaining(self) -> dict[int, int]:
        """Tokens still to produce of each request that is decoding or swapped out."""
        known = [one for rank in self._ranks for one in rank.admitted + rank.waiting]
        return {one.request: one.answer - one.produced for one in known if one.decoding}

    def _prefix(self, request: int) -> int:
        cached = self._site.ledger.cached
        return cached[request] if cached is not None else 0

    def _write(self, one: _Sequence, produced: int) -> None:
        ledger = self._site.ledger
        ledger.prompts[one.request] = one.prompt + produced
        ledger.answers[one.request] = one.answer - produced

    def _read_inbox(self) -> None:
        for rank, sequence in self._inbox:
            self._enqueue(rank, sequence, first=False)
        self._inbox.clear()

    def _enqueue(self, rank: _Rank, sequence: _Sequence, first: bool) -> None:
        """Put into the queue behind, or before, all of its class."""
        priority = self._site.ledger.priority
        own = 0 if priority is None else priority[sequence.request]

        def place(other: _Sequence) -> bool:
            theirs = 0 if priority is None else priority[other.request]
            return theirs < own if first else theirs <= own

        rank.waiting.insert(sum(map(place, rank.waiting)), sequence)

    def _wake(self, event: simpy.Event) -> None:
        if event is self._event:
            self._since_poll = 0
            self._read_inbox()
            self._begin(self._site.clock.now)

    def _begin(self, now_s: float) -> None:
        if self._stopped:
            return
        for rank in self._ranks:
            self._plan(rank, now_s)
        self._hold()
        self._idle = not any(rank.admitted for rank in self._ranks)
        if self._idle:
            if self._inbox:
                self._since_poll = 0
                self._read_inbox()
                self._begin(now_s)
            return
        if self._config.polls_ahead and self._computes_prompts():
            self._read_inbox()
        self._follow(now_s)
        self._step_s = now_s
        self.now_s = self._stretch_s + self._segment.elapsed_s(self._stretch_steps)
        self._event = self._site.clock.at(self.now_s, self._number, self._end)

    # --- what a step holds ---

    def _plan(self, rank: _Rank, now_s: float) -> None:
        config = self._config
        rank.preempted, rank.moved = [], 0
        for one in rank.admitted:
            one.chunk = 0
        if config.policy not in ("prefill_first", "interleaved"):
            self._make_room(rank, now_s)
            if not rank.preempted:
                self._admit(rank, now_s)
            cut_prompts(rank, config, config.max_step_tokens - len(rank.decoding), math.inf)
            return
        self._admit(rank, now_s)
        rank.alone = bool(rank.prompts) and (rank.due == 0 or not rank.decoding)
        if rank.alone:
            most = 1 if config.policy == "interleaved" else math.inf
            cut_prompts(rank, config, config.max_step_tokens, most)
        else:
            self._make_room(rank, now_s)

    def _hold(self) -> None:
        """Take the chunks back where prompts wait until every rank has one."""
        having = sum(bool(rank.prompts) for rank in self._ranks)
        running = any(rank.decoding for rank in self._ranks)
        limit = self._config.balance_steps
        if self._held < limit and 0 < having < len(self._ranks) and running:
            self._held += 1
            for rank in self._ranks:
                for one in rank.admitted:
                    one.chunk = 0
        else:
            self._held = 0

    def _admit(self, rank: _Rank, now_s: float) -> None:
        config, ledger = self._config, self._site.ledger
        mixed = config.policy not in ("prefill_first", "interleaved")
        slots = min(config.max_sequences, config.max_step_tokens) if mixed else config.max_sequences
        if rank.cache:
            rank.cache.trim()
        while rank.waiting and len(rank.admitted) < slots and open_for_prompts(rank, config):
            local = self._look(rank, rank.waiting[0])
            if not fits(rank, rank.waiting[0], local, config):
                break
            one = rank.waiting.pop(0)
            if math.isnan(ledger.admitted_s[one.request]):
                ledger.admitted_s[one.request] = now_s
            if config.role == "decode" and not (one.swapped or one.again):
                if math.isnan(ledger.first_token_s[one.request]):
                    ledger.first_token_s[one.request] = now_s
                one.produced, one.cached, one.last_sent_s = 1, one.prompt, now_s
                one.told = 1
                self._number_start(rank, one)
            elif one.swapped:
                rank.moved += one.cached
                one.swapped = False
                self._number_start(rank, one)
            rank.admitted.append(one)
            if rank.cache and ledger.prefixes:
                if not one.decoding:
                    ledger.prefixes.admit(one.request, local, one.cached)
                    ledger.prefixes.computed_tokens += one.prompt - one.cached
                    ledger.prefixes.waiting_tokens.pop(one.request, None)
                rank.cache.share(one, local // rank.cache.block_tokens)
                rank.cache.trim()

    def _look(self, rank: _Rank, one: _Sequence) -> int:
        """Let a sequence find what there is of its prompt.  Return what the cache holds."""
        prefixes, cache = self._site.ledger.prefixes, rank.cache
        if prefixes is None or cache is None or one.swapped:
            return 0
        local = cache.find(one)
        one.cached = max(local, min(prefixes.waiting_tokens.get(one.request, 0), one.prompt - 1))
        return local

    def _number_start(self, rank: _Rank, one: _Sequence) -> None:
        rank.starts += 1
        one.began = rank.starts

    def _make_room(self, rank: _Rank, now_s: float) -> None:
        config = self._config
        capacity = config.kv_capacity_tokens
        if not config.grows or used_tokens(rank, config) + len(rank.decoding) <= capacity:
            return
        while (
            used_tokens(rank, config) + config.room_steps * len(rank.decoding) > capacity
            and len(rank.admitted) > 1
        ):
            prompts = rank.prompts
            one = prompts[-1] if prompts else max(rank.decoding, key=lambda other: other.began)
            if rank.cache:
                rank.cache.leave(one)
            else:
                rank.admitted.remove(one)
            self._put_back(rank, one)

    def _put_back(self, rank: _Rank, one: _Sequence) -> None:
        if one.decoding and self._config.preemption == "swap":
            one.prompt += one.produced - 1
            one.answer -= one.produced - 1
            one.produced, one.swapped = 1, True
            rank.moved += one.cached
        else:
            one.prompt += one.produced
            one.answer -= one.produced
            one.again = True
            one.produced, one.cached = 0, self._prefix(one.request)
        self._write(one, 0)
        self._enqueue(rank, one, first=True)
        rank.preempted.append(one)
        self.meter.preempted += 1
        counts = self._site.ledger.preempted
        counts[one.request] = counts.get(one.request, 0) + 1

    # --- its time ---

    def _follow(self, now_s: float) -> None:
        """Go on with the stretch if nothing changed, else begin another."""
        loads = [load_of(rank, self._config) for rank in self._ranks]
        fresh = scaled(self._site.timing.segment(loads), self._factor)
        moved = max(rank.moved for rank in self._ranks)
        if moved:
            fresh = delayed(fresh, moved * self._config.swap_s_per_token)
        composition = [self._factor] + [
            [(one.request, one.chunk, one.prompt) for one in rank.admitted] + [load.growing]
            for rank, load in zip(self._ranks, loads, strict=True)
        ]
        old, done = self._segment, self._stretch_steps
        prefill = any(load.prefill_tokens for load in loads)
        if composition != self._composition or prefill or moved or done == old.valid_steps:
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
        meter.steps += 1
        meter.stretches += 1
        meter.busy_s += step_s
        meter.energy_j += self._segment.power_w * step_s
        meter.prefill_s += self._segment.prefill_s if self._stretch_steps == 1 else 0.0
        held = sum(
            one.cached + one.chunk + (one.decoding and not rank.alone)
            for rank in self._ranks
            for one in rank.admitted
        )
        held -= sum(rank.cache.saved() for rank in self._ranks if rank.cache)
        meter.kv_token_s += step_s * held

    def _token(self, one: _Sequence, now_s: float) -> None:
        """Produce a token, and send it with those before it when it is time."""
        one.produced += 1
        one.told += 1
        if not one.sends(self._config):
            return
        if not math.isnan(one.last_sent_s):
            self.meter.add_gap(now_s - one.last_sent_s, now_s, 1)
        one.last_sent_s = now_s

    def _end(self, event: simpy.Event) -> None:
        if event is not self._event:
            return
        self._measure(self._step_s, self.now_s)
        finished = []
        prefill = self._computes_prompts()
        for rank in self._ranks:
            rank.due = max(0, rank.due - 1)
            if rank.alone and self._config.policy == "interleaved":
                rank.due = self._config.decode_steps_between_prefills
            self._advance(rank)
            done = [one for one in rank.admitted if one.produced == one.answer]
            if rank.cache:
                rank.cache.step_done()
            rank.admitted = [one for one in rank.admitted if one not in done]
            finished += done
        self._since_poll = 0 if prefill else (self._since_poll + 1) % self._config.poll_steps
        for sequence in finished:
            self._site.done(self._number, sequence.request, self.now_s)
        if self._since_poll == 0 and not (prefill and self._config.polls_ahead):
            self._read_inbox()
        self._begin(self.now_s)

    def _computes_prompts(self) -> bool:
        return any(one.chunk for rank in self._ranks for one in rank.admitted)

    def _advance(self, rank: _Rank) -> None:
        first_s = self._site.ledger.first_token_s
        for one in rank.admitted:
            if one.decoding and not rank.alone:
                one.cached += 1
                self._token(one, self.now_s)
            elif one.chunk:
                one.cached += one.chunk
                if one.cached == one.prompt:
                    self._token(one, self.now_s)
                    self._number_start(rank, one)
                    if self._config.role == "both" and math.isnan(first_s[one.request]):
                        first_s[one.request] = self.now_s
