"""Requests through pools of replicas behind routers."""

from planner.serving.arrivals import Stream
from planner.serving.cluster import Cluster, PoolSetup
from planner.serving.config import ReplicaConfig
from planner.serving.engine import Replica
from planner.serving.front import EngineFactory, Front
from planner.serving.operated import OperatedFront
from planner.serving.progress import Watch
from planner.serving.records import Records
from planner.serving.timing import Timing
from planner.specs.deployment import RouterName


def simulate(
    stream: Stream,
    timing: Timing,
    config: ReplicaConfig,
    *,
    replicas: int = 1,
    router: RouterName = "least_requests",
    horizon_s: float | None = None,
) -> Records:
    """Serve a stream of requests with identical replicas until the last is answered.

    Parameters
    ----------
    stream : from :func:`~planner.serving.arrivals.generate`.
    timing : what a step of one replica costs.
    config : what one replica can hold and run.
    replicas : identical replicas behind the router.
    router : who gets the next request.
    horizon_s : stop here, for a load that may be too high to end: replicas finish the step they
        are in, and what arrives later is left out. [s]

    Returns
    -------
    One row a request that arrived; see :func:`simulate_cluster`.

    Raises
    ------
    InfeasibleError
        Every request of the stream is longer than a rank's KV capacity.
    """
    pool = PoolSetup(timing, config, replicas, router)
    return simulate_cluster(stream, Cluster((pool,)), horizon_s=horizon_s)


def simulate_cluster(
    stream: Stream,
    cluster: Cluster,
    *,
    horizon_s: float | None = None,
    stop_overload: bool = False,
    engine: EngineFactory = Replica,
    watch: Watch | None = None,
) -> Records:
    """Serve a stream of requests until the last is answered or the horizon is reached.

    Parameters
    ----------
    stop_overload : stop at the last arrival of an open-loop stream if the queue grows without
        bound by then, see :func:`~planner.serving.overload.overload`.
    engine : makes a replica; another one than the default only in tests.
    watch : is given, before the run, a function that tells how far it is, for any thread to call.

    Returns
    -------
    One row a request that arrived: finished, running, queued, rejected or lost.  Without a
    horizon nothing is running or queued.

    Raises
    ------
    InfeasibleError
        No request of the stream can ever run.
    """
    door = Front if cluster.operations is None else OperatedFront
    front = door(stream, cluster, engine)
    front.stops_overload = stop_overload
    if watch is not None:
        watch(front.progress)
    return front.run(horizon_s)
