"""Which jobs are done, whether two machines have the same files, and what is said when nothing can start."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from headforcing_core.farm import __main__ as command
from headforcing_core.farm.finished_jobs import chunks_kept, is_done, note_done
from headforcing_core.farm.job_table import Job
from headforcing_core.farm.same_files import PACK, difference, folder_of, pack_hash
from headforcing_core.farm.worker import _IN_USE
from headforcing_core.run_store.folder import JOURNAL_FILE, RUN_FILE
from headforcing_core.run_store.lock import lock_folder
from tests.farm.farm_workflows import film, jobs_of

WITHOUT_RAY = """import runpy, sys
sys.modules['ray'] = None
runpy.run_module('headforcing_core.farm', run_name='__main__')"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job that was made: its run, a chunk, and a film that was saved."""
    (job,) = jobs_of(tmp_path, "name,6.seed\nfox,5\n")
    run = tmp_path / "head_forcing" / "fox"
    run.mkdir(parents=True)
    (tmp_path / "films").mkdir()
    for path in (run / RUN_FILE, run / "chunk_00000.safetensors", run / "lock", tmp_path / "films" / "fox.mp4"):
        path.write_text("as it was made")
    (run / JOURNAL_FILE).write_text("one\ntwo\n")
    note_done(tmp_path, job, ["films/fox.mp4"])
    return job


def test_a_job_is_done_while_all_that_it_made_is_there(tmp_path: Path, job: Job) -> None:
    assert is_done(tmp_path, job) and chunks_kept(tmp_path, job) == 2
    run = tmp_path / "head_forcing" / "fox"
    (run / "my own notes.txt").write_text("are left alone")
    (run / "lock").write_text("held")
    assert is_done(tmp_path, job)
    for path in (run / RUN_FILE, run / JOURNAL_FILE, run / "chunk_00000.safetensors", tmp_path / "films" / "fox.mp4"):
        before = path.read_text()
        edited = before.swapcase() if path.name in (RUN_FILE, JOURNAL_FILE) else ""  # of one size
        for change in (None, "", edited):
            path.unlink() if change is None else path.write_text(change)
            assert not is_done(tmp_path, job), (path, change)
            path.write_text(before)
    assert is_done(tmp_path, job)


def test_a_job_that_is_asked_for_in_another_way_is_not_done(tmp_path: Path, job: Job) -> None:
    renamed = film(*"12345678")
    renamed["6"]["_meta"] = {"title": "Sampler"}
    assert is_done(tmp_path, jobs_of(tmp_path, "name,6.seed\nfox,5\n", renamed)[0])
    for table in ("name,6.seed\nfox,6\n", "name,6.seed\nbear,5\n", "name,6.seed,7.filename_prefix\nfox,5,other\n"):
        assert not is_done(tmp_path, jobs_of(tmp_path, table)[0])


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"format": "headforcing.farm/2"}', None])
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, job: Job, note: str | None) -> None:
    path = tmp_path / "head_forcing" / "fox" / "farm.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, "format": "headforcing.farm/2"}) if note is None else note)
    assert not is_done(tmp_path, job)


def test_a_run_that_is_held_is_known_by_the_sentence_of_its_lock(tmp_path: Path) -> None:
    held = lock_folder(tmp_path)
    with pytest.raises(RuntimeError, match=_IN_USE):
        lock_folder(tmp_path)
    held.release()


def test_what_two_machines_do_not_have_in_common_is_named() -> None:
    one = {"vae/a.safetensors": "5 bytes, 00", "node Save": "known"}
    assert difference(one, dict(one), "B", "A") == ""
    for other, said in (
        ({**one, "vae/a.safetensors": "6 bytes, 00"}, "vae/a.safetensors is 5 bytes, 00 on B and 6 bytes, 00 on A"),
        ({"node Save": "known"}, "vae/a.safetensors is 5 bytes, 00 on B and not there on A"),
        ({"vae/a.safetensors": "5 bytes, 00"}, "node Save is known on B and not there on A"),
        ({**one, "node New": "known"}, "node New is not there on B and known on A"),
    ):
        assert said in difference(one, other, "B", "A")


def test_where_a_comfyui_writes_and_reads() -> None:
    root = Path("/opt/comfy")
    for arguments, place in (
        ([], root / "output"),
        (["--base-directory", "/data"], Path("/data/output")),
        (["--base-directory=/data", "--cpu"], Path("/data/output")),
        (["--base-directory", "/data", "--output-directory", "/films"], Path("/films")),
        (["--output-directory=/a=b"], Path("/a=b")),
    ):
        assert folder_of("output", root, arguments) == place
    assert len(pack_hash()) == 64 and pack_hash() == pack_hash()


def test_the_comfyui_is_the_one_that_the_pack_lies_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "main.py").touch()
    monkeypatch.setattr(command, "PACK", tmp_path / "custom_nodes" / "head-forcing")
    assert command._comfyui(None) == tmp_path
    monkeypatch.setattr(command, "PACK", tmp_path / "packs" / "head-forcing")
    with pytest.raises(ValueError, match=r"is in no custom_nodes of a ComfyUI.*Write --comfyui"):
        command._comfyui(None)
    assert command._comfyui(tmp_path) == tmp_path
    with pytest.raises(ValueError, match="it has no main.py"):
        command._comfyui(tmp_path / "packs")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "error: Ray is not installed. The farm has it start a worker for each card. Install it"),
        (("--comfyui", "no"), "error: --comfyui no is not a ComfyUI"),
        (("--", "--port", "8188"), "error: --port cannot be given to ComfyUI"),
        (("--", "--output-directory=x"), "error: --output-directory cannot be given"),
        (("--workers", "0"), "'0' is neither auto nor a number of workers"),
    ],
)
def test_nothing_starts_and_one_line_says_why(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    jobs_of(tmp_path, "name\nfox\n")
    (tmp_path / "main.py").touch()
    files = [str(tmp_path / name) for name in ("workflow.json", "jobs.csv")]
    given = [*files, "--comfyui", str(tmp_path), *arguments]
    run = [sys.executable, "-c", WITHOUT_RAY, *given]
    done = subprocess.run(run, cwd=PACK, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not done.stdout and not (tmp_path / "output").exists()
