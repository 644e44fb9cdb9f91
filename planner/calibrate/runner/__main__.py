"""``python -m planner.calibrate.runner``, or ``python -m runner`` where it travels alone."""

import sys

from .main import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
