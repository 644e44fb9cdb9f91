"""Promises that no load can keep: a request that has the fleet for itself is late already."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from planner.serving import Cluster, Promise, Records, RequestStream, simulate_cluster


def out_of_reach(
    cluster: Cluster, records: Records, promises: Iterable[Promise]
) -> tuple[Promise, ...]:
    """Return the promises that a lone request breaks, with its time as the value.

    A request is served no faster than alone, and alone the sooner the shorter it is.  So a
    percentile of TTFT is at least what the prompt of that percentile takes alone; one of TPOT what
    the shortest prompt takes; one of E2E what the shortest prompt takes with the answer of that
    percentile.
    """
    here = records.counted & ~records.rejected
    inputs, outputs = records.input_tokens[here], records.output_tokens[here]
    if records.prefix is not None:  # as if what was found were no part of the prompt
        inputs = inputs - records.prefix.found_tokens[here] - records.prefix.loaded_tokens[here]
    if not len(inputs):
        return ()
    pools = tuple(
        replace(
            pool, replicas=1, max_outstanding=None, router="least_requests", tier=None,
            config=replace(pool.config, prefix_cache=False),
        )
        for pool in cluster.pools
    )  # fmt: skip
    alone = replace(cluster, pools=pools, operations=None)
    found = []
    for promise in promises:
        metric, percent = promise.name.removesuffix("_s").split("_p")
        share, shortest = int(percent) / 100, int(inputs.min())
        prompt = int(np.quantile(inputs, share, method="lower")) if metric == "ttft" else shortest
        answer = int(np.quantile(outputs, share, method="lower")) if metric == "e2e" else 2
        value_s = _alone_s(alone, metric, prompt, answer)
        if value_s > promise.limit_s:
            found.append(Promise(promise.name, promise.limit_s, value_s))
    return tuple(found)


def _alone_s(cluster: Cluster, metric: str, prompt: int, answer: int) -> float:
    """Time of a request that has the fleet for itself. [s]"""
    stream = RequestStream(np.zeros(1), np.array([prompt]), np.array([answer]))
    records = simulate_cluster(stream, cluster)
    first_s, finish_s = float(records.first_token_s[0]), float(records.finish_s[0])
    if metric == "ttft":
        return first_s
    return finish_s if metric == "e2e" else (finish_s - first_s) / (answer - 1)
