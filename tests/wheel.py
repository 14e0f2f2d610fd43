"""The wheel as it is shipped, built from what is committed or would be."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def files_of_the_tree() -> list[Path]:
    """List what is committed or would be: tracked files and new ones that are not ignored."""
    git = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    command = [*git, "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


def build(scratch: Path) -> Path:
    """Build the wheel in this directory and return its path; blocks for some seconds.

    From a copy, since building leaves files beside the sources. Nothing is downloaded.
    """
    copy, out = scratch / "source", scratch / "wheel"
    for file in files_of_the_tree():
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        (copy / file).write_bytes((ROOT / file).read_bytes())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    command = [*pip, *offline, "--wheel-dir", str(out), str(copy)]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = out.glob("detachd-*.whl")
    return wheel
