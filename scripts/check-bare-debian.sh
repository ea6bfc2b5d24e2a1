#!/bin/bash
# Runs "make demo" and "make test" on a bare Debian 12 (python3.11 and make, nothing else), in a
# chroot that debootstrap makes from this machine's own mirror. Needs root, Debian and a network.
# Usage: check-bare-debian.sh [FOLDER]     FOLDER is kept and reused; without it, a temporary one.
set -euo pipefail
cd "$(dirname "$0")/.."
project="$PWD"

[ "$(id -u)" -eq 0 ] || { echo "sealgate: this check needs root (chroot and mounts)." >&2; exit 1; }
scripts/apt-install.sh debootstrap

keep="${1:-}"
root="${keep:-$(mktemp -d)}"
mkdir -p "$root"
# As the root folder of any system: tests that act as another account must get through it.
chmod 755 "$root"
mounts=(proc sys dev)

cleanup() {
    local index
    [ -z "${demo_pid:-}" ] || kill $(pgrep --parent "$demo_pid") 2>/dev/null || true
    for ((index = ${#mounts[@]} - 1; index >= 0; index--)); do
        umount --recursive --lazy "$root/${mounts[index]}" 2>/dev/null || true
    done
    # A mount that would not go must not be deleted through.
    if [ -z "$keep" ] && ! grep -q " $root/" /proc/self/mounts; then
        rm -rf --one-file-system "$root"
    fi
}
trap cleanup EXIT

if [ ! -x "$root/usr/bin/python3.11" ]; then
    mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
        grep -E '/debian/?$' | sort -u | head -n 1)"
    debootstrap --variant=minbase --include=python3.11,make bookworm "$root" "$mirror" >"$root.log"
    rm -f "$root.log"
fi

# The chroot reaches the network the way this machine does, and by nothing written in the project.
cp /etc/resolv.conf "$root/etc/resolv.conf"
settings=(PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8)
while IFS='=' read -r name value; do
    case "$name" in
        PIP_CERT | SSL_CERT_FILE | REQUESTS_CA_BUNDLE)
            # Not at its own path: Debian's ca-certificates would write its own bundle there.
            install -D -m 644 "$value" "$root/root/$name.pem"
            settings+=("$name=/root/$name.pem")
            ;;
        PIP_INDEX_URL | PIP_EXTRA_INDEX_URL | PIP_TRUSTED_HOST | *_proxy | *_PROXY)
            settings+=("$name=$value")
            ;;
    esac
done < <(env)

for mount in "${mounts[@]}"; do
    mountpoint --quiet "$root/$mount" || {
        mount --rbind "/$mount" "$root/$mount"
        mount --make-rslave "$root/$mount"
    }
done

tree="$root/root/sealgate"
rm -rf "$tree"
mkdir -p "$tree"
git ls-files --cached --others --exclude-standard -z |
    tar --create --null --files-from - --ignore-failed-read | tar --extract --directory "$tree"

inside() { chroot "$root" env -i "${settings[@]}" bash -c "cd /root/sealgate && $*"; }
seconds() { printf '%s: %d s\n' "$1" "$((SECONDS - started))"; }

demo_until_ready() {
    started=$SECONDS
    rm -f "$tree/demo/demo.json"
    inside exec make demo >"$root/demo.log" 2>&1 &
    demo_pid=$!
    while [ ! -e "$tree/demo/demo.json" ]; do
        kill -0 "$demo_pid" 2>/dev/null || { cat "$root/demo.log"; return 1; }
        [ $((SECONDS - started)) -lt 600 ] || { cat "$root/demo.log"; return 1; }
        sleep 0.2
    done
    seconds "$1"
    # The one child of the background shell is make, which hands SIGTERM on to the gateway.
    kill -TERM "$(pgrep --parent "$demo_pid")"
    wait "$demo_pid" || true
    demo_pid=
}

demo_until_ready "make demo, first time"
demo_until_ready "make demo, second time"
started=$SECONDS
inside make test
seconds "make test"
