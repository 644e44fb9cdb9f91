"""The Python door: a handful of functions over the layers below."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from planner import arch, evaluation, files, search, serving
from planner.errors import InputError
from planner.evaluation import ExpertReport, Replica, SteadyResult, TimelineResult
from planner.evaluation.timeline import Phase
from planner.files.histograms import read_histogram
from planner.report import PlanReport, Report
from planner.search import Comparison
from planner.serving import Watch
from planner.specs.deployment import KvFormat, Limits, Parallelism, Pool
from planner.specs.model import ModelSpec, WeightFormat
from planner.specs.scenario import Hardware, Scenario


def load_scenario(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Scenario:
    """Read a scenario file (path or name of a shipped one) and everything it names.

    Raises
    ------
    InputError
        One message with file, line, field, value and what would do.

    Examples
    --------
    >>> load_scenario("deepseek-r1-day", {"slo.tpot_p95_s": 0.04}).slo.tpot_p95_s
    0.04
    """
    return files.load_scenario(name, overrides)


def with_overrides(scenario: Scenario, overrides: Mapping[str, Any]) -> Scenario:
    """Return ``scenario`` with values replaced by dotted path, validated as a whole.

    A bare number for a sourced fact is taken as an assumption and reported as one.

    Raises
    ------
    InputError
        An unknown path or a value that does not validate.
    """
    return files.apply_overrides(scenario, overrides)


def simulate(scenario: Scenario, *, replications: int = 1, watch: Watch | None = None) -> Report:
    """Simulate the scenario's own deployment under its workload.

    Parameters
    ----------
    replications : independent runs, with seeds spawned from the scenario's; from 2 on the report
        has confidence intervals over them.
    watch : is given, before each run, a function that tells how far it is, for another thread;
        after the replications also before each run for the 90 % intervals.

    Raises
    ------
    InputError, InfeasibleError
        The scenario has no deployment or workload; the deployment cannot run.
    """
    found = evaluation.evaluate(scenario, replications=replications, watch=watch)
    return Report.of(evaluation.with_intervals(found, watch=watch))


def plan(scenario: Scenario) -> PlanReport:
    """Find the cheapest fleet, on any of the scenario's systems, that keeps its SLO.

    Raises
    ------
    InputError, InfeasibleError
        No workload or no promise; nothing fits at all.
    """
    return PlanReport.of(search.plan_intervals(search.plan(scenario)))


def evaluate(scenario: Scenario) -> Report:
    """Report on the scenario: its own deployment, or the best plan when it has none.

    Raises
    ------
    InputError, InfeasibleError
        As :func:`simulate` and :func:`plan`; also when no plan keeps the promises.
    """
    if scenario.deployment is not None:
        return simulate(scenario)
    found = search.plan_intervals(search.plan(scenario))
    if found.best is None:
        last = found.rejections[-1]
        raise InputError(scenario.name, "slo", f"no fleet keeps it; {last.label}: {last.limit}")
    return Report.of(found.best)


def compare(scenario: Scenario) -> Comparison:
    """Plan the scenario on each of its systems."""
    return search.compare(scenario)


def steady(scenario: Scenario) -> SteadyResult:
    """Lay out the scenario's steady decode step; capacities at user speeds."""
    return evaluation.steady(scenario)


def timeline(
    scenario: Scenario,
    phase: Phase = "decode",
    *,
    prompt_tokens: float | None = None,
    layers: Sequence[int] = (2, 3),
    ranks: Sequence[int] = (),
) -> TimelineResult:
    """Simulate one steady step over all ranks: busy shares, longest path, bars of a Gantt chart.

    Parameters
    ----------
    phase : ``decode``, or ``prefill`` (a full step of prompts).
    prompt_tokens : mean prompt of a prefill step; None: as the scenario says. [tokens]
    layers, ranks : of which bars are kept; ranks default to the slowest and the fastest.

    Raises
    ------
    InputError, InfeasibleError
        The scenario has no deployment; decode: no ``steady``; prefill: nothing says how long a
        prompt is; the deployment cannot run.
    """
    return evaluation.timeline(
        scenario, phase, prompt_tokens=prompt_tokens, layers=layers, ranks=ranks
    )


