"""How far predictions were off on serving runs like one that a fit has not seen."""

from planner.evaluation.fitted import elsewhere
from planner.specs.overheads import OTHER_MAKER, OTHER_MODEL, OverheadsFit, Width


def other_model(fit: OverheadsFit, model: str) -> bool:
    """Whether no run of this model was fitted, with any engine."""
    return bool(fit.models) and model not in fit.models


def width_of(
    fit: OverheadsFit, quantity: str, vendor: str, model: str, seen: bool, case: str = ""
) -> tuple[float, float] | None:
    """5th and 95th percentile of log(measured / predicted); None where nothing is known.

    Of runs of this case, else of any; of unseen ones never narrower than of seen ones.  On parts
    of a maker of which none was fitted, of reported runs there.  Of a model that was not fitted,
    never narrower than of reported runs of such models: those that were fitted are three, and to
    leave one of them out says little of a fourth.

    Parameters
    ----------
    vendor : maker of the part.
    seen : whether engine version, part and model were fitted.
    case : of :class:`planner.specs.overheads.Width`.
    """
    if quantity == "output_tokens_per_s_per_device":
        quantity = "total_tokens_per_s_per_device"
    own = [w for w in fit.widths if w.quantity == quantity]
    if elsewhere(fit, vendor):
        return _ends([w for w in own if w.case == OTHER_MAKER])
    alike = [w for w in own if w.seen or not seen]
    found = [w for w in alike if w.case == case and w.seen == seen]
    chosen = [w for w in alike if w.case == (case if found else "")]
    if not seen and other_model(fit, model):
        chosen += [w for w in own if w.case == OTHER_MODEL]
    return _ends(chosen)


def _ends(widths: list[Width]) -> tuple[float, float] | None:
    if not widths:
        return None
    return min(w.low for w in widths), max(w.high for w in widths)
