"""Slots of an overlap policy as tables: expert layers whose parts run side by side."""

from array import array
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from planner.serving.timing import overtaking_steps
from planner.step import StepModel
from planner.step.schedule import Slot, dense_layers_s
from planner.step.stages import EVERY_LAYER, Stage

Table: TypeAlias = "array[float]"
"""Compact, and its items are plain floats."""

GROUP_STAGES: tuple[Stage, ...] = ("experts", "dispatch", "combine")
"""Stages that depend on the tokens of all ranks; the others on those of the busiest."""


@dataclass(frozen=True, slots=True)
class _Row:
    """All slots of one kind: a transfer and a computation (:func:`slot_s` of the two)."""

    count: float
    transfer: "Table | None"
    """One transfer, by tokens of all ranks. [s]"""
    experts: "Table | None"
    """Experts computed beside it, by tokens of all ranks. [s]"""
    own: Table
    """Other computation beside it, by tokens of the busiest rank. [s]"""
    cores: float
    """Share of a micro-batch's attention cores (all layers) beside it."""


@dataclass(slots=True)
class SlotTables:
    """Time of all layers under a policy with slots, exact at whole numbers of tokens."""

    model: StepModel
    prefill: bool
    max_rank_tokens: int
    ranks: int
    micro_batches: int = field(init=False)
    _held_up: float = field(init=False)
    _dense: Table = field(init=False)
    _dense_cores: float = field(init=False)
    _rows: list[_Row] = field(init=False)

    def __post_init__(self) -> None:
        model, plan = self.model, self.model.plan(self.prefill)
        shard, n = model.shard, plan.micro_batches
        own = _micro(self.max_rank_tokens, shard.pp)
        group = _micro(self.max_rank_tokens * self.ranks, shard.pp)
        beside = model.beside_traffic(self.prefill)
        by_own = beside.stages(own / n, 0.0, self.prefill)
        by_group = beside.stages(0.0, group / n, self.prefill)
        tables = {name: _table(by_group[name], group) for name in GROUP_STAGES}
        self.micro_batches = n
        self._held_up = model.held_up(self.prefill)
        whole = model.stages(own, 0.0, self.prefill)
        self._dense = _table(shard.pp * dense_layers_s(shard, whole), own)
        self._dense_cores = shard.dense_layers / shard.layers
        layers = shard.moe.layers if shard.moe else 1.0
        over: dict[Stage, float] = dict.fromkeys(EVERY_LAYER, layers / shard.layers)

        def row(slot: Slot) -> _Row:
            beside_it = [s for s in slot.compute if s not in GROUP_STAGES]
            own_s = sum((over.get(s, 1.0) * by_own[s] for s in beside_it), np.zeros_like(own))
            return _Row(
                count=shard.pp * slot.count(layers) / layers,
                transfer=tables[slot.transfer] if slot.transfer else None,
                experts=tables["experts"] if "experts" in slot.compute else None,
                own=_table(own_s, own),
                cores=over["attention_core"] / shard.pp if "attention_core" in slot.compute else 0,
            )

        self._rows = [row(slot) for slot in plan.slots]

    def layers(
        self, own: int, group: int, core: tuple[float, float], part: tuple[float, float]
    ) -> tuple[float, float, int]:
        """Time of all layers, its slope a step, and the steps for which that holds. [s]

        Parameters
        ----------
        own, group : tokens of the busiest rank and of all ranks.
        core, part : attention cores and their slope, of the whole batch and of a micro-batch. [s]
        """
        time = self._dense[own] + self._dense_cores * core[0]
        slope, valid = self._dense_cores * core[1], 1 << 62
        for row in self._rows:
            compute_s = row.own[own] + row.cores * part[0]
            if row.experts is not None:
                compute_s += row.experts[group]
            transfer_s = row.transfer[group] if row.transfer is not None else 0.0
            up, alone = row.cores * part[1], 1.0 - self._held_up
            if alone * compute_s >= transfer_s:
                time += row.count * compute_s
                slope += row.count * up
            else:
                time += row.count * (transfer_s + self._held_up * compute_s)
                slope += row.count * self._held_up * up
                if up:
                    valid = min(valid, overtaking_steps(transfer_s - alone * compute_s, alone * up))
        return time, slope, valid


def _micro(most: int, pp: int) -> NDArray[np.float64]:
    """Tokens of a pipeline's micro-batch, for every whole number of tokens."""
    tokens = np.arange(most + 1, dtype=float)
    return tokens if pp == 1 else np.maximum(tokens / pp, 1.0)


def _table(values: object, like: NDArray[np.float64]) -> Table:
    found = np.broadcast_to(np.asarray(values, dtype=float), like.shape)
    return array("d", found.tobytes())
