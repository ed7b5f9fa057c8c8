#!/usr/bin/env bash
# Installs the Debian packages that the tests and the demo need, those that are missing only.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

# program and the packages that bring it
needed="cc:gcc,libc6-dev ip:iproute2 ping:iputils-ping nft:nftables iperf3:iperf3 ethtool:ethtool tcpdump:tcpdump ps:procps
        unshare:util-linux nsenter:util-linux script:bsdutils setpriv:util-linux
        dpkg-shlibdeps:dpkg-dev lintian:lintian mmdebstrap:mmdebstrap systemd-analyze:systemd"
# Who tries the package: an ordinary user with subordinate ids, or root, also under systemd.
if ((EUID == 0)); then
    needed+=" systemd-nspawn:systemd-container"
else
    needed+=" newuidmap:uidmap"
fi

missing=()
for entry in $needed; do
    command -v "${entry%%:*}" >/dev/null || { IFS=, read -ra names <<<"${entry#*:}" && missing+=("${names[@]}"); }
done

if ((${#missing[@]})); then
    install="apt-get install -y --no-install-recommends ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "setup: this is not Debian; install what these Debian packages hold: ${missing[*]}" >&2
        exit 1
    elif ((EUID != 0)); then
        printf 'setup: packages are missing. Install them, then run this again:\n  sudo %s\n' "$install" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null
    $install </dev/null
fi

if ((EUID == 0)) && [[ ! -e /dev/net/tun ]]; then
    # A fresh machine has not loaded the module yet; a container may have its node made, where it is let.
    modprobe tun 2>/dev/null || { mkdir -p /dev/net && mknod -m 0666 /dev/net/tun c 10 200; } || true
fi
