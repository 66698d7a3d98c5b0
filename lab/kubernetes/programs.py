# SPDX-License-Identifier: Apache-2.0
"""Build the programs of a Kubernetes cluster from pinned sources, with `build.sh` beside this file.

The build takes minutes.  It runs once, and its result is kept outside the repository.
"""

import subprocess
from pathlib import Path

from lab import LabUnavailable

BUILD = Path(__file__).resolve().parent / "build.sh"
_LACKING = 69  # the exit status of build.sh on a machine that lacks something it needs


def built() -> Path:
    """Return the folder with the programs; build them first if they do not exist.

    Raises:
        LabUnavailable: this machine lacks something that the build needs.
        subprocess.CalledProcessError: the build failed.
    """
    done = subprocess.run(
        [str(BUILD)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode == _LACKING:
        raise LabUnavailable("cannot build Kubernetes on this machine, see above")
    done.check_returncode()
    return Path(done.stdout.strip())
