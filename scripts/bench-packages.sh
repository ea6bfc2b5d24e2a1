#!/bin/bash
# Installs the peers that bench/ compares with, and what puts load on them.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/apt-install.sh \
    apache2-bin `# WebDAV by mod_dav` \
    curl \
    openssh-client \
    fuse3 \
    openssh-server `# SFTP` \
    sshfs \
    wrk `# many small requests`
