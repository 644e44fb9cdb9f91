"""Rows of studies as tables of other libraries; each is imported when it is asked for."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from planner.errors import InputError
from planner.study.row import Row

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def to_pandas(rows: Iterable[Row]) -> "pd.DataFrame":
    """Rows as a pandas frame, one column a name.

    Raises
    ------
    InputError
        pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise InputError("", "pandas", "is missing: pip install 'moe-planner[tables]'") from None
    return pd.DataFrame(list(rows))


def to_arrow(rows: Iterable[Row]) -> "pa.Table":
    """Rows as an Arrow table.

    Raises
    ------
    InputError
        pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise InputError("", "pyarrow", "is missing: pip install 'moe-planner[tables]'") from None
    return pa.Table.from_pylist(list(rows))
