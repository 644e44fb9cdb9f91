"""Published acceptance of draft tokens, by name."""

from functools import lru_cache

from planner.errors import InputError
from planner.files.profiles import names_in, profile_root
from planner.files.yaml_io import load_spec, suggestion
from planner.specs.deployment import Disaggregated, Pool
from planner.specs.scenario import Space
from planner.specs.speculative import Acceptance, Speculative

FIELD = "deployment.speculative.profile"


@lru_cache(maxsize=64)
def load_acceptance(name: str) -> Acceptance:
    """Read a published acceptance table by name.

    Raises
    ------
    InputError
        The name is not known.
    """
    folder = profile_root() / "speculation"
    path = folder / f"{name}.yaml"
    if "/" in name or not path.is_file():
        known = names_in(folder)
        raise InputError("", FIELD, f"{name!r} is not known" + suggestion(name, known))
    return load_spec(path, Acceptance)


def with_acceptances(deployment: Pool | Disaggregated) -> Pool | Disaggregated:
    """The deployment with the acceptance profile of its decoding pool, if it names one, read."""
    if isinstance(deployment, Pool):
        return with_acceptance(deployment)
    return deployment.model_copy(update={"decode": with_acceptance(deployment.decode)})


def with_acceptance(pool: Pool) -> Pool:
    """The pool with its acceptance profile, if it names one, read.

    Raises
    ------
    InputError
        The profile is not known, is for another method, or knows fewer draft tokens.
    """
    wish = pool.speculative
    if wish is None or wish.profile is None:
        return pool
    return pool.model_copy(update={"speculative": filled(wish)})


def filled(wish: Speculative) -> Speculative:
    """A way to draft with its acceptance profile read.

    Raises
    ------
    InputError
        The profile is not known, is for another method, or knows fewer draft tokens.
    """
    found = load_acceptance(str(wish.profile))
    if found.method != wish.method:
        raise InputError("", FIELD, f"{found.name} was measured with {found.method}")
    if wish.draft_tokens > len(found.tokens_per_step):
        raise InputError(
            "",
            "deployment.speculative.draft_tokens",
            f"{found.name} knows up to {len(found.tokens_per_step)}, got {wish.draft_tokens}",
        )
    return wish.model_copy(
        update={"tokens_per_step": found.tokens_per_step, "source": found.source}
    )


def with_space_acceptances(space: Space) -> Space:
    """A space with the acceptance profiles of its ways to draft read."""
    ways = tuple(filled(w) if w is not None and w.profile else w for w in space.speculative)
    return space if ways == space.speculative else space.model_copy(update={"speculative": ways})
