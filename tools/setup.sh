#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make .venv from requirements/dev.lock: every package by hash, then this tree itself, editable and
# built without isolation, so that nothing unhashed is fetched.  `make setup` calls it.
#
#   tools/setup.sh STAMP      the file that says "done"; $PYTHON chooses the interpreter
set -eu
stamp=$1

usable() {  # a name on PATH may be a version manager's shim without that version behind it
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-} python3.11 /usr/bin/python3.11 python3 /usr/bin/python3 \
        python3.12 python3.13; do
        if usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

python=$(find_python)
if [ -z "$python" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # Debian's python3 comes without venv's pip.
    echo "setup: no Python >= 3.11 with venv found; installing Debian's python3-venv"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    python=$(find_python)
fi
if [ -z "$python" ]; then
    echo "setup: expected Python >= 3.11 with its venv module (Debian: apt install python3-venv), found none" >&2
    exit 2
fi

[ -x .venv/bin/python ] && usable .venv/bin/python || "$python" -m venv --clear .venv
pip() { .venv/bin/python -m pip --quiet --disable-pip-version-check --no-input "$@"; }
echo "setup: installing what requirements/dev.lock names into .venv"
pip install --require-hashes -r requirements/dev.lock
pip install --no-deps --no-build-isolation --editable .
# Compiled once here: the programs start four times as fast, also where nobody may write later.
.venv/bin/python -m compileall -q breakglass .venv/lib >/dev/null || true
touch "$stamp"
