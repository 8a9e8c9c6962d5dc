"""The ordered lists of rewrites that take a captured graph to what a format writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from instep.graph import Graph
from instep.graph.validate import validate
from instep.rewrite.driver import PassReport, Rewrite, run
from instep.rewrite.fold.branches import merge_branches
from instep.rewrite.fold.compositions import compose_convolutions
from instep.rewrite.fold.constants import fold_constants
from instep.rewrite.fold.duplicates import merge_constants, merge_duplicates
from instep.rewrite.fold.flattened import fold_flattened_order
from instep.rewrite.fold.identities import drop_dropouts, drop_identities
from instep.rewrite.fold.norms import fold_norm_scales
from instep.rewrite.fold.order import (
    hoist_activations,
    pool_before_pointwise,
    shrink_before_elementwise,
    widen_after_pointwise,
)
from instep.rewrite.fold.pads import fold_pads
from instep.rewrite.fold.pixel_shuffles import fold_channel_gathers, fold_pixel_shuffle_order
from instep.rewrite.fold.reductions import unstack_reductions
from instep.rewrite.fold.reshapes import cross_reshapes
from instep.rewrite.fold.scales import fold_scales, spell_scales
from instep.rewrite.fold.sequences import linear_from_matmul, merge_sequences
from instep.rewrite.fold.slices import simplify_joins
from instep.rewrite.fold.windows import sum_windows
from instep.rewrite.forms import FORMS, checked
from instep.rewrite.fuse.activations import fuse_activations
from instep.rewrite.fuse.mixes import mix_small_axes
from instep.rewrite.fuse.scales import fuse_scale_and_shift, widen_broadcasts
from instep.rewrite.fuse.transposes import absorb_transposes
from instep.rewrite.layout import assign_layout
from instep.rewrite.lower import lowering
from instep.rewrite.rank import flatten_gathers, lower_rank
from instep.rewrite.recognise.activations import recognise_activations
from instep.rewrite.recognise.arithmetic import recognise_arithmetic, recognise_piecewise
from instep.rewrite.recognise.norms import fold_scales_into_norms, recognise_folded_norms, recognise_norms
from instep.rewrite.recognise.views import recognise_focus, recognise_views
from instep.rewrite.tune.lanes import fill_lanes
from instep.rewrite.views import canonicalise_views, hoist_slices, shorten_views

__all__ = ["FORMS", "TUNINGS", "to_channels_first", "to_channels_last", "to_tflite"]

#: How often a group of rewrites may run before it has to be done.
ROUNDS = 6

TIDY: tuple[Rewrite, ...] = (fold_constants, drop_identities, merge_duplicates)
RECOGNISE: tuple[Rewrite, ...] = (
    recognise_views, recognise_focus, linear_from_matmul, recognise_arithmetic, recognise_piecewise,
    recognise_activations, recognise_norms, recognise_folded_norms, fold_scales_into_norms,
)  # fmt: skip
FOLD: tuple[Rewrite, ...] = (
    *TIDY, fold_scales, fold_norm_scales, merge_branches, merge_sequences, fold_pixel_shuffle_order,
    fold_channel_gathers, fold_pads, cross_reshapes, simplify_joins, unstack_reductions, sum_windows,
)  # fmt: skip
ORDER: tuple[Rewrite, ...] = (
    shrink_before_elementwise, pool_before_pointwise, widen_after_pointwise, hoist_activations, mix_small_axes,
)  # fmt: skip

#: Rewrites for one kind of processor, by name.
TUNINGS: dict[str, tuple[Rewrite, ...]] = {"avx512": (fill_lanes,)}


def to_channels_last(
    graph: Graph, *, prove: Callable[[Graph, Graph, str], object] | None = None
) -> tuple[Graph, list[PassReport]]:
    """Captured graph → the same network with channels last, its 4-D inputs and outputs too, for Keras and JAX.

    Nothing is folded, fused or lowered: batch norms and dropouts stay, every parameter keeps its name and every node
    its scope, so that what is written can be trained and recognised. ``prove`` as in ``to_tflite``.
    """
    graph = graph.copy()
    graph.prune()
    validate(graph, stage="captured")
    graph, reports = run(graph, (assign_layout("nhwc"), shorten_views), prove=prove)
    validate(graph, after="shorten-views", stage="laid out")
    return graph, [r for r in reports if r.changed]


def to_channels_first(
    graph: Graph, *, prove: Callable[[Graph, Graph, str], object] | None = None
) -> tuple[Graph, list[PassReport]]:
    """As ``to_channels_last`` the other way, for PyTorch: where the source has channels last."""
    graph = graph.copy()
    graph.prune()
    validate(graph, stage="captured")
    graph, reports = run(graph, (assign_layout("nchw", "NCHW"), shorten_views), prove=prove)
    validate(graph, after="shorten-views", stage="captured")
    return graph, [r for r in reports if r.changed]


def to_tflite(
    graph: Graph,
    *,
    io: str = "nhwc",
    tune: str = "",
    avoid: Collection[str] = (),
    prove: Callable[[Graph, Graph, str], object] | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Graph, list[PassReport]]:
    """Captured graph → lowered graph. ``io``: "nhwc" or "nchw" inputs and outputs.

    ``tune`` adds rewrites that pay on one kind of processor only (``TUNINGS``: "avx512"); without it the file suits
    every processor. ``avoid`` names forms (``FORMS``) that suit XNNPACK but not the target: the plain form of TFLite
    takes their place, the values stay. ``prove(before, after, name)`` is called after each change. Returns the graph
    and what each rewrite did. Raises GraphError when a rewrite leaves an invalid graph or an operator has no lowering.
    """
    if io not in ("nhwc", "nchw"):
        raise ValueError(f"io must be 'nhwc' or 'nchw', got {io!r}")
    if tune and tune not in TUNINGS:
        raise ValueError(f"tune must be one of {', '.join(TUNINGS)}, got {tune!r}")
    avoid = checked(avoid)
    reports: list[PassReport] = []

    def go(graph: Graph, rewrites: Sequence[Rewrite], rounds: int = 1) -> Graph:
        rewrites = [r for r in rewrites if r.name not in avoid]
        graph, more = run(graph, rewrites, rounds=rounds, prove=prove, progress=progress)
        reports.extend(r for r in more if r.changed)
        return graph

    graph = graph.copy()
    graph.prune()
    validate(graph, stage="captured")
    graph = go(graph, (drop_dropouts, merge_constants, flatten_gathers))
    # before the layout is settled view chains stay as the source spells them: every axis can still be followed
    graph = go(graph, (*RECOGNISE, *FOLD, *ORDER, hoist_slices), ROUNDS)
    graph = go(graph, (assign_layout(io),))
    validate(graph, after="assign-layout", stage="laid out")
    graph = go(
        graph, (*FOLD, fold_flattened_order, hoist_slices, lower_rank, canonicalise_views, absorb_transposes), ROUNDS
    )
    graph = go(graph, (spell_scales, *TIDY), 2)
    graph = go(graph, (fuse_activations, compose_convolutions, lowering(avoid), *TUNINGS.get(tune, ())))
    graph = go(graph, (*TIDY, fold_scales, lower_rank, canonicalise_views, fuse_activations), 2)
    graph = go(graph, (fuse_scale_and_shift, widen_broadcasts, merge_constants))
    validate(graph, after="the last rewrite", stage="lowered")
    return graph, reports
