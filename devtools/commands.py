"""The five commands of dev.py."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from testbed.prompts import CHOICES, Prompt

from .paths import REPOSITORY, cache_folder, say
from .problem import Problem, exit_code_of
from .server.base_directory import temporary_base_directory
from .server.tiny_workflow import TINY_HEIGHT, TINY_TEXT_ENCODER, TINY_WIDTH
from .server.world_workflow import MODEL, TEXT_ENCODER, VAE, WORLD_HEIGHT, WORLD_WIDTH, link_world
from .setup.chromium import ensure_chromium
from .setup.installation import Installation
from .setup.lock import exclusive
from .setup.newer import ensure_newer, install_newest, versions_in

_HOST_PACKAGES = ("torch", "aiohttp")
_TEST_PACKAGES = (*_HOST_PACKAGES, "pytest", "xdist", "hypothesis", "playwright", "ruff", "basedpyright")
# one worker more than cores, since those with a page or a server wait half of the time; a ComfyUI takes 2 GB in each
_WORKERS = min(4, (os.cpu_count() or 1) + 1)
_ON_ALL_CORES = ("-n", str(_WORKERS), "--no-loadscope-reorder")
_WORDS = "\n".join(f"{' ':19}{name:8}{', '.join(words)}" for name, words in CHOICES.items())
_SERVED = f"""\
ComfyUI runs until Ctrl+C; nothing that is made there is kept. It has two kinds of models. For both, put Load Tiny
UMT5 (test) in place of Load CLIP, and set the size in the sampler and in Profile Heads (there under Show advanced
inputs). Leave the models that begin with bad_: they are for tests of errors.

  a small world    {MODEL}, {TEXT_ENCODER}, {VAE}, {WORLD_WIDTH} x {WORLD_HEIGHT}.
                   It understands prompts that are written as this one:
                   {Prompt(camera="pans left").text}
                   with one word of each line:
{_WORDS}
  random weights   all others, with {TINY_TEXT_ENCODER}, {TINY_WIDTH} x {TINY_HEIGHT}, any prompt.
                   They show coloured noise.
"""
_DEMO = "import sys; sys.path.insert(0, sys.argv.pop(1)); from devtools.demo import main; sys.exit(main(sys.argv[1:]))"


def main(arguments: list[str], description: str) -> int:
    """Run one command of dev.py and return its exit code."""
    given, rest = _parse(arguments, description)
    return exit_code_of(lambda: _run(given, rest), interrupted=0 if given.name == "serve" else 130)


def _parse(arguments: list[str], description: str) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="dev.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="name", required=True)
    for name in ("demo", "test", "newest", "serve", "run"):
        command = commands.add_parser(name, allow_abbrev=False)
        command.add_argument("--comfyui", type=Path, metavar="PATH", help="use this ComfyUI instead of the managed one")
    commands.choices["demo"].add_argument("--minute", action="store_true", help="a whole minute of video")
    if arguments[:1] == ["run"] and "--" in arguments:
        split = arguments.index("--")
        return parser.parse_args(arguments[:split]), arguments[split + 1 :]
    given, rest = parser.parse_known_args(arguments)
    if rest and given.name not in ("test", "newest"):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    return given, rest


def _run(given: argparse.Namespace, rest: list[str]) -> int:
    if given.name == "run" and not rest:
        raise Problem(
            "run was given no command.", "It has nothing to start.", "Write: python dev.py run -- COMMAND ..."
        )
    has_tests = given.name in ("test", "newest")
    packages = _TEST_PACKAGES if has_tests else (*_HOST_PACKAGES, "av") if given.name == "demo" else _HOST_PACKAGES
    installation = Installation.ready(given.comfyui, packages)
    if given.name == "serve":
        return _serve(installation)
    variables = installation.variables()
    if given.name == "run":
        return _become(rest, variables)
    os.chdir(REPOSITORY)
    python = str(installation.python)
    if has_tests:
        newest = given.name == "newest"
        rest = ["tests/newer", *rest] if newest else rest
        variables.update(_for_tests(installation.python, newest))
        has_place = any(Path(argument.partition("::")[0]).exists() for argument in rest)
        return _become([python, "-P", "-m", "pytest", *(() if has_place else _ON_ALL_CORES), *rest], variables)
    minute = ["--minute"] if given.minute else []
    return _become([python, "-c", _DEMO, str(REPOSITORY), *minute], variables)


def _serve(installation: Installation) -> int:
    print(f"Starting ComfyUI from {installation.host} ...", file=sys.stderr, flush=True)
    with temporary_base_directory(installation.models) as folder:
        link_world(folder)
        with installation.server(folder) as server:
            print(_SERVED, file=sys.stderr, flush=True)
            where = {"url": server.url, "base_directory": str(folder), "pid": server.pid}
            print(json.dumps(where), flush=True)
            raise server.problem(f"ended on its own with exit code {server.wait()}")


def _for_tests(python: Path, newest: bool) -> dict[str, str]:
    """What tests need beside an installation, as environment variables."""
    cache = cache_folder()
    with exclusive(cache / "lock"):
        newer = install_newest(cache, python) if newest else ensure_newer(cache, python)
        chromium = ensure_chromium(cache)
    if newest:
        say("  " + ", ".join(f"{name} {version}" for name, version in versions_in(newer).items()))
    return {"HEADFORCING_CHROMIUM": str(chromium), "HEADFORCING_NEWER": str(newer)}


def _become(command: list[str], variables: dict[str, str]) -> int:
    """Run a command in place of this process, so that signals and the exit code are its own."""
    program = shutil.which(command[0], path=variables["PATH"])
    if program is None:
        raise Problem(
            f"There is no command {command[0]}.",
            "It is neither in the environment of dev.py nor on PATH.",
            "Check its spelling, or install it.",
        )
    if sys.platform == "win32":
        return subprocess.run([program, *command[1:]], env=variables, check=False).returncode
    os.execve(program, command, variables)