def describe_workload(
    name: str | Path, overrides: Mapping[str, Any] | None = None
) -> serving.WorkloadReport:
    """Read a trace, a workload file or a scenario's traffic, and sum it up.

    Parameters
    ----------
    name : path of the file, or the name of a shipped scenario.
    overrides : dotted path -> value, leading into ``workload`` or ``run``.

    Raises
    ------
    InputError
        File, line, column and value of the first fault.
    """
    return serving.describe_workload(*files.load_traffic(name, overrides))


def expert_load(  # noqa: PLR0913
    source: str | Path | Scenario,
    *,
    model: str | ModelSpec | None = None,
    ep: int | None = None,
    redundant: int | None = None,
    tokens: int | None = None,
    windows: int = 0,
    every: int = 1,
) -> ExpertReport:
    """Load of experts and ranks, layer by layer, without and with load balancing.

    Parameters
    ----------
    source : a scenario, its name or path; or a recorded histogram (CSV, JSON, NPZ, NPY).
    model, ep, redundant : whose experts, over how many ranks, with how many copies; a histogram
        needs the first two, a scenario has them all.
    tokens : of all ranks in one step; None: the scenario's steady batch, else full steps. [tokens]
    windows : windows of drifting load over which the placement is renewed; 0: none.  A histogram
        of several windows has them: give their number.
    every : windows between renewals.

    Raises
    ------
    InputError, InfeasibleError
        A histogram of another model, no routing to ask about, slots that cannot be dealt out.

    Examples
    --------
    >>> found = expert_load("published/sglang-h100-decode", tokens=4096)
    >>> found.before.rank_ratio > 2 * found.after.rank_ratio
    True
    """
    spec = files.load_model(model) if isinstance(model, str) else model
    if isinstance(source, Scenario) or not str(source).lower().endswith(HISTOGRAMS):
        scenario = source if isinstance(source, Scenario) else load_scenario(source)
        if spec is not None:
            scenario = scenario.model_copy(update={"model": spec})
        setting = evaluation.experts_of(scenario)
    else:
        if spec is None or ep is None:
            missing = "model" if spec is None else "ep"
            raise InputError(str(source), missing, "is missing; a histogram needs model and ep")
        moe = evaluation.experts_in(spec)
        recorded = read_histogram(Path(source), moe.experts, moe.layers)
        setting = evaluation.recorded_experts(str(source), spec, recorded, ep)
    return evaluation.expert_report(setting.changed(ep, redundant, tokens), windows, every)


HISTOGRAMS = (".csv", ".json", ".npz", ".npy")
"""How the name of a recorded histogram ends."""


