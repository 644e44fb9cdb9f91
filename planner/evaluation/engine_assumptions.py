"""What an answer takes for granted of the serving engine: admission, overheads and their error."""

from planner.evaluation.fitted import LAYERS, expected_error, kernels_from, unseen
from planner.evaluation.prefix_assumptions import prefix_statements
from planner.evaluation.replica import Replica
from planner.specs.engine import EngineSpec
from planner.step.graphs import PaddingTo, eager_s

_NEW = {
    "versions": "this version of the engine",
    "parts": "this part",
    "models": "this model",
}


def engine_statements(replica: Replica) -> list[tuple[str, str, str]]:
    """Name, source and text of every statement about the engine."""
    engine = replica.pool.engine
    found = [("admission", engine.source if engine.name != "generic" else "model", _admits(engine))]
    if engine.fit is not None:
        found.append(("engine overheads", engine.fit.source, _fitted(replica)))
    else:
        found.append(("engine overheads", "model", _not_fitted(engine)))
    if not engine.overheads.request_host_s:
        found.append(
            (
                "first token", "model",
                "Front-end, tokeniser and network time before and after the engine is not "
                "counted: time to first token at low load is a lower bound.",
            )
        )  # fmt: skip
    found.append(("captured graphs", *_padded(replica)))
    if engine.stream_interval_tokens > 1:
        found.append(("streaming", engine.source, _streamed(engine)))
    return found + prefix_statements(replica)


_TO_EXPERTS: dict[PaddingTo, str] = {
    "tokens": "goes to experts like tokens",
    "one": "goes to the experts of one token, whose copies it is,",
    "none": "is not sent to experts",
}


def _padded(replica: Replica) -> tuple[str, str]:
    """Source and text of what steps are padded to."""
    engine, graphs = replica.pool.engine, replica.step.graphs
    if graphs is None:
        return "model", "Steps are computed at the size of their batch: no graphs to pad them to."
    text = (
        f"A decode step is padded to the next of {len(graphs.sizes)} captured batch sizes, at most "
        f"{graphs.sizes[-1]} sequences a rank; all ranks run the graph of the busiest. Padding "
        f"{_TO_EXPERTS[graphs.to_experts]} and reads no cache."
    )
    if graphs.mixed_tokens:
        text += f" Steps with prompts are padded, too, up to {graphs.mixed_tokens[-1]:,} tokens."
    if graphs.sizes[-1] < replica.pool.limits.max_sequences:
        launch_s = eager_s(replica.step)
        text += (
            f" Larger batches run without a graph: {1000 * launch_s:.3g} ms more, the host's time "
            "of a step with prompts."
            if launch_s
            else " Larger batches run without a graph; what their launches take is not known."
        )
    return engine.source, text


def _streamed(engine: EngineSpec) -> str:
    return (
        f"Clients get the first token at once, then {engine.stream_interval_tokens} at a time: "
        "gaps (ITL) are between two such parts. No host time is taken to be saved by it."
    )


def _admits(engine: EngineSpec) -> str:
    share = engine.answer_reserve_share
    if share == 1:
        return (
            "KV for prompt and full answer is reserved when a request is admitted, as if its "
            "length were known; engines that admit more and preempt run fuller."
        )
    room = f"the prompt and {100 * share:.3g} % of the answer still to come"
    if share == 0:
        room = "the prompt"
    then = {
        "recompute": "is put back and computed again",
        "swap": "is moved to the host's memory",
        "none": "waits",
    }[engine.preemption]
    return (
        f"A request is admitted when the KV cache has room for {room}; when it is full the "
        f"youngest request {then}."
    )


_WHOSE = {
    "own": "",
    "all": " None has a model with these kinds of attention and experts either: kernels are as "
    "those of all engines together, host times as fitted.",
    "none": " No engine's runs have a model with these kinds of attention and experts: kernels are "
    "as calibrated, host times as fitted.",
}


def _fitted(replica: Replica) -> str:
    pool, part, model = replica.pool, replica.hardware.accelerator.name, replica.model.name
    fit = pool.engine.fit
    if fit is None:
        return ""
    text = (
        f"Host times and kernel factors of {pool.engine.title or pool.engine.name} were fitted "
        f"({fit.fitted}) together with those of other engines to {fit.runs} runs, in which it has "
        f"{len(fit.combinations)} combinations of version, part and model; prompts were random "
        "and experts taken as equally popular, so imbalance that a scenario adds comes on top."
    )
    new = [_NEW[name] for name in unseen(pool, part, model)]
    if new:
        text += f" None of its runs has {' or '.join(new)}."
    text += _WHOSE[kernels_from(fit, pool.engine.name, replica.model)]
    if replica.model.layers < LAYERS:
        text += (
            " The host's time of a step with prompts is taken to be that of launching layers: "
            f"{replica.model.layers} of the {LAYERS} that were fitted."
        )
    for quantity, name in (("mean_tpot_s", "TPOT"), ("mean_ttft_s", "TTFT")):
        error = expected_error(pool, part, model, quantity)
        if error is not None:
            text += (
                f" Mean {name} of runs left out ({error.left_out}): median error "
                f"{100 * error.median_abs_error:.0f} %, p90 {100 * error.p90_abs_error:.0f} %."
            )
    return text


def _not_fitted(engine: EngineSpec) -> str:
    who = engine.title or engine.name
    return (
        f"Nothing is fitted for {who}: kernels as calibrated, a host time a step as the "
        "calibration assumes, and no time for requests outside the engine but what the scenario "
        "states."
    )
