# SPDX-License-Identifier: Apache-2.0
"""The agent with shorter bounds for a runtime that hangs: tests wait for each of them in full.

python -m tests.support.impatient_agent serve --config FILE
"""

from breakglass.core import bounds

bounds.STOP_MARGIN_S = 1.5
bounds.KILL_TIMEOUT_S = 1.5
bounds.RUNTIME_PATIENCE_S = 3.0

if __name__ == "__main__":
    from breakglass.cli.agent import main

    main()
