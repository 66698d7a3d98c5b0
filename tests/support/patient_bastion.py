# SPDX-License-Identifier: Apache-2.0
"""The command line with bounds that a test never reaches: a stopped node stays unanswered.

python -m tests.support.patient_bastion --home HOME run FILE
"""

from breakglass.core import bounds

bounds.CONNECT_TIMEOUT_S = 600.0
bounds.READ_TIMEOUT_S = 600.0

if __name__ == "__main__":
    from breakglass.cli.main import main

    main()
