"""Numbers that remember where they came from."""

from typing import Any, Literal, Self, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

Confidence = Literal[
    "seen", "secondary", "derived", "recalled", "contradictory", "estimate", "assumed"
]
"""How far a number can be trusted.

``seen`` read in the source named; ``secondary`` read in a compilation of sources; ``derived``
computed from another fact; ``recalled`` general knowledge, to be confirmed; ``contradictory``
sources disagree and one was chosen; ``estimate`` somebody's estimate; ``assumed`` our own choice.
"""

DOUBTFUL: tuple[Confidence, ...] = ("recalled", "contradictory", "estimate", "assumed")
"""Words that reports list beside the answer."""


class Sourced(float):
    """A float with the reference it was read from.

    Arithmetic gives a plain float, so formulas need not know about it.  A profile writes
    ``{value: 4.8e12, source: nvidia-h200}``; a bare number is refused.

    >>> bandwidth_bytes_per_s = Sourced(4.8e12, source="nvidia-h200")
    >>> bandwidth_bytes_per_s / 2
    2400000000000.0
    >>> bandwidth_bytes_per_s.source, bandwidth_bytes_per_s.confidence
    ('nvidia-h200', 'seen')
    """

    __slots__ = ("confidence", "note", "source")

    source: str
    note: str
    confidence: Confidence

    def __new__(
        cls, value: float, source: str, note: str = "", confidence: Confidence = "seen"
    ) -> Self:
        """Read ``value`` as a float and remember ``source``, ``note`` and ``confidence``."""
        self = super().__new__(cls, value)
        self.source, self.note, self.confidence = source, note, confidence
        return self

    def __getnewargs__(self) -> tuple[float, str, str, Confidence]:  # type: ignore[override]
        return float(self), self.source, self.note, self.confidence

    @property
    def doubtful(self) -> bool:
        """Whether a report must name this number as an assumption."""
        return self.confidence in DOUBTFUL

    def as_dict(self) -> dict[str, float | str]:
        """Return the form a profile is written in."""
        written: dict[str, float | str] = {"value": float(self), "source": self.source}
        if self.note:
            written["note"] = self.note
        if self.confidence != "seen":
            written["confidence"] = self.confidence
        return written

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source_type: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Accept the written form or a ready ``Sourced``; refuse a bare number."""
        field = core_schema.typed_dict_field
        written = core_schema.typed_dict_schema(
            {
                "value": field(core_schema.float_schema(allow_inf_nan=False)),
                "source": field(core_schema.str_schema(min_length=1)),
                "note": field(core_schema.str_schema(), required=False),
                "confidence": field(
                    core_schema.literal_schema(list(get_args(Confidence))), required=False
                ),
            },
            extra_behavior="forbid",
        )
        from_file = core_schema.no_info_after_validator_function(lambda d: cls(**d), written)

        def ready_or_written(value: Any, read: core_schema.ValidatorFunctionWrapHandler) -> Any:
            if isinstance(value, cls):
                return value
            if isinstance(value, dict) and "source" in value:
                return read(value)
            raise PydanticCustomError(
                "unsourced",
                "a fact needs its source: write {value: NUMBER, source: KEY}, "
                "with confidence: assumed where it is an assumption",
            )

        return core_schema.json_or_python_schema(
            json_schema=from_file,
            python_schema=core_schema.no_info_wrap_validator_function(ready_or_written, from_file),
            serialization=core_schema.plain_serializer_function_ser_schema(cls.as_dict),
        )
