"""What the models here give for a published quantity."""

from functools import lru_cache
from typing import Any, assert_never

import numpy as np

from planner import evaluation, files
from planner.errors import InputError
from planner.evaluation import Replica
from planner.files.histograms import load_routing_profile
from planner.routing import fit
from planner.specs.scenario import Scenario
from planner.validation.claims import (
    DecodeStep,
    Imbalance,
    NetworkBound,
    Predictor,
    PrefillStep,
    Ratio,
    Serving,
    load_published,
)


def predict(predictor: Predictor) -> float:
    """Value of the quantity ``predictor`` describes, in SI units."""
    match predictor:
        case DecodeStep():
            return _decode(predictor)
        case PrefillStep():
            return _prefill(predictor)
        case Serving():
            return _serving(predictor)
        case Imbalance():
            return _imbalance(predictor)
        case NetworkBound():
            return network_bound_s(predictor)
        case Ratio():
            return predict(predictor.of) / predict(predictor.over)
        case _:
            assert_never(predictor)


def _decode(wanted: DecodeStep) -> float:
    steady = evaluation.steady(_scenario(wanted))
    step_s = float(steady.step.time_s)
    per_user = steady.step.tokens / step_s
    match wanted.of:
        case "step_s":
            return step_s
        case "tokens_per_s_per_user":
            return per_user
        case "tokens_per_s_per_device":
            return per_user * steady.sequences_per_device
        case "tokens_per_s_per_node":
            per_node = steady.replica.hardware.system.devices_per_node
            return per_user * steady.sequences_per_device * per_node
        case _:
            assert_never(wanted.of)


def _prefill(wanted: PrefillStep) -> float:
    replica = _replica(_scenario(wanted))
    shard = replica.shard
    tokens = wanted.tokens_per_device * shard.devices / shard.attention_dp
    prompts = tokens / wanted.prompt_tokens
    step = replica.step.prefill_step(tokens, prompts, wanted.prompt_tokens, replica.cap_tokens)
    if wanted.of == "step_s":
        return float(step.time_s)
    rate = wanted.tokens_per_device / float(step.time_s)
    per_node = replica.hardware.system.devices_per_node
    return rate * per_node if wanted.of == "tokens_per_s_per_node" else rate


def _replica(scenario: Scenario) -> Replica:
    if scenario.decoding is None:
        raise InputError(scenario.name, "deployment", "is missing; a prefill step needs one")
    return evaluation.build(
        scenario.model, scenario.hardware[0], scenario.decoding, scenario.routing
    )


def _serving(wanted: Serving) -> float:
    result = evaluation.evaluate(_scenario(wanted))
    done, devices = result.metrics.throughput, result.replicas * result.replica.devices
    match wanted.of:
        case "output_tokens_per_s":
            return done.output_tokens_per_s
        case "output_tokens_per_s_per_device":
            return done.output_tokens_per_s / devices
        case "input_tokens_per_s_per_device":
            return done.input_tokens_per_s / devices
        case "total_tokens_per_s":
            return done.input_tokens_per_s + done.output_tokens_per_s
        case "tpot_mean_s":
            return result.metrics.tpot_s.mean
        case "ttft_mean_s":
            return result.metrics.ttft_s.mean
        case _:
            assert_never(wanted.of)


def _scenario(wanted: DecodeStep | PrefillStep | Serving) -> Scenario:
    return _loaded(wanted.scenario, _frozen(wanted.set))


@lru_cache(maxsize=64)
def _loaded(name: str, changes: Any) -> Scenario:
    return files.load_scenario(name, _thawed(changes))


def _frozen(value: Any) -> Any:
    """A value of YAML as something that can be looked up."""
    if isinstance(value, dict):
        return ("map", tuple((k, _frozen(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return ("list", tuple(_frozen(v) for v in value))
    return value


def _thawed(value: Any) -> Any:
    if isinstance(value, tuple):
        kind, items = value
        return {k: _thawed(v) for k, v in items} if kind == "map" else [_thawed(v) for v in items]
    return value


def _imbalance(wanted: Imbalance) -> float:
    case = fit.Case(wanted.ep, wanted.redundant, wanted.placement, wanted.tokens)
    if wanted.layer is None:
        return float(_statistics(wanted.profile, case, ()).of(wanted.statistic).mean())
    layers = _layers_asked(wanted)
    found = _statistics(wanted.profile, case, layers).of(wanted.statistic)
    return float(np.median(found[:, layers.index(wanted.layer)]))


def _layers_asked(wanted: Imbalance) -> tuple[int, ...]:
    """Every layer that the published figures ask of one case: drawn together, once."""
    same = {"layer", "statistic"}
    asked = [
        predictor.layer
        for claim in load_published().claims
        for predictor in (claim.predictor(figure) for figure in claim.figures)
        if isinstance(predictor, Imbalance)
        and predictor.model_dump(exclude=same) == wanted.model_dump(exclude=same)
    ]
    return tuple(sorted({layer for layer in [*asked, wanted.layer] if layer is not None}))


@lru_cache(maxsize=16)
def _statistics(profile: str, case: fit.Case, layers: tuple[int, ...]) -> fit.LayerImbalance:
    """Statistics of one case: all layers, or many draws of a few (fewer where placing is slow)."""
    found = load_routing_profile(profile)
    moe = evaluation.experts_in(files.load_model(found.model))
    if not layers:
        return fit.measure(found.routing, moe, case, fit.REPORT_SEEDS)
    whole = fit.REPORT_SEEDS if case.policy == "contiguous" else fit.REPORT_SEEDS[:4]
    seeds = [1000 * seed + i for seed in whole for i in range(fit.LAYER_SEEDS)]
    return fit.measure(found.routing, moe, case, seeds, layers=layers)


def network_bound_s(wanted: NetworkBound) -> float:
    r"""Time per token when every layer's dispatch and combine is all that takes time. [s]

    .. math:: L\, m\, \frac{(b_d + b_c)\, n\, e\, h}{W}

    for ``L`` layers, ``m`` micro-batches that take turns on the network, ``n`` tokens of hidden
    size ``h`` sent to ``e`` experts with ``b_d`` and ``b_c`` bytes an element over a link of
    bandwidth ``W``.  No latency, no deduplication.

    References
    ----------
    .. [1] DeepSeek-AI, "Insights into DeepSeek-V3", ISCA 2025, arXiv:2505.09343, section 2.3.2.
    """
    moved = (
        (wanted.dispatch_bytes + wanted.combine_bytes)
        * wanted.tokens * wanted.experts * wanted.hidden
    )  # fmt: skip
    return wanted.layers * wanted.micro_batches * moved / wanted.bytes_per_s
