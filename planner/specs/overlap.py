"""Which work of a step runs while expert traffic is on the wire: a closed set of policies."""

from typing import Literal

OverlapPolicy = Literal["none", "share", "shared_expert", "two_batch", "five_stage"]
"""How expert traffic hides.

``none``: everything in sequence.  ``share``: a given share of the traffic is hidden, as an
assumption.  ``shared_expert``: the shared expert runs beside dispatch and combine.  ``two_batch``:
two micro-batches of half the size alternate, one computes while the other communicates (DeepSeek's
and SGLang's prefill).  ``five_stage``: DeepSeek's decode pipeline, attention cut in two, two
micro-batches; prefill then runs as ``two_batch``.
"""
