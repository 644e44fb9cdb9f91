"""Domains without a switch: what a torus or a mesh leaves of the links' rate."""

import pytest

from planner import files
from planner.comm.topology import all_to_all_hops, slice_axes, steps, usable_bytes_per_s

V6E = files.load_hardware("tpu-v6e").system.scale_up
V7 = files.load_hardware("tpu-v7").system.scale_up
MI300X = files.load_hardware("hgx-mi300x").system.scale_up


def test_a_slice_is_the_most_cubic_box() -> None:
    assert slice_axes("torus2d", 64) == (8, 8)
    assert slice_axes("torus2d", 32) == (8, 4)
    assert slice_axes("torus3d", 64) == (4, 4, 4)
    assert slice_axes("torus3d", 2) == (2, 1, 1)
    # no box of 7 is near a square: the smallest that holds them
    assert slice_axes("torus2d", 7) == (3, 3)


def test_a_closed_axis_has_two_links_and_an_open_one_has_one() -> None:
    link = 90e9
    assert usable_bytes_per_s(V6E, 256) == pytest.approx(4 * link)
    assert usable_bytes_per_s(V6E, 64) == pytest.approx(2 * link)
    assert usable_bytes_per_s(V6E, 2) == pytest.approx(link)
    assert usable_bytes_per_s(V7, 64) == pytest.approx(6 * 100e9)


def test_a_mesh_gives_a_link_a_peer() -> None:
    link = float(MI300X.peer_bytes_per_s or 0)
    for ranks in (2, 4, 8):
        assert usable_bytes_per_s(MI300X, ranks) == pytest.approx((ranks - 1) * link)


def test_the_last_part_crosses_half_a_ring_or_a_whole_line() -> None:
    assert steps(V6E, 256) == 8 + 8
    assert steps(V6E, 64) == 7 + 7
    assert steps(V7, 64) == 2 + 2 + 2
    assert steps(MI300X, 8) == 1


def test_all_to_all_is_bound_by_the_middle_of_the_longest_axis() -> None:
    # 16 x 16 closed: 128 devices send half of D each over 2 x 16 links: D 16 / (8 w)
    seconds_of = lambda up, ranks, size: (  # noqa: E731
        size * all_to_all_hops(up, ranks) / float(up.bytes_per_s)
    )
    assert seconds_of(V6E, 256, 1e6) == pytest.approx(1e6 * 16 / (8 * 90e9))
    # 8 x 8 open: half the links
    assert seconds_of(V6E, 64, 1e6) == pytest.approx(1e6 * 8 / (4 * 90e9))
    assert seconds_of(V7, 64, 1e6) >= 1e6 / 600e9
    assert all_to_all_hops(MI300X, 8) == 1.0
