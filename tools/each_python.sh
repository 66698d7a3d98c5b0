#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `make quick` on every Python that pyproject.toml claims and this machine has, each in an
# environment of its own, .venv-VERSION.  The last line says which were run and which could not be;
# the status is 1 when one of them failed or none could be run.
set -eu

runs() {  # PROGRAM VERSION: the name may be a version manager's shim without that version behind it
    "$1" -c 'import sys, venv, ensurepip
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$2" >/dev/null 2>&1
}

find_python() (  # VERSION: print the first that runs, on PATH or kept by pyenv outside of it
    IFS=:
    for folder in $PATH; do
        if runs "$folder/python$1" "$1"; then
            echo "$folder/python$1"
            return
        fi
    done
    IFS='
'
    for candidate in $(pyenv whence --path "python$1" 2>/dev/null); do
        if runs "$candidate" "$1"; then
            echo "$candidate"
            return
        fi
    done
)

ran="" failed="" absent=""
for version in $(sed -n 's/.*"Programming Language :: Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml); do
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        echo "quick: Python $version could not be run: none on PATH that works and has venv"
        absent="$absent $version"
        continue
    fi
    echo "quick: Python $version, $python"
    ran="$ran $version"
    PYTHON=$python make --no-print-directory quick "VENV=.venv-$version" ||
        failed="$failed $version"
done
echo "quick: run on Python${ran:- of no version}; failed on:${failed:- none}; could not be run:${absent:- none}"
[ -n "$ran" ] && [ -z "$failed" ]
