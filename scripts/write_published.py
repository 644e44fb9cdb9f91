"""Write docs/published.md: every published figure beside what the models here predict.

    python scripts/write_published.py [--check]

``--check`` compares the stored summary with a fresh one and fails where the median error of
systems or kernels has grown by more than two points.
"""

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from planner.calibrate.account import account
from planner.validation.published import FAR, Verdict, summary

PATH = Path(__file__).parents[1] / "docs" / "published.md"
NOISE = 0.02
"""Growth of a median that is still noise."""
MOST_ROWS = 24

HEAD = """# Published figures beside predictions

Made by `python scripts/write_published.py`; edit `planner/validation/published.yaml` and
`scenarios/published/`, not this file. In the terminal:
`moe-planner validate --published [--only TAG] [--json]`.

`fitted`: something was fitted to this figure. `held_out`: to others of its kind, not to it.
`unfitted`: to nothing of its kind; the prediction comes from kernels, links and routing alone.
Error: predicted / published - 1. Where a source states an engine with fitted overheads, its
scheduling rules and host times apply, and factors of kernels where its runs had such kernels
([runs.md](runs.md)). Bold: the published value is outside the 90 % interval
([intervals.md](intervals.md)).

Left out, since no engine here is like theirs: DeepSeek-R1 by dstack in March 2025, on 8 H200 and
8 MI300X with the engines of the model's first weeks (SGLang, 3,200 in, 800 out: 43.6 and 34.9 ms
a token at 4 clients, 110.8 and 135.7 ms at 128).  With overheads fitted to engines of a year
later, about 11 and 57 ms are predicted on H200.

The 75 figures of NVIDIA's overview of 2026 were added last, and nothing was changed for them but
one condition: prompts of 8,192 and 32,768 tokens had been given a step of just that size, into
which they fit only when nothing decodes (-59 to -97 %). The other 46 as first predicted: 22 % in
the median, +22 % bias, 72 % inside.
"""


def main() -> int:
    """Write the page, or compare its summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    verdicts = account()
    if options.check:
        return check(verdicts)
    PATH.write_text(page(verdicts), encoding="utf-8")
    return 0


def page(verdicts: Sequence[Verdict]) -> str:
    """The whole page."""
    parts = [HEAD, "## Summary\n", *summary_table(verdicts)]
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.claim, []).append(verdict)
    parts += ["\n## Systems\n"]
    for claim, group in groups.items():
        if len(group) <= MOST_ROWS and "kernels" not in group[0].tags:
            parts += figures(claim, group)
    parts += ["\n## Kernels and exchanges\n", *kernels(groups)]
    return "\n".join(parts).rstrip() + "\n"


def of_kind(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """Systems and kernels apart."""
    return {
        name: [v for v in verdicts if ("kernels" in v.tags) == kernel]
        for name, kernel in (("systems", False), ("kernels", True))
    }


def summary_table(verdicts: Sequence[Verdict]) -> list[str]:
    """Systems and kernels, each by split."""
    rows = [
        f"| | number | median | p90 | bias | off by {FAR:g}x | without reason | in 90 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, group in of_kind(verdicts).items():
        splits = dict.fromkeys(v.split for v in group)
        parts = {name: group} | {
            f"{name}, {split}": [v for v in group if v.split == split] for split in splits
        }
        for title, mine in parts.items():
            s = summary(mine)
            rows.append(
                f"| {title} | {s.number} | {s.median_abs_error:.1%} | {s.p90_abs_error:.1%} | "
                f"{s.bias:+.1%} | {s.far} | {s.unexplained} | {share(s.inside_share)} |"
            )
    return rows


def within(v: Verdict) -> str:
    """The interval, brought out where the published value is not in it."""
    if v.interval90 is None:
        return "-"
    low, high = v.interval90
    text = f"{number(low)} to {number(high)}"
    return text if v.inside else f"**{text}**"


def share(value: float) -> str:
    """A share, a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:.0%}"


def figures(claim: str, group: Sequence[Verdict]) -> list[str]:
    """One claim: its source, what was assumed, every figure."""
    first = group[0]
    found = [f"\n### {claim}\n", f"{first.source}.  "]
    if first.assumed:
        found.append(f"Assumed: {'; '.join(first.assumed)}.")
    found += [
        "\n| conditions | quantity | published | predicted | 90 % interval | error | |",
        "|---|---|---|---|---|---|---|",
    ]
    found += [
        f"| {v.conditions} | {v.quantity} | {number(v.value)} | {number(v.predicted)} | "
        f"{within(v)} | "
        f"{'-' if v.relative_error is None else f'{v.relative_error:+.1%}'} | {v.split} |"
        for v in group
    ]
    reasons = dict.fromkeys(v.error or v.reason for v in group if v.far)
    found += [f"\nFar off because: {reason or 'not known'}." for reason in reasons]
    return found


def kernels(groups: dict[str, list[Verdict]]) -> list[str]:
    """Tables of measured kernels, summed up."""
    rows = [
        "| table | quantity | split | rows | median | p90 | bias |",
        "|---|---|---|---|---|---|---|",
    ]
    for claim, group in groups.items():
        if "kernels" not in group[0].tags:
            continue
        for quantity, split in dict.fromkeys((v.quantity, v.split) for v in group):
            s = summary([v for v in group if (v.quantity, v.split) == (quantity, split)])
            rows.append(
                f"| {claim} | {quantity} | {split} | {s.number} | {s.median_abs_error:.1%} | "
                f"{s.p90_abs_error:.1%} | {s.bias:+.1%} |"
            )
    assumed = dict.fromkeys(
        a for g in groups.values() for v in g if "kernels" in v.tags for a in v.assumed
    )
    return [*rows, *(f"\nAssumed: {text}." for text in assumed)]


def number(value: float | None) -> str:
    """Four figures, whole numbers from a thousand."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def check(verdicts: Sequence[Verdict]) -> int:
    """1 where a stored median was better by more than noise."""
    stored = dict(
        re.findall(r"^\| (systems|kernels) \| \d+ \| ([\d.]+)% ", PATH.read_text("utf-8"), re.M)
    )
    worse = 0
    for name, group in of_kind(verdicts).items():
        now, then = summary(group).median_abs_error, float(stored[name]) / 100
        print(f"{name}: median {now:.1%}, stored {then:.1%}")
        worse |= now > then + NOISE
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
