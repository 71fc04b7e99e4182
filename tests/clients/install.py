"""`make clients`: one environment per client package, for the packages exclude one another.

Flow: tests/clients/requirements/NAME.txt -> .venv-clients/NAME. What cannot be installed is told, and the
others are made all the same: its test then says that it was not run.
"""

import hashlib
import subprocess
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "tests" / "clients" / "requirements"
ENVIRONMENTS = ROOT / ".venv-clients"
#: A package index that does not answer must not hold up the whole check.
TIMEOUT_S = 300.0


def environment_of(name: str) -> Path:
    """Return the folder of a client's environment, made or not."""
    return ENVIRONMENTS / name


def is_made(name: str) -> bool:
    """Whether the environment holds what its requirements say now."""
    stamp = environment_of(name) / "made-from"
    return stamp.is_file() and stamp.read_text() == _digest(name)


def _digest(name: str) -> str:
    return hashlib.sha256((REQUIREMENTS / f"{name}.txt").read_bytes()).hexdigest()


def _make(name: str) -> str | None:
    """Make one environment; return what went wrong."""
    folder = environment_of(name)
    venv.create(folder, with_pip=True, clear=True, upgrade_deps=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted = [*install, "-r", str(REQUIREMENTS / f"{name}.txt")]
    try:
        done = subprocess.run(
            [folder / "bin" / "python", *wanted], timeout=TIMEOUT_S, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        return f"not done within {TIMEOUT_S:g} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    (folder / "made-from").write_text(_digest(name))
    return None


def main() -> None:
    """Make every environment that is not made yet."""
    for file in sorted(REQUIREMENTS.glob("*.txt")):
        if not is_made(file.stem):
            print(f"Installing {file.stem} ...", flush=True)
            wrong = _make(file.stem)
            if wrong is not None:
                print(f"{file.stem} could not be installed, its lines are not tested: {wrong}", flush=True)


if __name__ == "__main__":
    main()
