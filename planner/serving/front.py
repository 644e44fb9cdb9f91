"""The front door of a cluster: takes requests, hands them to replicas, hears of answers."""

from array import array
from collections.abc import Callable, Sequence

import numpy as np
import simpy

from planner.errors import InfeasibleError
from planner.serving.arrivals import Stream
from planner.serving.balance import PrefixAware, PrefixCost
from planner.serving.clock import ARRIVAL, CLOSING, SHED, TOO_LONG, Clock, Ledger
from planner.serving.cluster import Cluster, Handover, PoolSetup
from planner.serving.overload import overload
from planner.serving.pool import Link, Pool
from planner.serving.prefix_tier import TierReader
from planner.serving.progress import Progress, progress
from planner.serving.records import Records, collect
from planner.serving.site import ReplicaEngine, Site
from planner.serving.sources import source

EngineFactory = Callable[[int, Site], ReplicaEngine]


class Front:
    """The router: takes arrivals, rejects or passes them on, hears of answers.

    It knows replicas by their protocol only, so the jumping and the plain engine share it.
    """

    def __init__(self, stream: Stream, cluster: Cluster, engine: EngineFactory) -> None:
        self.clock, self.ledger, self.cluster = Clock(), Ledger(), cluster
        self.open, self.stops_overload = True, False
        self._stream = stream
        self._keeps = cluster.keeps_prefixes
        self._shares = cluster.pools[0].config.cached_input_share > 0 or self._keeps
        if self._shares:
            self.ledger.cached = array("q")
        self._counting = False
        self._last_arrival_s = 0.0
        self._apart = cluster.apart
        self._surely_tokens = cluster.surely_tokens()
        self._source = source(stream, self)
        self._tier = self._tier_reader()
        self._loading: dict[int, simpy.Event] = {}  # requests whose prefix is on its way
        self.replicas: list[ReplicaEngine] = []
        self._pools: list[Pool] = []
        for setup in cluster.pools:
            pool = self._pool(setup, len(self.replicas))
            site = Site(self.clock, self.ledger, setup.timing, setup.config, self._done)
            self.replicas += [engine(pool.first + i, site) for i in range(setup.replicas)]
            self._pools.append(pool)
        self._entry = self._pools[0]
        self._link = Link(cluster.handover or Handover(0.0), len(self.replicas))

    def _pool(self, setup: PoolSetup, first: int) -> Pool:
        return Pool(setup, first, self.cluster.seed)

    def _tier_reader(self) -> TierReader | None:
        """Build the stores behind the caches, if any."""
        setup, prefixes = self.cluster.pools[0], self.ledger.prefixes
        if setup.tier is None or prefixes is None:
            return None
        tiers = setup.tier.build(setup.replicas, prefixes.block_tokens)
        prefixes.tiers = tiers
        return TierReader(tiers, prefixes)

    def run(self, horizon_s: float | None) -> Records:
        """Serve until all is answered or the horizon is reached."""
        self._source.start()
        if horizon_s is not None:
            self.clock.at(horizon_s, CLOSING, self._close)
        self.clock.run_out()
        end_s = max([self._last_arrival_s, *(replica.now_s for replica in self.replicas)])
        return self._collect(end_s)

    def _collect(self, end_s: float) -> Records:
        return collect(
            self.ledger,
            [replica.meter for replica in self.replicas],
            {request: n for one in self.replicas for request, n in one.remaining().items()},
            end_s=end_s,
            cluster=self.cluster,
            warmup=(self._stream.warmup_s, self._stream.warmup_requests),
        )

    def progress(self) -> Progress:
        """How far the run is; may be asked while it runs, and costs it nothing."""
        outstanding = sum(pool.outstanding for pool in self._pools)
        arrived = len(self.ledger.replica)
        return progress(self._stream, arrived, arrived - outstanding, self.clock.now)

    def _close(self, event: simpy.Event) -> None:
        self.open = False
        for replica in self.replicas:
            replica.stop(self.clock.now)

    def arrive(self, request: int, now_s: float) -> bool:
        """Take a request, in order of number.  Return False where it was turned away."""
        ledger = self.ledger
        self._last_arrival_s = sent_s = ledger.arrival_s[request]
        if not self._counting:
            self._begin_to_count(request, sent_s, now_s)
        input_tokens = ledger.input_tokens[request]
        if self._shares and ledger.cached is not None:
            ledger.cached.append(self._entry.setup.config.cached_tokens(input_tokens))
        if input_tokens + ledger.output_tokens[request] > self._surely_tokens and (
            self.cluster.refuses(input_tokens, ledger.output_tokens[request])
        ):
            ledger.replica.append(TOO_LONG)
            return False
        pool = self._entry
        if pool.full():
            ledger.replica.append(SHED)
            return False
        ledger.replica.append(self._submit(pool, request, now_s))
        return True

    def all_sent(self) -> None:
        """Hear that no request will come any more."""
        if self.stops_overload and self._overloaded():
            self.clock.at(self.clock.now, CLOSING, self._close)

    def _overloaded(self) -> bool:
        ledger, stream = self.ledger, self._stream
        arrival_s = np.array(ledger.arrival_s)
        if stream.warmup_requests >= len(arrival_s):
            return False
        begin_s = max(
            stream.warmup_s, float(arrival_s[stream.warmup_requests]), self._settled_since()
        )
        served_s = np.array(ledger.first_token_s)
        served_s[list(ledger.lost_s)] = list(ledger.lost_s.values())
        kept = ~np.isin(np.array(ledger.replica), (TOO_LONG, SHED))
        return overload(arrival_s[kept], served_s[kept], begin_s, self._last_arrival_s) is not None

    def _settled_since(self) -> float:
        """When the fleet last changed. [s]"""
        return 0.0

    def _begin_to_count(self, request: int, sent_s: float, now_s: float) -> None:
        """Let gaps between tokens count once the warm-up is over."""
        if sent_s >= self._stream.warmup_s and request >= self._stream.warmup_requests:
            self._counting = True
            for replica in self.replicas:
                replica.meter.gaps_from_s = now_s

    def _submit(self, pool: Pool, request: int, now_s: float) -> int:
        if self._keeps:
            return self._submit_by_prefix(pool, request, now_s)
        member = pool.balancer.take(self.ledger.prompts[request])
        pool.outstanding += 1
        number = pool.first + member
        self.replicas[number].submit(request, now_s)
        return number

    def _submit_by_prefix(self, pool: Pool, request: int, now_s: float) -> int:
        """Choose by what caches hold, if the router does, and pass the request on."""
        by, prompt = pool.balancer, self.ledger.prompts[request]
        if isinstance(by, PrefixAware | PrefixCost):
            member = by.choose(self._matches(pool, None, request), prompt)
        else:
            member = by.take(prompt)
        pool.outstanding += 1
        number = pool.first + member
        self._bring(number, request, now_s)
        return number

    def _matches(self, pool: Pool, members: Sequence[int] | None, request: int) -> list[int]:
        """Prompt tokens that members of a pool hold now, stores of their own included. [tokens]"""
        now_s, tier = self.clock.now, self._tier
        chosen = range(pool.setup.replicas) if members is None else members
        matches = [self.replicas[pool.first + one].match(request, now_s) for one in chosen]
        return matches if tier is None else tier.matches(request, chosen, matches)

    def _bring(self, number: int, request: int, now_s: float) -> None:
        """Give a request to a replica; what the store behind its cache has comes first."""
        if self._tier is not None:
            local = self.replicas[number].match(request, now_s)
            ready_s = self._tier.ready_s(request, number, local, now_s)
            if ready_s > now_s:

                def loaded(event: simpy.Event) -> None:
                    if self.open and self._loading.get(request) is event:
                        del self._loading[request]
                        self.replicas[number].submit(request, self.clock.now)

                self._loading[request] = self.clock.at(ready_s, ARRIVAL, loaded)
                return
        self.replicas[number].submit(request, now_s)

    def _done(self, number: int, request: int, now_s: float) -> None:
        """Hear from a replica that it is done with a request."""
        ledger = self.ledger
        prompt = ledger.input_tokens[request]
        if not self._apart:
            pool = self._entry
            pool.balancer.release(number, prompt)
            pool.outstanding -= 1
            ledger.finish_s[request] = now_s
            self._source.answered(now_s, request)
            return
        pool = self._pools[0 if number < self._pools[1].first else 1]
        pool.balancer.release(number - pool.first, prompt)
        pool.outstanding -= 1
        if pool is self._entry and ledger.answers[request] > 1:
            self._hand_over(number, request, now_s)
            return
        if pool is self._entry and ledger.first_token_s[request] != ledger.first_token_s[request]:
            ledger.first_token_s[request] = now_s
        ledger.finish_s[request] = now_s
        self._source.answered(now_s, request)

    def _hand_over(self, sender: int, request: int, now_s: float) -> None:
        """Choose who decodes, and let the KV cache go there."""
        self.ledger.hand_over(request, sender, now_s)
        self._pass_on(sender, request, now_s)

    def _pass_on(self, sender: int, request: int, now_s: float) -> None:
        pool = self._pools[1]
        prompt = self.ledger.prompts[request]
        number = pool.first + pool.balancer.take(self.ledger.input_tokens[request])
        pool.outstanding += 1
        there_s = self._link.arrival_s(sender, number, prompt, now_s)

        def arrived(event: simpy.Event) -> None:
            if self.open:
                self.ledger.replica[request] = number
                self.replicas[number].submit(request, self.clock.now)

        self.clock.at(there_s, ARRIVAL, arrived)

    def too_long(self, needed_tokens: int) -> InfeasibleError:
        """Return the error for a stream none of whose requests fits."""
        configs = [pool.config for pool in self.cluster.pools]
        kv = min(config.longest_tokens() for config in configs)
        if needed_tokens <= kv:
            return InfeasibleError(
                "tokens of one step for the shortest prompt", needed_tokens,
                configs[0].max_step_tokens, "tokens",
                "raise limits.max_step_tokens, or let the engine cut prompts (chunked_prefill)",
            )  # fmt: skip
        return InfeasibleError(
            "KV cache of one attention rank for the shortest request",
            needed_tokens,
            kv,
            "tokens",
            "spread the model over more devices, or use shorter requests",
        )
