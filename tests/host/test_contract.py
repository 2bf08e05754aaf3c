"""The contract of the nodes: ids, input order, option texts, outputs; every input says what one sees change."""

import inspect
import json
from pathlib import Path

import pytest

CONTRACT = Path(__file__).with_name("contract.json")
REQUIRED = {"model", "clip", "text", "model_name", "profile_name"}
LEFT_OUT = {"HeadForcingCachePolicy.preset": "paper", "HeadForcingSampler.noise": "per_chunk"}
"""What API workflows mean that leave an input out, whatever a new node has."""


@pytest.fixture(scope="module")
def ours(pack) -> dict:
    return {node_id: node for node_id, node in pack.nodes.items() if not node_id.startswith("HeadForcingTest")}


def described(node) -> dict:
    """Everything that a saved workflow depends on."""
    schema = node.GET_SCHEMA()
    inputs = []
    for given in schema.inputs:
        fields = given.as_dict()
        files = given.id in ("model_name", "profile_name", "lora")  # their options are the files that are there
        inputs.append(
            {
                "id": given.id,
                "type": given.io_type,
                "default": fields.get("default"),
                "options": None if files else fields.get("options"),
                "advanced": bool(fields.get("advanced")),
            }
        )
    outputs = [{"type": given.io_type, "name": given.display_name} for given in schema.outputs]
    return {"name": schema.display_name, "inputs": inputs, "outputs": outputs}


def test_the_contract_is_as_recorded(ours) -> None:
    now = {node_id: described(node) for node_id, node in sorted(ours.items())}
    recorded = json.loads(CONTRACT.read_text(encoding="ascii"))
    assert now == recorded, "a change here changes saved workflows; see docs/architecture.md, the contract"


def test_every_input_has_a_tooltip_that_names_a_typical_value_or_a_source(ours) -> None:
    for node_id, node in ours.items():
        for given in node.GET_SCHEMA().inputs:
            assert given.tooltip and len(given.tooltip) > 20, f"{node_id}.{given.id}"
            if hasattr(given, "default") and given.id not in ("text", "model_name", "profile_name"):
                assert "ypical" in given.tooltip, f"{node_id}.{given.id}: {given.tooltip}"


def test_every_output_has_a_tooltip(ours) -> None:
    for node_id, node in ours.items():
        for given in node.GET_SCHEMA().outputs:
            assert given.tooltip and given.tooltip.endswith("."), f"{node_id}.{given.display_name}"


def test_every_optional_widget_repeats_its_default_in_execute(ours) -> None:
    for node_id, node in ours.items():
        parameters = inspect.signature(node.execute).parameters
        assert [given.id for given in node.GET_SCHEMA().inputs] == list(parameters), node_id
        for given in node.GET_SCHEMA().inputs:
            if given.id in REQUIRED:
                assert not given.optional, f"{node_id}.{given.id}"
                continue
            assert given.optional, f"{node_id}.{given.id}"
            default = parameters[given.id].default
            assert default is not inspect.Parameter.empty, f"{node_id}.{given.id}"
            if getattr(given, "default", None) is not None:
                assert default == LEFT_OUT.get(f"{node_id}.{given.id}", given.default), f"{node_id}.{given.id}"


def test_at_most_six_plain_widgets_stand_on_a_node_before_advanced_ones(ours) -> None:
    for node_id, node in ours.items():
        widgets = [given for given in node.GET_SCHEMA().inputs if hasattr(given, "default")]
        assert sum(not given.advanced for given in widgets) <= 6 + (node_id == "HeadForcingProfileHeads"), node_id


def test_every_node_has_a_help_page_and_stands_in_a_workflow(ours) -> None:
    root = Path(__file__).parents[2]
    used = {
        node["class_type"]
        for path in (root / "workflows" / "api").glob("*.json")
        for node in json.loads(path.read_text(encoding="ascii")).values()
    }
    for node_id in ours:
        assert (root / "web" / "docs" / f"{node_id}.md").stat().st_size > 500
        assert node_id in used


def test_all_nodes_are_of_one_category_and_carry_search_words(ours) -> None:
    for node in ours.values():
        schema = node.GET_SCHEMA()
        assert schema.category == "Head Forcing" and schema.description and len(schema.search_aliases) >= 3
