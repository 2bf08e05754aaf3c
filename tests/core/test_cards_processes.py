"""Ranks that are processes, by gloo."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("cards_process.py")


def test_two_processes_make_the_film_that_one_makes_and_notice_when_one_is_lost(tmp_path: Path) -> None:
    commands = [[sys.executable, str(SCRIPT), str(rank), "2", str(tmp_path / "meet here")] for rank in range(2)]
    ranks = [subprocess.Popen(each, stderr=subprocess.PIPE, text=True) for each in commands]
    ended = [(rank.communicate(timeout=90)[1], rank.returncode) for rank in ranks]
    assert [code for _, code in ended] == [0, 0], ended
