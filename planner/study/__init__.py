"""Questions of many scenarios: what if, how sensitive, how sure, what does it cost."""

from planner.study.indices import Sensitivity, sensitivity
from planner.study.money import Account, account, break_even
from planner.study.sizing import Sizing, size
from planner.study.table import Table, sweep, what_if

__all__ = [
    "Account",
    "Sensitivity",
    "Sizing",
    "Table",
    "account",
    "break_even",
    "sensitivity",
    "size",
    "sweep",
    "what_if",
]
