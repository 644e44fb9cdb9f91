"""Errors a user can cause, and what each one means.

* PlannerError
  - InputError       a file, an option or a value is wrong; says where, what, and what would do
  - InfeasibleError  the description is sound but cannot run; says which limit, and by how much
"""


class PlannerError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(PlannerError):
    """Something the user wrote does not describe what it should.

    Parameters
    ----------
    where : file and line (``scenario.yaml:12``), or the option (``--set``).
    field : dotted path of the field, may be empty.
    problem : what is wrong, the value given, and what would do.
    """

    def __init__(self, where: str, field: str, problem: str) -> None:
        super().__init__(where, field, problem)
        self.where, self.field, self.problem = where, field, problem

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.field, self.problem) if part)


class InfeasibleError(PlannerError):
    """A well-formed deployment that cannot run.

    Parameters
    ----------
    limit : the limit that is broken, as a short noun phrase (``HBM per device``).
    needed, available : both sides of the limit, in ``unit``.
    unit : unit of both numbers (``bytes``, ``expert slots``).
    advice : what would do, may be empty.
    """

    def __init__(
        self, limit: str, needed: float, available: float, unit: str, advice: str = ""
    ) -> None:
        super().__init__(limit, needed, available, unit, advice)
        self.limit, self.needed, self.available = limit, needed, available
        self.unit, self.advice = unit, advice

    def __str__(self) -> str:
        if self.unit == "bytes":
            sizes = f"needs {self.needed / 1e9:,.4g} GB, has {self.available / 1e9:,.4g} GB"
        else:
            sizes = f"needs {self.needed:,.6g} {self.unit}, has {self.available:,.6g}"
        return f"{self.limit}: {sizes}" + (f"; {self.advice}" if self.advice else "")
