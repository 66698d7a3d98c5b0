#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make an environment from a lock file: `make demo` and `make setup` call it.
#
#   tools/setup.sh cli [FOLDER]   what the demo and a bastion need: requirements/cli.lock, no build
#   tools/setup.sh dev [FOLDER]   all of it: requirements/dev.lock, and this tree itself, editable
#
# FOLDER is .venv unless told otherwise; FOLDER/ready-cli and FOLDER/ready say which of the two is
# done.  $PYTHON chooses the interpreter of a new environment.
#
# A lock is complete, so pip resolves nothing (--no-deps).  With its resolver, pip also looks at
# releases that are newer than the lock, and fails: an extra such as coverage[toml] is not in a lock
# under that name.  Every package is checked by hash, and only wheels are taken: to build a source
# package pip would fetch its build tools without a hash.  This tree is built without isolation,
# by the setuptools of the lock, for the same reason.
set -eu
kind=${1:-}
folder=${2:-.venv}
case $kind in
cli | dev) ;;
*)
    echo "usage: tools/setup.sh cli|dev [FOLDER]" >&2
    exit 2
    ;;
esac

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

pip() { "$folder/bin/python" -m pip --quiet --disable-pip-version-check --no-input "$@"; }

if ! [ -x "$folder/bin/python" ] || ! usable "$folder/bin/python"; then
    python=$(find_python)
    if [ -z "$python" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        # Debian's python3 comes without venv's pip.
        echo "setup: no Python >= 3.11 with venv found; installing Debian's python3-venv"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
        python=$(find_python)
    fi
    if [ -z "$python" ]; then
        echo "setup: no Python >= 3.11 with its venv module found; install one" \
            "(Debian: apt install python3-venv)" >&2
        exit 2
    fi
    "$python" -m venv --clear "$folder"
fi

echo "setup: installing what requirements/$kind.lock names into $folder"
pip install --no-deps --require-hashes --only-binary :all: -r "requirements/$kind.lock"
if [ "$kind" = dev ]; then
    pip install --no-deps --no-build-isolation --editable .
fi
# Compiled once here: the programs start four times as fast, also where nobody may write later.
"$folder/bin/python" -m compileall -q breakglass "$folder/lib" >/dev/null || true
touch "$folder/ready-cli"
if [ "$kind" = dev ]; then
    touch "$folder/ready"
fi
