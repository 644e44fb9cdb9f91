"""From collectives to time: what was measured of a library's kernels, or latency and bandwidth."""

from planner.comm.collectives import comm_load, comm_time_s
from planner.comm.libraries import exchange_of, ideal_links, with_exchange
from planner.comm.load import Load
from planner.comm.transfer import KvLink, kv_link, kv_transfer_s

__all__ = [
    "KvLink",
    "Load",
    "comm_load",
    "comm_time_s",
    "exchange_of",
    "ideal_links",
    "kv_link",
    "kv_transfer_s",
    "with_exchange",
]
