"""Runs inside aiconfigurator's own environment: jobs in (a JSON object a line), predictions out."""

import json
import logging
import sys


def main() -> None:
    """Estimate every job; what it refuses is passed on as its reason."""
    logging.disable(logging.CRITICAL)
    from aiconfigurator.cli.api import cli_estimate

    for line in sys.stdin:
        job = json.loads(line)
        row = {"id": job["id"], "ttft_s": None, "tpot_s": None, "error": ""}
        try:
            found = cli_estimate(**job["arguments"])
        except Exception as error:  # whatever it raises is its answer
            row["error"] = f"{type(error).__name__}: {error}"[:200]
        else:
            row |= {"ttft_s": found.ttft / 1000, "tpot_s": found.tpot / 1000}
        print("PREDICTED " + json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
