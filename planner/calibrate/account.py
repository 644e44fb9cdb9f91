"""Everything published that the models are held to: systems, kernels under skew, links."""

from collections.abc import Callable, Sequence

from planner.calibrate import links_check, skew
from planner.validation import published
from planner.validation.published import Verdict, check_published, chosen_tags

EXCHANGES = ("moe", "links", "kernels")


def exchange_errors() -> list[Verdict]:
    """Measured dispatch and combine times beside the shipped links' predictions."""
    return [
        Verdict(
            claim=record["claim"],
            quantity=record["quantity"],
            value=record["value"],
            predicted=record["predicted"],
            relative_error=record["predicted"] / record["value"] - 1,
            source=record["source"],
            conditions=_words(record["conditions"]),
            split="held_out" if record["split"] == "ep_degree" else "fitted",
            tags=EXCHANGES,
        )
        for record in links_check.published_errors()
    ]


def _words(conditions: dict[str, object]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in conditions.items())


KERNELS: tuple[tuple[tuple[str, ...], Callable[[], list[Verdict]]], ...] = (
    (skew.TAGS, skew.published_errors),
    (EXCHANGES, exchange_errors),
)
"""Tables of measured kernels, with what each is tagged."""


def tags() -> list[str]:
    """Every tag there is."""
    return sorted({*published.tags(), *(tag for of, _ in KERNELS for tag in of)})


def account(only: Sequence[str] = ()) -> list[Verdict]:
    """Every published figure beside its prediction, or those of the tags ``only``.

    Raises
    ------
    InputError
        A tag is not known.
    """
    wanted = chosen_tags(only, tags())
    found = check_published(wanted)
    for of, predict in KERNELS:
        if not wanted or set(of) & set(wanted):
            found += predict()
    return found
