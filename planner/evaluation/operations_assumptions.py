"""What the answer of a fleet that fails and scales rests on."""

from planner.evaluation.assumptions import Assumption
from planner.evaluation.replica import Replica
from planner.specs.deployment import Disaggregated
from planner.specs.operations import OperationsSpec
from planner.specs.scenario import Scenario

UNUSED_OPERATIONS = Assumption(
    "operations", None, "assumed", "model",
    "Left out here: fleets are sized as if nothing failed and every replica always served.",
)  # fmt: skip

UNUSED_CACHE = Assumption(
    "prefix cache", None, "assumed", "model",
    "The deployment's prefix cache is left out here: fleets are sized with the workload's "
    "cached_input_share alone.",
)  # fmt: skip


def left_out(scenario: Scenario, replica: Replica, spec: OperationsSpec | None) -> list[Assumption]:
    """Say what a scenario states and a fleet that a search put together does not have.

    Parameters
    ----------
    replica : that computes the prompts.
    spec : operations that were simulated.
    """
    found = [UNUSED_OPERATIONS] if scenario.operations and not spec else []
    given = scenario.deployment
    pool = given.prefill if isinstance(given, Disaggregated) else given
    if pool and pool.prefix_cache and not replica.pool.prefix_cache:
        found.append(UNUSED_CACHE)
    return found


def operations_assumptions(spec: OperationsSpec | None, seed: int) -> tuple[Assumption, ...]:
    """List the numbers behind failures and starts, and what the model takes for granted.

    Parameters
    ----------
    seed : of the run; failures are drawn with it unless they have their own.
    """
    if spec is None:
        return ()
    numbers = [
        ("operations.start_up.load_bytes_per_s", spec.start_up.load_bytes_per_s),
        ("operations.start_up.other_s", spec.start_up.other_s),
    ]
    for i, failing in enumerate(spec.failures):
        name = f"operations.failures.{i}"
        numbers += [(f"{name}.mtbf_s", failing.mtbf_s), (f"{name}.mttr_s", failing.mttr_s)]
    found = [
        Assumption(name, float(value), value.confidence, value.source, value.note)
        for name, value in numbers
    ]
    seed = seed if spec.seed is None else spec.seed
    return (*found, *(Assumption(n, None, "assumed", "model", t) for n, t in _said(spec, seed)))


def _said(spec: OperationsSpec, seed: int) -> list[tuple[str, str]]:
    fate = (
        f"begins anew elsewhere, up to {spec.max_retries} times, with what was produced as part "
        "of its prompt"
        if spec.on_failure == "retry"
        else "is lost"
    )
    waits = "wait at the router" if spec.no_replica == "queue" else "are turned away"
    said = [
        ("start-up", "Every device of a replica loads its weights at the same time as the others."),
        ("scaling", "Spares and replicas that start, drain or lie failed are paid for in full; the "
         "power of spares is not counted."),
    ]  # fmt: skip
    if spec.failures:
        said += [
            ("failures", "Parts fail independently, at a constant rate, whether they work or not; "
             f"drawn with seed {seed}."),
            ("what a failure takes", "A replica stops whole when one of its devices, nodes or "
             "links is dead, until that is repaired or a spare node takes its place, and the "
             "weights are loaded anew.  A spare does not fail before the part it stands in for is "
             "repaired.  Failures are seen at once."),
            ("requests of a failed replica", f"Each {fate}.  Arrivals while no replica is up "
             f"{waits}."),
        ]  # fmt: skip
    if any(failing.speed_share for failing in spec.failures):
        said.append(
            ("degraded parts", "A slow device slows every step of its replica as a whole; a slow "
             "link the share of a step that bandwidth sets with half the slots taken, whichever "
             "level of the network it is on.")
        )  # fmt: skip
    return said
