#!/bin/bash
# Installs the programs that the tests run: real clients, a directory server, systemd's checker.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    cadaver        # WebDAV, by commands
    curl           # WebDAV, one request at a time
    davfs2         # WebDAV, mounted
    dbus-daemon    # the session bus that GNOME's file access talks over
    fuse3          # lets sshfs and davfs2 mount
    git            # a workload for mounts
    gvfs-backends  # WebDAV as GNOME Files speaks it
    ldap-utils     # fills and asks the test directory
    lftp           # SFTP, mirrors trees
    libglib2.0-bin # gio, GNOME's file access by commands
    litmus         # the WebDAV conformance suite
    mount          # loop mounts and small file systems in tests/crash
    openssh-client # sftp, scp, ssh-keygen
    openssh-server # the peer of bench/
    openssl        # a client that offers what it is told to
    postgresql     # the other catalog
    procps         # pgrep, for scripts
    putty-tools    # psftp, the SFTP of PuTTY and WinSCP
    rclone         # WebDAV, syncs trees
    e2fsprogs      # makes the file system that loses its power in tests/crash
    slapd          # the directory for the LDAP tests
    sshfs          # SFTP, mounted
    strace         # makes system calls fail in tests/crash
    systemd        # systemd-analyze, which checks systemd/sealgate.service
)
scripts/apt-install.sh "${packages[@]}"

# Containers often lack the device node although the kernel has FUSE.
if [ ! -e /dev/fuse ] && [ "$(id -u)" -eq 0 ]; then
    mknod -m 666 /dev/fuse c 10 229 || true
fi
