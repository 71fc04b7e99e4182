"""Find a Chrome or Chromium for the tests of the web view, or install one: `python -m tests.setup_browser`.

Flow: LOWLIGHT_BROWSER -> names on PATH -> macOS's folders -> apt, where we are root on a Debian. The tests
themselves only find; `make test` runs this first, so that it does all of its own set-up.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

VARIABLE = "LOWLIGHT_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


class NoBrowser(Exception):
    """No usable browser; the message says what to install."""


def find_browser() -> Path | None:
    """Return an installed browser; None where there is none.

    Raises:
        NoBrowser: LOWLIGHT_BROWSER names a program that is not there.
    """
    named = os.environ.get(VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise NoBrowser(f"{VARIABLE}={named}: no such program; name an installed Chrome or Chromium.")
        return Path(found)
    for candidate in (*map(shutil.which, NAMES), *PLACES):
        if candidate and Path(candidate).exists():
            return Path(candidate)
    return None


def install() -> None:
    """Install Chromium by apt.

    Raises:
        NoBrowser: not root, no apt, or apt failed.
    """
    remedy = f"install Chromium or Chrome (Debian: apt-get install chromium), or name one in {VARIABLE}."
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise NoBrowser(f"The tests of the web view need a browser: {remedy}")
    print("Installing Chromium for the tests of the web view (once, a minute or two) ...", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "-q", "update"], ["apt-get", "-q", "install", "-y", "chromium"]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise NoBrowser(f"`{' '.join(command)}` failed ({last}); {remedy}")


def main() -> int:
    """Find or install; return the exit status."""
    try:
        if find_browser() is None:
            install()
            if find_browser() is None:
                raise NoBrowser(f"apt installed Chromium, but it is not on PATH; name it in {VARIABLE}.")
    except NoBrowser as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
