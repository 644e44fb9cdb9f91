"""What the README tells people to type works."""

from pathlib import Path

import planner

README = Path(__file__).parent.parent / "README.md"


def test_the_lines_of_python_run():
    """All but the plan of a whole day, which has tests of its own, and a file of the reader's."""
    text = README.read_text("utf-8")
    block = text.split("```python\n")[1].split("```")[0].splitlines()
    lines = [line for line in block if "answer" not in line and "config.json" not in line]
    assert len(lines) >= 7
    names = {}
    for line in lines:
        exec(line, names)
    assert len(list(planner.what_if(names["chat"], {"run.seed": [1]}))) == 1
