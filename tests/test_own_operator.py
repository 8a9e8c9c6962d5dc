"""The example package with an operator of its own, installed and used through the command line, in every framework."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "own_operator"
FRAMEWORKS = {"torch": "torch", "keras": "keras", "jax": "flax"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The package in a folder of its own, on the path of what is run."""
    pytest.importorskip("setuptools", reason="setuptools builds the example package")
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "own_operator"
    # a build leaves files beside what it builds
    shutil.copytree(EXAMPLE, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    command = [*pip, "--no-build-isolation", "--no-index", "--target", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "src")])}


def call(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "instep", *words]
    return subprocess.run(command, env=environment, cwd=EXAMPLE, capture_output=True, text=True, check=False)


def instep(environment: dict[str, str], *words: str) -> str:
    done = call(environment, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_without_the_package_the_text_says_what_it_misses() -> None:
    done = call(os.environ | {"PYTHONPATH": str(ROOT / "src")}, "show", "snake.yaml")
    assert done.returncode == 2
    assert "snake.yaml:13" in done.stderr and "snake" in done.stderr


def test_a_text_with_the_operator_becomes_a_file_in_step(environment: dict[str, str], tmp_path: Path) -> None:
    assert "in step" in instep(environment, "convert", "snake.yaml", "-o", str(tmp_path / "snake.tflite"))
    instep(environment, "export", "snake.yaml", "-o", str(tmp_path / "again.yaml"))
    assert "Snake: {alpha: alpha}" in (tmp_path / "again.yaml").read_text("utf-8")


def test_a_captured_network_has_the_operator(environment: dict[str, str], tmp_path: Path) -> None:
    said = instep(
        environment, "convert", "network.py:Network", "--input", "1,3,16,16", "-o", str(tmp_path / "network.tflite")
    )
    assert "in step" in said and "1 Snake" in said


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_framework_has_the_operator(environment: dict[str, str], framework: str, tmp_path: Path) -> None:
    pytest.importorskip(FRAMEWORKS[framework], reason=f"{FRAMEWORKS[framework]} is not installed")
    out = tmp_path / f"snake_{framework}.py"
    assert "in step" in instep(environment, "port", "snake.yaml", "--to", framework, "-o", str(out))
    assert "sin(" in out.read_text("utf-8")


def test_a_field_out_of_range_is_an_error_with_its_line(environment: dict[str, str], tmp_path: Path) -> None:
    text = tmp_path / "bad.yaml"
    text.write_text((EXAMPLE / "snake.yaml").read_text("utf-8").replace("0.5 + i", "0.0 - i"), "utf-8")
    done = call(environment, "show", str(text))
    assert done.returncode == 2
    assert "alpha above 0" in done.stderr and "bad.yaml:13" in done.stderr
