"""The layers of a graph that a policy quantizes."""

from __future__ import annotations

from collections.abc import Mapping

from nas.core import PRECISIONS, ExportError, Precision, nearest
from nas.export.graph import Graph
from nas.supernet import block_of

CONVOLUTION = "Conv"
PRODUCTS = ("MatMul", "Gemm")


def layer_precisions(graph: Graph, policy: Mapping[str, Precision]) -> dict[str, Precision]:
    """Return the precision of every layer that does not compute in fp32 under `policy`, by the name of its node.

    A convolution that no other layer follows stays in fp32 where its block has more layers.

    Raises:
        ExportError: The network has no such block, there is no such precision, or a block has no layer that can have it.
    """
    paths = {
        name: name.rpartition("/")[0]
        for name, node in graph.nodes.items()
        if node.op_type in (CONVOLUTION, *PRODUCTS) and len(node.input) > 1 and graph.is_constant(node.input[1])
    }
    owners = {name: block_of(path, tuple(policy)) for name, path in paths.items()}
    followed = _followed(graph, set(paths))
    found: dict[str, Precision] = {}
    for block, precision in policy.items():
        inside = [name for name, owner in owners.items() if owner == block]
        if not inside:
            parts = sorted({".".join(path.split(".")[:depth]) for path in paths.values() for depth in (1, 2)} - {""})
            raise ExportError(f"a policy names blocks with layers: {block!r} has none here; {nearest(block, parts)}")
        if precision not in PRECISIONS:
            raise ExportError(f"block {block!r} is to compute in {precision!r}; {nearest(precision, PRECISIONS)}")
        products = [name for name in inside if graph.nodes[name].op_type in PRODUCTS]
        if precision in ("int8-dynamic", "int4") and not products:
            raise ExportError(f"{precision} is for matrix products: block {block!r} has only convolutions; Allowed: int8, fp32")
        if precision == "int8":
            found |= dict.fromkeys([n for n in inside if n in products or n in followed] or inside, precision)
        elif precision != "fp32":
            found |= dict.fromkeys(products, precision)
    return found


def _followed(graph: Graph, layers: set[str]) -> set[str]:
    """Return the nodes whose output, changed or not, some layer reads."""
    found: set[str] = set()
    for name in reversed(graph.ordered()):
        readers = {reader for value in graph.nodes[name].output for reader in graph.readers(value)}
        if readers & layers or readers & found:
            found.add(name)
    return found
