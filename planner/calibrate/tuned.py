"""Shapes of experts that a library's tiles were tuned for, as its measured rows tell.

SGLang looks tiles of its Triton kernel up by experts held, width and device, and takes a default
where it has no file (its log says "Using default MoE kernel config"). In 16 bits the default's
tiles of 64 x 64 x 32 reach a quarter of the peak on H100 and H200 and a fifth on Blackwell,
however many rows there are; tuned ones twice to three times that. Its defaults in 8-bit blocks
lose little.
"""

from collections.abc import Mapping

import numpy as np

from planner.calibrate.rows import Mask, Table

Shape = tuple[int, int]
"""Experts held and their width."""

WIDTHS: dict[str, Mapping[int, tuple[int, ...]]] = {
    "h100-sxm": {
        128: (512,), 192: (64, 128), 352: (128,), 384: (64, 128), 704: (128,), 768: (64, 128),
        1024: (16,), 1536: (64,), 1792: (8,), 2048: (8, 16), 3584: (8,), 4096: (8,), 7168: (8,),
    },
    "h200-sxm": {
        128: (512,), 192: (128,), 256: (512,), 384: (128,), 704: (128,), 768: (128,), 1024: (16,),
        1792: (8,), 2048: (8,), 3584: (8,), 4096: (8,), 7168: (8,), 14336: (8,),
    },
    "b200-sxm": {
        192: (64,), 256: (256,), 352: (128,), 384: (64,), 512: (256,), 704: (128,), 768: (64,),
        1024: (16,), 1536: (64,), 2048: (16,),
    },
    "b300-sxm": {}, "gb200-nvl72": {}, "gb300-nvl72": {}, "l40s": {}, "rtx-pro-6000": {},
}  # fmt: skip
"""Part -> width -> experts held of the shapes that reach over 1.5 times the rate of others as wide,
at 256 rows an expert and more: SGLang 0.5.14 in aiconfigurator-core 0.12.0. Where none do, all are
of the default's tiles. On A100 no such gap shows, and its rows are not of those tiles: one law is
fitted to all."""

TUNED: dict[str, tuple[Shape, ...]] = {
    part: tuple((held, width) for width, all_held in shapes.items() for held in all_held)
    for part, shapes in WIDTHS.items()
}


def is_tuned(table: Table) -> Mask:
    """Rows of a part in :data:`TUNED` whose shape is one of its tuned ones."""
    shapes = np.array(TUNED[table.origin.part] or [(0, 0)])
    own = np.stack([table["local_experts"], table["intermediate"]], axis=1)
    return np.asarray(np.any(np.all(own[:, None, :] == shapes, axis=2), axis=1))
