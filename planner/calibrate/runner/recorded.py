"""Expert counts that somebody recorded of one layer: routing as skewed as theirs."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Recorded:
    """Tokens that each expert of one layer was given, in the order of the experts."""

    counts: tuple[float, ...]

    @property
    def said(self) -> str:
        """What the rows' header says of the counts: experts, and a digest of their shares."""
        shares = np.array(self.counts) / sum(self.counts)
        digest = hashlib.sha256(shares.round(12).tobytes()).hexdigest()[:12]
        return f"{len(self.counts)} experts, {digest}"

    def allows(self, top_k: int) -> bool:
        """Whether tokens that pick ``top_k`` distinct experts each can give such counts."""
        picked = sum(count > 0 for count in self.counts)
        return picked >= top_k and max(self.counts) * top_k <= sum(self.counts)

    def draw(self, tokens: int, top_k: int, rng: np.random.Generator) -> NDArray[np.int32]:
        """Draw ``top_k`` distinct experts a token, each as often as it was picked.

        Experts lie in random order on a line, each as long as its share of the tokens, and are
        picked by marks a token apart [1]_: those shares are met exactly in the mean.

        References
        ----------
        .. [1] W. G. Madow, "On the Theory of Systematic Sampling, II", Ann. Math. Stat. 20, 1949.
        """
        counts = np.array(self.counts)
        share = np.minimum(top_k * counts / counts.sum(), 1.0)
        order = np.argsort(rng.random((tokens, len(counts)), dtype=np.float32), axis=1)
        ends = np.cumsum(share[order], axis=1)
        ends[:, -1] = top_k
        marks = np.ceil(ends - rng.random((tokens, 1)))
        hit = np.diff(marks, axis=1, prepend=0.0)
        places = np.argpartition(hit, len(counts) - top_k, axis=1)[:, len(counts) - top_k :]
        return np.take_along_axis(order, places, axis=1).astype(np.int32)


def read_counts(path: Path) -> Recorded:
    """Read a list of counts: JSON (``[3, 1]``, ``{"counts": [3, 1]}``) or numbers with commas.

    Raises
    ------
    ValueError
        If it is no list of counts of one layer, naming file, place and value.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ValueError(f"--counts {path}: cannot be read: {reason}") from None
    values = _json(text, path) if text.lstrip()[:1] in ("[", "{") else _words(text)
    counts = []
    for place, value in enumerate(values):
        try:
            count = float(value) if isinstance(value, int | float | str) else math.nan
        except (ValueError, OverflowError):
            count = math.nan
        if isinstance(value, bool) or not 0 <= count < math.inf:
            what = "a list: one layer is wanted" if isinstance(value, list) else repr(value)[:40]
            raise ValueError(f"--counts {path}: expert {place}: must be tokens >= 0, got {what}")
        counts.append(count)
    if len(counts) < 2 or not sum(counts):
        raise ValueError(f"--counts {path}: needs tokens of two experts or more, got {len(counts)}")
    return Recorded(tuple(counts))


def _json(text: str, path: Path) -> list[object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--counts {path}: not JSON: {error}") from None
    if isinstance(found, dict):
        found = found.get("counts")
    if not isinstance(found, list):
        raise ValueError(f"--counts {path}: expected a list of tokens per expert, or counts: [...]")
    return found


def _words(text: str) -> list[object]:
    return [word.strip() for line in text.splitlines() for word in line.split(",") if word.strip()]
