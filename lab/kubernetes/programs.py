# SPDX-License-Identifier: Apache-2.0
"""The programs of a Kubernetes: what `tests/kubernetes/build.sh` builds from pinned sources.

They are built once and kept outside the tree; building takes minutes.
"""

import subprocess
from pathlib import Path

from lab import LabUnavailable

BUILD = Path(__file__).resolve().parents[2] / "tests/kubernetes/build.sh"
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
