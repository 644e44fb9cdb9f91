"""A run over time: by hand, and by what bins must add up to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError
from planner.serving import (
    AffineTiming,
    Cluster,
    Handover,
    PoolSetup,
    ReplicaConfig,
    RequestStream,
    series,
    simulate,
    simulate_cluster,
)

SECOND = AffineTiming(base_s=1.0)
ONE_SLOT = ReplicaConfig(1, max_sequences=1, max_step_tokens=100, kv_capacity_tokens=100)


def stream(*rows, **warmup):
    arrival_s, inputs, outputs = zip(*rows, strict=True)
    return RequestStream(np.array(arrival_s, float), np.array(inputs), np.array(outputs), **warmup)


def three_requests():
    """One slot: served 0-3, 3-5 and 10-11; first tokens at 1, 4 and 11."""
    return simulate(stream((0.0, 6, 3), (1.0, 7, 2), (10.0, 8, 1)), SECOND, ONE_SLOT)


def test_every_column_is_as_counted_by_hand():
    found = series(three_requests(), bins=11)
    assert found.queued.tolist() == pytest.approx([0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0], abs=1e-9)
    assert found.running.tolist() == pytest.approx([1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1], abs=1e-9)
    (pool,) = found.pools
    assert pool.busy_share.tolist() == pytest.approx([1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1], abs=1e-9)
    # 6 prompt tokens, then 2 more over two seconds; 7, then one more over one second
    assert pool.kv_tokens.tolist()[:6] == pytest.approx([6, 6.5, 7.5, 7, 7.5, 0], abs=1e-9)
    assert found.input_tokens_per_s.tolist()[:5] == pytest.approx([6, 0, 0, 7, 0], abs=1e-9)
    assert sum(found.output_tokens_per_s) == pytest.approx(6)
    assert found.finishes_per_s.tolist() == [0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1]


STEP_S = 0.05
ROWS = st.lists(
    st.tuples(st.floats(0, 200), st.integers(1, 60), st.integers(1, 40)), min_size=1, max_size=60
)


def clusters(replicas, apart):
    config = {"ranks": 1, "max_sequences": 3, "max_step_tokens": 40, "kv_capacity_tokens": 400}
    timing = AffineTiming(base_s=STEP_S)
    if not apart:
        return Cluster((PoolSetup(timing, ReplicaConfig(**config), replicas),))
    pools = tuple(
        PoolSetup(timing, ReplicaConfig(**config, role=role), replicas)
        for role in ("prefill", "decode")
    )
    return Cluster(pools, Handover(s_per_token=0.002))


@settings(max_examples=40)
@given(ROWS, st.integers(1, 3), st.booleans(), st.sampled_from([None, 20.0]), st.integers(1, 50))
def test_bins_add_up_to_the_run(rows, replicas, apart, horizon_s, bins):
    rows = sorted(rows)
    if horizon_s is not None:
        rows = [(min(at, 19.0), *rest) for at, *rest in rows]
    records = simulate_cluster(stream(*rows), clusters(replicas, apart), horizon_s=horizon_s)
    found = series(records, bins)
    width_s = np.diff(found.edges_s)
    assert (found.arrivals_per_s * width_s).sum() == pytest.approx(len(rows))
    assert (found.finishes_per_s * width_s).sum() == pytest.approx(records.finished.sum())
    assert (found.output_tokens_per_s * width_s).sum() == pytest.approx(
        records.produced_tokens.sum()
    )
    assert found.queued.mean() == pytest.approx(
        records.mean_queue(0.0, records.end_s), rel=1e-9, abs=1e-9
    )
    busy = records.busy_s
    for pool, mine in zip(found.pools, np.split(busy, len(found.pools)), strict=True):
        assert (pool.busy_share <= 1 + 1e-9).all()
        # at the horizon replicas finish the step they are in, some a step before the others; and
        # a request may be on its way from pool to pool
        step = STEP_S / records.end_s if horizon_s else 0.0
        if not (apart and horizon_s):
            assert pool.busy_share.mean() == pytest.approx(
                mine.mean() / records.end_s, rel=1e-6, abs=step
            )
        assert pool.running.max() <= replicas * 3 + 1e-6
    if not apart and horizon_s is None:
        assert found.running.mean() == pytest.approx(
            records.mean_running(0.0, records.end_s), rel=1e-9
        )


def test_memory_is_that_of_the_bins_whatever_the_run():
    short = series(three_requests(), 50)
    long = series(simulate(stream(*[(float(i), 5, 2) for i in range(3000)]), SECOND, ONE_SLOT), 50)
    sizes = [{name: len(c) for name, c in s.columns().items()} for s in (short, long)]
    assert sizes[0] == sizes[1]
    assert set(sizes[0].values()) == {50}


def test_no_bins_are_refused():
    with pytest.raises(InputError, match="bins"):
        series(three_requests(), 0)
