"""What a network costs on paper: multiply-accumulates, parameters, bytes. Nothing is computed; tensors have shapes only."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

from nas.core import InputSpec, NasError

if TYPE_CHECKING:
    from torch import nn

BYTES_PER_VALUE = 4  # fp32

# Operators that cost no multiply-accumulates by convention, besides views, element-wise operators and reductions:
# normalisation (folded into a convolution, or a few operations per value), pooling, resampling, and moving values.
_FREE_NAMES = """
native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm native_layer_norm
native_group_norm native_dropout _fused_rms_norm linalg_vector_norm
_softmax _log_softmax _safe_softmax hardswish hardswish_ rsub prelu _prelu_kernel glu
max_pool2d_with_indices max_pool3d_with_indices avg_pool2d avg_pool3d adaptive_max_pool2d
_adaptive_avg_pool2d _adaptive_avg_pool3d mean sum max min argmax argmin topk sort cumsum var std var_mean std_mean
upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d upsample_bilinear2d
upsample_linear1d upsample_trilinear3d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa
grid_sampler_2d pixel_shuffle pixel_unshuffle channel_shuffle constant_pad_nd reflection_pad1d reflection_pad2d
replication_pad1d replication_pad2d im2col col2im
cat stack split_with_sizes unsafe_split unsafe_split_with_sizes _unsafe_view _reshape_copy repeat roll flip index
index_select gather scatter scatter_add index_put index_put_ masked_fill_ embedding _embedding_bag tril triu copy_
_to_copy fill_ zero_ bernoulli_
uniform_ normal_ empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like ones ones_like full
full_like new_zeros new_ones new_full arange linspace scalar_tensor lift_fresh lift_fresh_copy one_hot
"""
FREE = frozenset(_FREE_NAMES.split())
_OVERWRITES_INPUT = frozenset({"native_batch_norm", "_native_batch_norm_legit_no_training", "hardswish"})


class UncountedOperatorWarning(UserWarning):
    """A network has operators whose multiply-accumulates are not known, so that its count is a lower bound."""


def count_cost(module: nn.Module, input: InputSpec) -> dict[str, float]:
    """Return the cost of one input in evaluation mode.

    The module may live anywhere and in any mode; it is not changed, and its weights are not copied.

    - ``macs``: multiply-accumulates of convolutions and matrix products, attention included: half the floating-point
      operations of PyTorch's counter.
    - ``params``: parameters, a shared one counted once.
    - ``peak_bytes``: activation memory, a lower bound of what a process takes: the largest sum, over the operators in the order
      in which they run, of the fp32 activations alive while the operator runs. The input is an activation. A value lives from
      the operator that makes it to the last one that reads it; the network's outputs live to the end; a view is the value it
      looks into; an element-wise operator or a batch normalisation writes over an input of its size that nobody reads later,
      as an inference engine does.

    Args:
        module: Takes a float tensor of shape (batch, channels, height, width); returns any nest of tensors.
        input: Shape of one input.

    Returns:
        The three numbers by name. The size of a network is that of its file, which is not made here.

    Raises:
        NasError: The network cannot run on shapes alone, for example because it looks at values.

    Warns:
        UncountedOperatorWarning: Operators that may multiply and accumulate but that nobody told how to count; register a
            formula with `torch.utils.flop_counter.register_flop_formula`.
    """
    import torch

    from hw_profiles.tracing import ShapeTrace, tensors_in

    parameters = list(module.parameters())
    twin = _without_storage(module)
    pixels = torch.empty(1, input.channels, input.height, input.width, device="meta")
    trace = ShapeTrace(pixels, FREE, _OVERWRITES_INPUT)
    try:
        with torch.no_grad(), trace:
            trace.outputs = list(tensors_in(twin(pixels)))
    except (NotImplementedError, RuntimeError) as error:
        raise NasError(
            f"a network is counted by running it on shapes alone, and {type(module).__name__} cannot ({error}); "
            "its forward may look at no value and use registered buffers instead of plain tensors"
        ) from error
    if trace.uncounted:
        warnings.warn(
            f"the multiply-accumulates of {', '.join(sorted(trace.uncounted))} are not counted; give them a formula with "
            "torch.utils.flop_counter.register_flop_formula",
            UncountedOperatorWarning,
            stacklevel=2,
        )
    params = sum(parameter.numel() for parameter in parameters)
    return {
        "macs": trace.flops / 2,
        "params": float(params),
        "peak_bytes": float(BYTES_PER_VALUE * trace.peak_values()),
    }


def _without_storage(module: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose parameters and buffers have a shape only."""
    import torch
    from torch import nn

    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta", dtype=torch.float32), requires_grad=False)
    for buffer in module.buffers():
        dtype = torch.float32 if buffer.is_floating_point() else buffer.dtype
        memo[id(buffer)] = torch.empty_like(buffer, device="meta", dtype=dtype)
    return copy.deepcopy(module, memo).eval()
