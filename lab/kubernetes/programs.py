# SPDX-License-Identifier: Apache-2.0
"""Build the programs of a Kubernetes cluster from pinned sources, with `build.sh` beside this file.

They are built once, which takes minutes, and kept outside the tree.
"""

import subprocess
from pathlib import Path

from lab import LabUnavailable

BUILD = Path(__file__).resolve().parent / "build.sh"
_LACKING = 69  # what build.sh exits with where it cannot build


def built() -> Path:
    """Return the folder with the programs, built now if they are not there yet.

    Raises:
        LabUnavailable: they cannot be built here.
        subprocess.CalledProcessError: the build failed.
    """
    done = subprocess.run(
        [str(BUILD)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode == _LACKING:
        raise LabUnavailable("the programs of Kubernetes cannot be built here, see above")
    done.check_returncode()
    return Path(done.stdout.strip())
