#!/bin/bash
# Installs Debian packages without questions and without starting any service they bring.
# Usage: apt-install.sh PACKAGE...     Needs root; does nothing for packages that are there.
set -euo pipefail

missing=()
for package in "$@"; do
    state="$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)"
    [ "$state" = installed ] || missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    printf 'sealgate: these packages are needed. Run: sudo apt-get install %s\n' "${missing[*]}" >&2
    exit 1
fi

# A directory or SSH server that starts on its standard port would be open to the network and
# in the way of one that is there already; policy-rc.d is how Debian lets an installer say no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi

export DEBIAN_FRONTEND=noninteractive
quiet=(-o Dpkg::Use-Pty=0 -qq)
install() {
    apt-get "${quiet[@]}" install --yes --no-install-recommends "${missing[@]}" >/dev/null
}
# The package lists may be missing (a fresh image) or name versions the mirror has dropped.
install 2>/dev/null || { apt-get "${quiet[@]}" update && install; }
