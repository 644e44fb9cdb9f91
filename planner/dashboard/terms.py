"""Help on words: the glossary, and what the dashboard's own labels mean."""

import re
from functools import lru_cache

from planner import files

MOST = 4
"""Terms explained in one help text."""

LABELS: dict[str, str] = {
    "Devices": "accelerators of the whole fleet, spares included",
    "Cost per hour": "devices times the price of a device-hour",
    "per million output tokens": (
        "what the fleet costs an hour over its output tokens an hour; of the bill, decode's part"
    ),
    "Power": "mean power of all servers while they serve this traffic",
    "Energy per million tokens": "mean power over input and output tokens a second",
    "Output": "output tokens a second of the whole fleet, in the counted part of the run",
    "Waiting": "requests that wait for their first step, mean over the counted part of the run",
    "Busy": "share of time in which a replica computes a step",
    "Replicas serving": "replicas that take requests, mean over the run",
    "Prompt tokens in caches": "part of prompt tokens found in a prefix cache: not computed again",
    "First token": "TTFT: arrival to first token",
    "output token": "TPOT: time between output tokens of one request, mean over the request",
    "Owning": (
        "price of the machines written off over their life, cost of capital, hosting, energy, "
        "maintenance and staff; terms in the tables below"
    ),
    "Renting": "the cheapest listed price; of spot machines, with what interruptions waste",
    "Buying pays back": "months until rent or API bills not paid cover the price, with interest",
    "Equal to": "share of this traffic at which the API's bill is what owned machines cost",
    "At the meter": "mean power times the building's share (PUE); carbon by the grid's yearly mean",
    "Tokens/s a device": "output tokens a second of all sequences, over the devices",
    "Tokens/s a user": "output tokens a second of one sequence: one over the time per token",
    "Decode step": "time in which every running sequence gets its next token",
    "Hottest rank": "tokens of the rank with the most over the mean rank, mean over layers, steps",
    "of steps below": "hottest rank over the mean rank in the 95th of a hundred steps",
    "Goals met": "groups of kernels whose median error is within what was aimed for",
    "Middle median error": "half of the groups of kernels have a smaller median error",
    "Worst median error": "largest median error of a group of kernels",
    "Points": "measured kernel times that no fit has seen",
    "Median error": "half of the predictions are nearer to what was measured than this",
    "Off by more than": "predictions further from the published figure than this factor",
    "Inside 90 %": "measured values that lie inside the predicted 90 % interval",
    "Weights": "number format of the weights on the device",
    "Expert popularity": "how unevenly tokens choose experts: as measured, or every one alike",
    "Sequences": "requests that are decoded at once",
    "Context": "tokens of a sequence whose keys and values are kept",
    "Region": "where the machines stand: price of electricity, carbon of the grid",
    "Load": "requests a second, as a multiple of the scenario's",
}
"""Label, or a part of it, and what it means."""


@lru_cache(maxsize=1)
def glossary() -> dict[str, str]:
    """Terms and their meaning, as the documentation has them; empty where it is not installed."""
    path = files.app_path().parent / "docs" / "glossary.md"
    if not path.is_file():
        return {}
    lines = path.read_text("utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| ")]
    return {cells[0].strip(): cells[1].strip() for cells in rows[1:] if len(cells) > 1}


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[re.Pattern[str], str, str], ...]:
    found = []
    for term, meaning in (LABELS | glossary()).items():
        words = [r"p\d\d"] if "…" in term else [re.escape(w.strip()) for w in term.split(" / ")]
        exact = term.upper() == term or term in LABELS
        flags = re.NOFLAG if exact else re.IGNORECASE
        found.append((re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", flags), term, meaning))
    return tuple(found)


def explained(text: str) -> str:
    """What the terms in a label or a heading mean, as Markdown; empty without any.

    >>> explained("TTFT p95").splitlines()[0]
    '**TTFT**: time to first token: first token minus arrival'
    >>> explained("nothing known here")
    ''
    """
    told = [f"**{term}**: {meaning}" for pattern, term, meaning in _patterns()
            if pattern.search(text)]  # fmt: skip
    return "\n\n".join(told[:MOST])


def term(name: str) -> str:
    """Help on a term of the glossary."""
    return glossary().get(name, "")
