"""Tables of jobs: what they may say, and the sentence for all that is wrong."""

import json
from pathlib import Path

import pytest

from headforcing_core.farm.job_table import classes_of, strings_of
from headforcing_core.farm.workflow_file import read_workflow
from tests.farm.farm_workflows import film, jobs_of


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_row_is_a_job_with_its_values(tmp_path: Path, mark: str) -> None:
    head = ["name", "Sampler v1.0.seed", "3.text", "6.seconds", "8.on"]
    rows = [["fox", "7", "a fox", "2.5", "FALSE"], ["bear 2", "", '"a bear,\nin; snow"', "", ""]]
    text = "\ufeff" + "\r\n".join(mark.join(row) for row in [head, *rows]) + "\r\n\r\n"
    fox, bear = jobs_of(tmp_path, text)
    assert (fox.name, fox.runs, bear.name, bear.runs) == ("fox", ("fox",), "bear 2", ("bear 2",))
    one, two = ({key: node["inputs"] for key, node in job.workflow.items()} for job in (fox, bear))
    assert (one["6"]["seed"], one["6"]["seconds"], one["8"]["on"], one["3"]["text"]) == (7, 2.5, False, "a fox")
    # an empty cell leaves what the workflow has
    assert (two["6"]["seed"], two["6"]["seconds"], two["8"]["on"]) == (1, 3.5, True)
    assert two["3"]["text"] == "a bear,\nin; snow"


def test_a_table_in_json_keeps_its_kinds(tmp_path: Path) -> None:
    rows = [
        {"name": "a", "6.seed": 2**63, "Prompts.text": "", "8.on": False, "8.nothing": "now"},
        {"name": "b", "6.seconds": 3.5, "6.seed": "12"},
    ]
    first, second = jobs_of(tmp_path, rows)
    assert first.workflow["6"]["inputs"]["seed"] == 2**63 and first.workflow["3"]["inputs"]["text"] == ""
    assert first.workflow["8"]["inputs"]["on"] is False and first.workflow["8"]["inputs"]["nothing"] == "now"
    assert (second.workflow["6"]["inputs"]["seconds"], second.workflow["6"]["inputs"]["seed"]) == (3.5, 12)


def test_a_job_is_kept_and_saved_under_its_name(tmp_path: Path) -> None:
    two_films = {**film(), "9": film()["6"]}
    (job,) = jobs_of(tmp_path, "name\nfox", two_films)
    inputs = {key: node["inputs"] for key, node in job.workflow.items()}
    assert job.runs == ("fox", "fox_2")
    assert [(inputs[key]["run_name"], inputs[key]["on_existing_run"]) for key in "69"] == [
        ("fox", "resume"),
        ("fox_2", "resume"),
    ]
    assert inputs["7"]["filename_prefix"] == "films/fox_fox"
    assert {"self_forcing_dmd.safetensors", "films/fox_fox"} <= set(strings_of([job]))
    assert classes_of([job, job]).count("HeadForcingSampler") == 1


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "has no rows"),
        ("name,6.seed\n", "has no rows"),
        ("name,6.seed\n,,\n", "has no rows"),
        ([], "has no rows"),
        ({"name": "a"}, "a list with an object for each job is needed"),
        (["a"], "a list with an object for each job is needed"),
        ("6.seed\n5\n", "Row 1 of the table has no name"),
        ("name,6.seed\na,1\n,2\n", "Row 2 of the table has no name"),
        ([{"name": 5}], "Row 1 of the table has no name"),
        ("name\n../a\n", "name in row 1 of the table is '../a'. It becomes a file name"),
        ("name\ncon\n", "It becomes a file name"),
        ("name\na\na\n", "Two jobs, 'a' and 'a', would keep a run in one folder, 'a'"),
        ("name\nFox\nfox\n", "Two jobs, 'Fox' and 'fox', would keep a run in one folder, 'fox'"),
        ("name,6.seed\na,1,2\n", "row 1 has 3 cells, and there are 2 columns"),
        ("name,6.seed,6.seed\na,1,2\n", "it has two columns '6.seed'"),
        ("name,6.seed,Sampler v1.0.seed\na,1,2\n", "'6.seed' and 'Sampler v1.0.seed' name one input"),
        ("name,seed\na,1\n", "The column 'seed' names no node of the workflow. Write node.input"),
        ("name,60.seed\na,1\n", "6 (Sampler v1.0)"),
        ("name,6.sead\na,1\n", "names no input of node 6 (Sampler v1.0). It has: model, schedule"),
        ("name,Save.on\na,1\n", "they share a title: 7 (Save), 8 (Save). Write the id"),
        ("name,6.model\na,1\n", "comes from another node, and a value would cut that link"),
        ("name,6.run_name\na,b\n", "'6.run_name' is set by the farm itself, to the name of the job"),
        ("name,Sampler v1.0.on_existing_run\na,new\n", "is set by the farm itself, to resume"),
        ("name,6.seed\na,x\n", "6.seed of the job 'a' is 'x'; the workflow has a number there. Write a number."),
        ("name,6.seed\na,nan\n", "6.seed of the job 'a' is 'nan'"),
        ("name,6.seed\na,1e999\n", "6.seed of the job 'a' is '1e999'"),
        (
            "name,6.seed\na,1.8E+19\n",
            "6.seed of the job 'a' is 1.8E+19, of which a spreadsheet has kept the first digits",
        ),
        ("name,6.seed\na,9007199254740993.0\n", "Make that column text there, and write all digits."),
        ([{"name": "a", "6.seed": 1.8e19}], "write all digits"),
        ([{"name": "a", "6.seed": True}], "6.seed of the job 'a' is 'True'; the workflow has a number there"),
        ("name,8.on\na,1\n", "8.on of the job 'a' is '1'; the workflow has true or false there"),
        ([{"name": "a", "3.text": 5}], "3.text of the job 'a' is '5'; the workflow has a text there"),
        ("name,8.list\na,1\n", "8.list of the job 'a' cannot be set from a table"),
        ('name,6.seed\na,"1\n', "cannot be read: unexpected end of data."),
    ],
)
def test_what_is_wrong_with_a_table_is_one_sentence(tmp_path: Path, table, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        jobs_of(tmp_path, table)
    assert said in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("workflow", "said"),
    [
        ({"nodes": [], "links": [], "version": 0.4}, "is in the form of the page"),
        ({}, "is none in API form"),
        ([1], "is none in API form"),
        ({**film(), "extra": {}}, "is none in API form"),
        (film(*"1234578"), "has no Head-Forced Sampler"),
        (
            {**film(), "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": ["3", 0]}}},
            "filename_prefix of node 9",
        ),
    ],
)
def test_what_is_wrong_with_a_workflow_is_one_sentence(tmp_path: Path, workflow, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        jobs_of(tmp_path, "name\na\n", workflow)
    assert said in str(caught.value) and str(caught.value).endswith(".")


def test_a_file_that_is_no_json_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "workflow.json"
    for text in ("{", '{"1": NaN}', json.dumps({"a": 1})[:-1]):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"cannot be read: .*Export it anew from ComfyUI\."):
            read_workflow(path)


def test_a_long_name_is_refused_where_a_number_is_added(tmp_path: Path) -> None:
    two_films = {**film(), "9": film()["6"]}
    assert jobs_of(tmp_path, f"name\n{'a' * 120}\n")[0].runs == ("a" * 120,)
    with pytest.raises(ValueError, match="is too long for a workflow of 2 samplers"):
        jobs_of(tmp_path, f"name\n{'a' * 119}\n", two_films)
