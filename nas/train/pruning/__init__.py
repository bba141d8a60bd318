"""Removing channels of a trained network, all of a kind or none: which belong together, and which can go."""

from nas.train.pruning.channels import ChannelGroup, channel_groups, narrowed, removed
from nas.train.pruning.pagcp import PRUNING_IMAGES, Bound, Pruning, pagcp

__all__ = ["PRUNING_IMAGES", "Bound", "ChannelGroup", "Pruning", "channel_groups", "narrowed", "pagcp", "removed"]
