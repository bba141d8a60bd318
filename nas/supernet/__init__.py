"""Weight sharing: a subnet is an ordinary module whose parameters are slices of the supernet."""

from nas.supernet.alone import Alone
from nas.supernet.blocks import Block, block_of, blocks
from nas.supernet.branching import Branching
from nas.supernet.convolutions import SafeConvolutions
from nas.supernet.definition import Features, MultiTaskNet, Outputs, SpaceDefinition
from nas.supernet.recalibration import recalibrate
from nas.supernet.supernet import Supernet
from nas.supernet.view import Shapes, View, prefix_views

__all__ = [
    "Alone",
    "Block",
    "Branching",
    "Features",
    "MultiTaskNet",
    "Outputs",
    "SafeConvolutions",
    "Shapes",
    "SpaceDefinition",
    "Supernet",
    "View",
    "block_of",
    "blocks",
    "prefix_views",
    "recalibrate",
]