@dataclass(frozen=True)
class FootprintReport:
    """What one device holds, and what that rests on."""

    replica: Replica
    assumptions: tuple[evaluation.Assumption, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        replica = self.replica
        return {
            "model": replica.model.name,
            "system": replica.hardware.system.name,
            "devices": replica.devices,
            "label": replica.pool.parallelism.label(),
            "weights": replica.pool.weights,
            "kv": replica.pool.kv,
            **replica.memory.to_dict(),
            "assumptions": [asdict(a) for a in self.assumptions],
        }


def footprint(
    model: str | ModelSpec,
    system: str | Hardware,
    *,
    weights: WeightFormat | None = None,
    kv: KvFormat = "bf16",
    parallelism: Parallelism | None = None,
    limits: Limits | None = None,
) -> FootprintReport:
    """Say whether a model fits a system, device by device, and what is left for the KV cache.

    Parameters
    ----------
    model, system : by name, or as specs.
    weights : format of the large matrices; the published one when not given.
    parallelism : when not given, tensor parallelism over 8 devices, or as many as there are and
        the attention heads allow.

    Raises
    ------
    InputError, InfeasibleError
        Unknown names, formats the part lacks, degrees that do not divide.  Not fitting is an
        answer (``fits``, ``short_by_bytes``), not an error.

    Examples
    --------
    >>> footprint("deepseek-r1", "hgx-h100", weights="fp8").replica.memory.fits
    False
    """
    spec = files.load_model(model) if isinstance(model, str) else model
    hardware = files.load_hardware(system) if isinstance(system, str) else system
    pool = Pool(
        parallelism=parallelism or default_parallelism(spec, hardware),
        weights=weights or spec.native_format,
        kv=kv,
        limits=limits or Limits(),
    )
    replica = evaluation.build(spec, hardware, pool)
    return FootprintReport(replica, evaluation.assumptions(replica))


def default_parallelism(model: ModelSpec, hardware: Hardware) -> Parallelism:
    """Tensor parallelism over 8 devices, or the most that the domain and the heads allow."""
    heads = [arch.attention_core(group).heads for group in model.attention]
    most = hardware.system.scale_up.devices
    tp = max(n for n in (1, 2, 4, 8) if n <= most and all(h % n == 0 for h in heads))
    return Parallelism(attention_tp=tp, moe_tp=tp)


def footprint_from_options(
    options: Mapping[str, str | None], overrides: Mapping[str, Any]
) -> FootprintReport:
    """:func:`footprint` from text options, as the command line and a form give them."""
    model = files.load_model(str(options["model"]))
    pool: dict[str, Any] = {
        "weights": options["weights"] or model.native_format,
        "kv": options["kv"] or "bf16",
    }
    hardware = files.load_hardware(str(options["system"]))
    pool["parallelism"] = (
        _parallelism(str(options["parallelism"]))
        if options["parallelism"]
        else default_parallelism(model, hardware)
    )
    scenario = files.validate_scenario(
        {
            "name": "footprint",
            "model": model,
            "hardware": (hardware,),
            "deployment": pool,
        }
    )
    aliases = {"limits.": "deployment.limits."}
    changes = {
        next((new + path[len(old) :] for old, new in aliases.items() if path.startswith(old)), path)
        : value
        for path, value in overrides.items()
    }  # fmt: skip
    if changes:
        scenario = files.apply_overrides(scenario, changes)
    deployment = scenario.decoding
    if deployment is None:
        raise InputError("--set", "deployment", "must not be removed")
    replica = evaluation.build(scenario.model, scenario.hardware[0], deployment, scenario.routing)
    return FootprintReport(replica, evaluation.assumptions(replica))


def _parallelism(text: str) -> dict[str, Any]:
    """Read ``attention_dp=8,moe_ep=8``."""
    pairs = [part.partition("=") for part in text.split(",")]
    for name, equals, value in pairs:
        if not equals or not value.strip().isdigit():
            raise InputError("--parallelism", f"{name}{equals}{value}", "is not NAME=NUMBER")
    return {name.strip(): int(value) for name, _, value in pairs}


def model_dict(model: ModelSpec) -> dict[str, Any]:
    """A model's specification with what is counted from it."""
    count = arch.parameters(model)
    flop = arch.flop_per_token(model)
    return {
        **model.model_dump(mode="json", exclude_none=True),
        "parameters": {
            "total": count.total,
            "active_with_embedding": count.active_with_embedding,
            "active_without_input_embedding": count.active_without_input_embedding,
            "active_non_embedding": count.active_non_embedding,
            "mtp": count.mtp,
        },
        "resident_bytes": sum(arch.resident_bytes(model, model.native_format).values()),
        "checkpoint_bytes": arch.checkpoint_bytes(model),
        "kv_bytes_per_token": {
            "bf16": arch.kv_bytes_per_token(model, "bf16"),
            "fp8": arch.kv_bytes_per_token(model, "fp8"),
        },
        "flop_per_token": asdict(flop),
    }
