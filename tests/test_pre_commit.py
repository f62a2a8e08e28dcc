"""The hooks for pre-commit: the manifest is valid, and the hook finds a fault at a commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("pre_commit", reason="pre-commit is not installed")

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ROOT / ".pre-commit-hooks.yaml"


def run(*command: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    home = {"PRE_COMMIT_HOME": str(folder / ".cache"), "PATH": path}
    nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **home, **nobody},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_manifest_is_valid() -> None:
    done = run(sys.executable, "-m", "pre_commit", "validate-manifest", str(MANIFEST))
    assert done.returncode == 0, done.stdout


def test_the_hook_finds_a_fault(tmp_path: Path) -> None:
    for part in ("ontology", "shapes"):
        shutil.copytree(ROOT / part, tmp_path / part)
    # As the manifest says it, but in this environment: an environment of its own needs a network.
    (hook,) = yaml.safe_load(MANIFEST.read_text("utf-8"))
    local = {"repos": [{"repo": "local", "hooks": [{**hook, "language": "unsupported"}]}]}
    (tmp_path / ".pre-commit-config.yaml").write_text(yaml.safe_dump(local))
    assert run("git", "init", "--quiet", folder=tmp_path).returncode == 0
    rule = next((tmp_path / "shapes" / "trials").glob("*/inclusion/I07a-*[!s].ttl"))
    broken = rule.read_text("utf-8")
    assert "sarc:atLeast" in broken
    rule.write_text(broken.replace("sarc:atLeast", "sarc:atLest"), "utf-8")
    for number, (staged, status) in enumerate((("README.md", 0), (".", 1))):
        (tmp_path / "README.md").write_text(f"rules, {number}\n")
        run("git", "add", staged, folder=tmp_path)
        done = run(sys.executable, "-m", "pre_commit", "run", folder=tmp_path)
        assert done.returncode == status, done.stdout + done.stderr
    assert "atLest" in done.stdout
