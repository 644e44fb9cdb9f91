"""One replica that jumps: an event per step with prefill, and one per stretch of pure decoding.

Between two changes of composition (a sequence finishes, a context reaches the cap, the cache
fills, a prompt is admitted) the time of ``k`` steps is closed form, so the replica sleeps through
them.  A request that arrives meanwhile and can be admitted cuts the sleep at the next step
boundary at which the scheduler looks; one that has to wait for a slot or for KV changes nothing
before a sequence finishes.

What happens at one instant is ordered by priority, not by chance: steps end and the next begin,
replicas by number; then requests arrive; then idle replicas wake.  So the router has heard of
every answer, requests that arrive together at an idle replica are seen together, and an arrival
exactly at a step boundary (a closed loop without think time has many) takes part one step later.
"""

import simpy

from planner.serving.balance import PrefixAware, balancer
from planner.serving.clock import WAKING
from planner.serving.decoding import NEVER
from planner.serving.meter import Meter
from planner.serving.ranks import ranks_of
from planner.serving.scheduler import Scheduler
from planner.serving.site import Site
from planner.serving.timing import Segment, delayed, scaled, steps_beyond


class Replica:
    """Attention ranks that share a step barrier.

    Parameters
    ----------
    number : of this replica, from 0.
    """

    __slots__ = (
        "_ahead",
        "_alone",
        "_at",
        "_balancer",
        "_balances",
        "_cuttable",
        "_delivers",
        "_factor",
        "_held_steps",
        "_held_tokens",
        "_holding",
        "_inbox",
        "_late",
        "_loads",
        "_number",
        "_paused_s",
        "_poll",
        "_polled",
        "_rank_of",
        "_ranks",
        "_segment",
        "_segment_of",
        "_separate",
        "_sequences",
        "_several",
        "_since_poll",
        "_site",
        "_start_s",
        "_steps",
        "_stopped",
        "_streams",
        "_swaps",
        "_timer",
        "meter",
        "now_s",
    )

    def __init__(self, number: int, site: Site) -> None:
        self.meter = Meter()
        self.now_s = 0.0
        """End of the last stretch, or of the one in progress. [s]"""
        self._number, self._site = number, site
        config = site.config
        self._separate = config.separate
        self._at, self._segment_of = site.clock.at, site.timing.segment
        self._several, self._poll = config.ranks > 1, config.poll_steps
        self._ahead = config.polls_ahead
        self._balances, self._holding, self._held_steps = config.balance_steps > 0, False, 0
        self._alone = not (self._several or self._balances)
        self._delivers = config.role != "prefill"
        self._streams = self._delivers and config.stream_interval_tokens > 1
        self._ranks = ranks_of(config, site.ledger, number)
        self._loads = [rank.view for rank in self._ranks]
        self._balancer = balancer(config.rank_router, config.ranks)
        self._rank_of: dict[int, int] = {}
        self._inbox: list[tuple[Scheduler, int]] = []
        self._polled, self._since_poll = True, 0
        self._paused_s: dict[int, float] = {}  # last token of preempted requests
        self._late: list[tuple[int, float]] = []  # sequences that waited before this stretch
        self._swaps = config.preemption == "swap"
        self._timer: simpy.Event | None = None  # None: nothing to do
        self._segment: Segment | None = None
        self._start_s, self._steps = 0.0, 0
        self._sequences = self._held_tokens = 0
        self._cuttable = self._stopped = False
        self._factor = 1.0

    def submit(self, request: int, now_s: float) -> None:
        """Take a request that arrives now. [s]"""
        rank = self._ranks[0]
        if self._several:
            member = self._rank_of[request] = self._choose(request, now_s)
            rank = self._ranks[member]
        if self._poll > 1:
            self._inbox.append((rank, request))
            admissible = True
        else:
            admissible = rank.add(request)
        if self._timer is None:
            if not self._stopped:
                self._timer = self._at(now_s, WAKING, self._wake)
        elif admissible and self._cuttable:
            self._cut(now_s)

    def _choose(self, request: int, now_s: float) -> int:
        """Choose the rank of a request."""
        by_rank = self._balancer
        if isinstance(by_rank, PrefixAware):
            prompt = self._site.ledger.prompts[request]
            return by_rank.choose(self._matches(request, now_s), prompt)
        return by_rank.take(0)

    def match(self, request: int, now_s: float) -> int:
        """Prompt tokens that the best rank's cache holds of a request now. [tokens]"""
        return max(self._matches(request, now_s))

    def _matches(self, request: int, now_s: float) -> list[int]:
        steps = 0
        if self._steps > 1 and self._timer is not None and self._segment is not None:
            steps = steps_beyond(self._segment, self._start_s, now_s) - 1
        return [rank.match(request, steps) for rank in self._ranks]

    def stop(self, now_s: float) -> None:
        """End the step in progress and do no other."""
        self._stopped = True
        if self._timer is not None and self._steps > 1:
            self._cut(now_s, polled=False)

    def slow(self, now_s: float, factor: float) -> None:
        """From the next step on, let every step take ``factor`` times as long."""
        self._factor = factor
        if self._timer is not None and self._steps > 1:
            self._cut(now_s, polled=False)

    def fail(self, now_s: float) -> list[int]:
        """Break off the step in progress and forget everything.  Return its requests."""
        if self._timer is not None and self._segment is not None and now_s < self.now_s:
            whole = steps_beyond(self._segment, self._start_s, now_s) - 1
            if whole:
                self._count(self._segment, whole)
                for rank in self._ranks:
                    self._advance(rank, whole)
            broken_s = now_s - self._start_s - self._segment.elapsed_s(whole)
            self.meter.busy_s += broken_s
            self.meter.energy_j += self._segment.power_w * broken_s
            self.now_s = now_s
        self._note_progress()
        lost = [request for rank in self._ranks for request in rank.evict_all()]
        lost += [request for _, request in self._inbox]
        self._inbox.clear()
        self._rank_of.clear()
        self._paused_s.clear()
        self._late.clear()
        self._balancer = balancer(self._site.config.rank_router, self._site.config.ranks)
        self._timer, self._segment = None, None
        self._polled, self._since_poll, self._cuttable = True, 0, False
        self._holding, self._held_steps = False, 0
        return sorted(lost)

    def remaining(self) -> dict[int, int]:
        """Tokens still to produce of each request that is decoding now."""
        return {
            request: tokens for rank in self._ranks for request, tokens in rank.remaining().items()
        }

    def _note_progress(self) -> None:
        """Let what was produced be part of the prompt should a request begin anew."""
        ledger = self._site.ledger
        if self._site.config.role == "prefill":
            return
        for request, left in self.remaining().items():
            ledger.prompts[request] += ledger.answers[request] - left
            ledger.answers[request] = left

    def _wake(self, event: simpy.Event) -> None:
        if event is self._timer:
            self._polled, self._since_poll = True, 0
            self._begin(self._site.clock.now)

    def _begin(self, now_s: float) -> None:
        """Plan the next stretch, from now on."""
        self._timer = None
        self._cuttable = False
        if self._stopped:
            return
        if self._inbox and self._polled:
            self._read_inbox()
        left = self._plan(now_s)
        if self._streams:
            self._joined(now_s)
        if not left:
            if self._inbox:  # idle: the scheduler looks at once
                self._polled, self._since_poll = True, 0
                self._begin(now_s)
            return
        if self._ahead and self._polled and self._inbox:  # a step with prompts: they join the next
            self._read_inbox()
        segment = self._stretch()
        steps = left if left < segment.valid_steps else segment.valid_steps
        if self._inbox:
            steps = min(steps, self._poll - self._since_poll)
        self._segment = segment
        self._start_s, self._steps, self._cuttable = now_s, steps, steps > 1
        self._arm(segment, steps)

    def _stretch(self) -> Segment:
        """Ask what the steps as planned take."""
        segment = self._segment_of(self._loads)
        if self._factor != 1.0:
            segment = scaled(segment, self._factor)
        if self._swaps:
            swapped = max(rank.swapped_tokens for rank in self._ranks)
            if swapped:
                segment = delayed(segment, swapped * self._site.config.swap_s_per_token)
        return segment

    def _read_inbox(self) -> None:
        for rank, request in self._inbox:
            rank.add(request)
        self._inbox.clear()

    def _plan(self, now_s: float) -> int:
        """Let every rank decide.  Return the steps that holds for, 0: there is nothing to do."""
        if self._alone:
            return self._plan_alone(now_s)
        left, prefill = NEVER, False
        sequences = held_tokens = 0
        loads = self._loads
        held = self._hold(now_s) if self._balances else 0
        for number, rank in enumerate(self._ranks):
            if self._balances:
                rank.lay_out(held > 0)
            else:
                admitted = rank.plan()
                if admitted:
                    self._admit(admitted, now_s)
            if rank.preempted:
                self._preempt(rank, now_s)
            load = loads[number] = rank.view
            sequences += load.sequences
            held_tokens += rank.load.context_tokens + rank.held_prompt_tokens
            prefill = prefill or load.prefill_tokens > 0
            left = rank.left if rank.left < left else left
        self._sequences, self._held_tokens = sequences, held_tokens
        self._polled = prefill
        if prefill:
            return 1
        if held:
            left = min(left, held)
        return left if sequences else 0

    def _plan_alone(self, now_s: float) -> int:
        """Plan a replica of one rank: the same, without the sums."""
        rank = self._ranks[0]
        admitted = rank.plan()
        if admitted:
            self._admit(admitted, now_s)
        if rank.preempted:
            self._preempt(rank, now_s)
        load = self._loads[0] = rank.view
        sequences = self._sequences = load.sequences
        self._held_tokens = rank.load.context_tokens + rank.held_prompt_tokens
        if load.prefill_tokens:
            self._polled = True
            return 1
        self._polled = False
        return rank.left if sequences else 0

    def _hold(self, now_s: float) -> int:
        """Let ranks admit.  Return the steps for which prompts now wait for other ranks'."""
        for rank in self._ranks:
            admitted = rank.take()
            if admitted:
                self._admit(admitted, now_s)
        limit, having = self._site.config.balance_steps, sum(bool(r.prompts) for r in self._ranks)
        self._holding = (
            self._held_steps < limit
            and 0 < having < len(self._ranks)
            and any(rank.load.sequences for rank in self._ranks)
        )
        return limit - self._held_steps if self._holding else 0

    def _admit(self, admitted: list[int], now_s: float) -> None:
        ledger = self._site.ledger
        times = ledger.admitted_s
        for request in admitted:
            if times[request] != times[request]:
                times[request] = now_s
            elif self._paused_s and self._swaps and request in self._paused_s:
                self._late.append((1, now_s - self._paused_s.pop(request)))
        if self._site.config.role == "decode":
            times = ledger.first_token_s
            for request in admitted:
                if times[request] != times[request]:
                    times[request] = now_s

    def _joined(self, now_s: float) -> None:
        """Count first tokens, and others, of sequences that begin to decode with this step."""
        for rank in self._ranks:
            if rank.deliveries is not None:
                rank.deliveries.joined(now_s, rank.step, self.meter)

    def _preempt(self, rank: Scheduler, now_s: float) -> None:
        counts, first_s = self._site.ledger.preempted, self._site.ledger.first_token_s
        if rank.deliveries is not None:
            rank.deliveries.joined(now_s, rank.step, self.meter)
            rank.deliveries.put_back(rank.preempted, rank.step)
        for request in rank.preempted:
            self.meter.preempted += 1
            counts[request] = counts.get(request, 0) + 1
            if not self._streams and first_s[request] == first_s[request]:
                self._paused_s.setdefault(request, now_s - rank.stalled_s(request))

    def _arm(self, segment: Segment, steps: int) -> None:
        self.now_s = end_s = self._start_s + segment.elapsed_s(steps)
        self._timer = self._at(end_s, self._number, self._end)

    def _cut(self, time_s: float, polled: bool = True) -> None:
        """End the stretch at the first boundary after ``time_s`` (at which the inbox is read)."""
        segment = self._segment
        assert segment is not None
        if time_s < self.now_s:
            steps = steps_beyond(segment, self._start_s, time_s)
            poll = self._poll
            if poll > 1 and polled:
                steps += -(self._since_poll + steps) % poll
            if steps < self._steps:
                self._steps = steps
                self._arm(segment, steps)
        self._cuttable = False

    def _end(self, event: simpy.Event) -> None:
        if event is not self._timer:  # a timer from before a cut
            return
        now_s, steps, segment, site = self.now_s, self._steps, self._segment, self._site
        assert segment is not None
        self._count(segment, steps)
        if self._poll > 1:
            self._since_poll = 0 if self._polled else (self._since_poll + steps) % self._poll
            self._polled = self._since_poll == 0 and not (self._polled and self._ahead)
        if self._balances:
            self._held_steps = self._held_steps + steps if self._holding else 0
        several = self._several
        for rank in self._ranks:
            told = rank.deliveries is not None
            started, finished = self._advance(rank, steps) if told else rank.advance(steps)
            if started and self._delivers:
                self._first_tokens(started, now_s)
            for request in finished:
                if several:
                    self._balancer.release(self._rank_of.pop(request), 0)
                site.done(self._number, request, now_s)
        self._begin(now_s)

    def _advance(self, rank: Scheduler, steps: int) -> tuple[list[int], list[int]]:
        """Run a rank's part of ``steps`` steps of the stretch in progress."""
        before = rank.step
        done = rank.advance(steps)
        if rank.deliveries is not None and self._segment is not None:
            decoded = before, rank.step - before
            rank.deliveries.ran(self._segment, self._start_s, decoded, done[1], self.meter)
        return done

    def _first_tokens(self, started: list[int], now_s: float) -> None:
        first_s = self._site.ledger.first_token_s
        for request in started:
            if first_s[request] != first_s[request]:
                first_s[request] = now_s
            elif request in self._paused_s:
                self.meter.add_gap(now_s - self._paused_s.pop(request), now_s, 1)

    def _count(self, segment: Segment, steps: int) -> None:
        """Count ``steps`` steps of the stretch in progress."""
        meter = self.meter
        if self._streams:
            meter.add_work(segment, steps, self._sequences, self._held_tokens)
            return
        if not (self._separate or self._late):
            meter.add(segment, self._start_s, steps, self._sequences, self._held_tokens)
            return
        meter.add_work(segment, steps, self._sequences, self._held_tokens)
        waited, self._late = self._late, []
        for rank in self._ranks:
            waited += rank.standing(segment.elapsed_s(steps))
        meter.add_gaps_after(waited, segment, self._start_s, steps, self._sequences)
