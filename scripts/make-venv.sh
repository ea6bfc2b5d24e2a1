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

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed and none was found. On Debian 12: apt-get install python3"
}

# Debian splits ensurepip off into python3.X-venv; without it "python -m venv" cannot add pip.
ensure_ensurepip() {
    local python="$1" package
    "$python" -c 'import ensurepip, venv' 2>/dev/null && return
    package="$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "this Python cannot make virtual environments. Run: sudo apt-get install $package"
    fi
    say "Installing $package (this Python cannot make virtual environments without it)."
    scripts/apt-install.sh "$package"
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python="$(find_python)"
    ensure_ensurepip "$python"
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
