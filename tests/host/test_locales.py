"""locales/en is what the schemas say, in a form that the page takes as it is."""

import json
from collections.abc import Iterator

from devtools.write_locales import ENGLISH, as_json, texts_of_categories, texts_of_nodes
from tests.host.conftest import Pack


def ours(pack: Pack) -> dict:
    """The nodes of the pack without those for tests."""
    return {node_id: node for node_id, node in pack.nodes.items() if not node_id.startswith("HeadForcingTest")}


def texts(value: dict | str) -> Iterator[str]:
    """Every text in a locale file."""
    for inner in value.values() if isinstance(value, dict) else ():
        yield from texts(inner)
    if isinstance(value, str):
        yield value


def test_the_english_texts_are_those_of_the_schemas(pack: Pack) -> None:
    again = "a text of a node changed: python dev.py run -- python -m devtools.write_locales"
    assert (ENGLISH / "nodeDefs.json").read_text(encoding="ascii") == as_json(texts_of_nodes(ours(pack))), again
    assert (ENGLISH / "main.json").read_text(encoding="ascii") == as_json(texts_of_categories(ours(pack))), again


def test_no_text_holds_what_the_page_takes_for_a_placeholder() -> None:
    found = list(texts(json.loads((ENGLISH / "nodeDefs.json").read_text(encoding="ascii"))))
    assert len(found) > 100
    assert [text for text in found if set(text) & set("{}@|$")] == []


def test_labels_are_the_names_of_inputs_that_the_help_pages_use(pack: Pack) -> None:
    named = json.loads((ENGLISH / "nodeDefs.json").read_text(encoding="ascii"))
    for node_id in ours(pack):
        assert all(name == given["name"] for name, given in named[node_id]["inputs"].items())
