"""The wheel and the sdist, built and installed as a stranger does: nothing of this checkout is in reach."""

from __future__ import annotations

import email
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from neumann import __version__

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def must(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the sdist, and the wheel that was built from it."""
    directory = tmp_path_factory.mktemp("dist")
    must(sys.executable, "-m", "build", "--outdir", directory, ROOT, cwd=directory)
    return directory


def wheel_of(built: Path) -> Path:
    return built / f"neumann-{__version__}-py3-none-any.whl"


def test_the_wheel_holds_the_product_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        names = set(wheel.namelist())
        info = f"neumann-{__version__}.dist-info"
        metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "neumann").rglob("*.py")}
    assert {name for name in names if not name.startswith(info)} == {*sources, "neumann/py.typed"}
    assert any(name.startswith(info) and name.endswith("LICENSE") for name in names)
    assert (metadata["Name"], metadata["Version"]) == ("neumann", __version__)
    assert {"server", "cli", "sql", "all"} <= set(metadata.get_all("Provides-Extra", []))


def test_the_sdist_holds_what_a_build_needs(built: Path) -> None:
    with tarfile.open(built / f"neumann-{__version__}.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "neumann/py.typed"} <= names


def test_the_base_is_an_embedded_node(built: Path, tmp_path: Path) -> None:
    must(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    bin_directory = tmp_path / "venv/bin"
    must(bin_directory / "pip", "install", "--quiet", wheel_of(built), cwd=tmp_path)
    assert must(bin_directory / "neumann", "--version", cwd=tmp_path) == f"neumann {__version__}\n"
    example = ROOT / "docs/examples/embedded.py"
    said = must(bin_directory / "python", "-I", example, tmp_path / "data", cwd=tmp_path)
    assert "berlin: 3,426,354 people" in said
    lacking = subprocess.run([bin_directory / "neumann-admin"], capture_output=True, text=True)
    assert lacking.returncode == 1
    assert lacking.stderr == "neumann-admin: click is not installed; pip install 'neumann[cli]'\n"


def test_with_its_extras_it_has_both_programs(built: Path, tmp_path: Path) -> None:
    must(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    bin_directory = tmp_path / "venv/bin"
    must(bin_directory / "pip", "install", "--quiet", f"{wheel_of(built)}[all]", cwd=tmp_path)
    shown = must(bin_directory / "neumann-admin", "--version", cwd=tmp_path)
    assert shown == f"neumann-admin {__version__}\n"
    must(bin_directory / "neumann", "--node-id", "n1", "--data-dir", "d", "--check-config", cwd=tmp_path)
