"""Workflows in the form that the host runs: nodes by id, each with a class and inputs, some of them links."""

from collections.abc import Iterator, Mapping

Node = Mapping[str, object]


def inputs_of(node: object) -> Mapping[str, object]:
    """The inputs of a node; none for anything else."""
    inputs = node.get("inputs") if isinstance(node, Mapping) else None
    return inputs if isinstance(inputs, Mapping) else {}


def upstream(nodes: Mapping[str, object], node_id: str, name: str) -> Iterator[Node]:
    """The nodes that an input of a node comes from, each once, from the nearest on."""
    seen: set[str] = set()
    links = [inputs_of(nodes.get(node_id)).get(name)]
    while links:
        link = links.pop(0)
        source = str(link[0]) if isinstance(link, list) and len(link) == 2 else None
        node = nodes.get(source) if source is not None and source not in seen else None
        if source is None or not isinstance(node, Mapping):
            continue
        seen.add(source)
        yield node
        links.extend(inputs_of(node).values())
