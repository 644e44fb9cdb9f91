"""Print the ``prompt_correlation`` of a benchmark whose prompts repeat texts of a ShareGPT file.

Needs ``tokenizers`` and a model's ``tokenizer.json``; neither comes with the project.

    python scripts/prompt_correlation.py ShareGPT_V3_unfiltered_cleaned_split.json tokenizer.json
"""

import argparse
import json
import random
from pathlib import Path

from planner.routing.alike import repeated_text_correlation

PROMPTS = 8192
SEED = 1
BEGIN = 0
"""Id of the token a tokenizer puts before every text (DeepSeek's)."""


def main(dataset: str, tokenizer: str) -> None:
    """First human turn of shuffled conversations, as SGLang's ``sample_random_requests`` takes."""
    from tokenizers import Tokenizer

    encode = Tokenizer.from_file(tokenizer).encode
    found = [c["conversations"] for c in json.loads(Path(dataset).read_text("utf-8"))]
    first = [turns[0]["value"] for turns in found if len(turns) >= 2 and turns[0]["value"]]
    random.Random(SEED).shuffle(first)
    texts = [[BEGIN, *encode(t, add_special_tokens=False).ids] for t in first[:PROMPTS]]
    for length in (1024, 2048, 4096):
        print(length, round(repeated_text_correlation(texts, length), 4))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("tokenizer")
    asked = parser.parse_args()
    main(asked.dataset, asked.tokenizer)
