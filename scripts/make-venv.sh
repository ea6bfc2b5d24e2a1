#!/bin/bash
# Makes .venv with the project in it (editable), at the versions of requirements/constraints.txt.
# Usage: make-venv.sh [EXTRA]     EXTRA is an optional dependency group of pyproject.toml: "test" or "bench".
set -euo pipefail
cd "$(dirname "$0")/.."
extra="${1:-}"
venv=.venv
constraints=requirements/constraints.txt

say() { printf '%s\n' "$*"; }
fail() { printf 'sealgate: %s\n' "$*" >&2; exit 1; }

# Debian splits ensurepip off into python3.X-venv; without it "python -m venv" cannot add pip.
makes_venvs() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
venv_package() { "$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'; }

install_ensurepip() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
    say "Installing $(venv_package "$1") ($1 cannot make virtual environments without it)."
    scripts/apt-install.sh "$(venv_package "$1")" && makes_venvs "$1"
}

# The distribution's own Python comes first: it is kept up to date with the system, and built with
# optimisations that one built from source by default is not (requests take a fifth longer there).
find_python() {
    local candidate found=
    for candidate in ${PYTHON:-} /usr/bin/python3.11 python3.11 python3.12 python3.13 python3.14 python3; do
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        found="${found:-$candidate}"
        if makes_venvs "$candidate" || install_ensurepip "$candidate" >&2; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    if [ -z "$found" ]; then
        fail "Python 3.11 or newer is needed and none was found. On Debian 12: apt-get install python3"
    fi
    fail "$found cannot make virtual environments. Run: sudo apt-get install $(venv_package "$found")"
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python="$(find_python)"
    say "Making $venv with $("$python" --version)."
    "$python" -m venv --clear "$venv"
fi

# Everything below stays inside the virtual environment, whatever the caller's pip settings say.
# As variables the constraints also bind the tools that build wheels (wsgidav ships none): pip
# up to 25.2 reads the first name for those, later ones the second.
export PIP_CONSTRAINT="$constraints" PIP_BUILD_CONSTRAINT="$constraints"
export PIP_REQUIRE_VIRTUALENV=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
unset PIP_USER PIP_TARGET PIP_PREFIX

say "Installing Sealgate${extra:+ with what its ${extra}s need} into $venv."
"$venv/bin/python" -m pip --quiet install --editable ".${extra:+[$extra]}"
