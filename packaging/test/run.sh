#!/usr/bin/env bash
# Holds the package against what it promises: packaging/test/run.sh BINARY PAGES OUT
# OUT keeps the packages and, between runs, the Debian system that they are tried in; that comes from the mirror that apt of this
# machine uses. Works as root, in a container too, and as a user who has subordinate user ids. LARGEST is in bytes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
packaging=$(dirname "$here")
binary=$1 pages=$2
mkdir -p "$3"
out=$(realpath "$3")
: "${LARGEST:=10000000}"

say() { echo "package: $*"; }

fail() {
    say "$@" >&2
    exit 1
}

# In a user namespace whose users are this user's and its subordinates, unless this is root.
namespace=()
mode=root
if ((EUID != 0)); then
    namespace=(unshare --user --map-auto --map-root-user)
    mode=unshare
    "${namespace[@]}" true 2>/dev/null ||
        fail "needs subordinate user ids: sudo apt-get install uidmap, sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER"
fi

build_packages() {
    "$packaging/build.sh" "$binary" "$pages" "$out/old"
    version=$(dpkg-deb -f "$out"/old/*.deb Version)
    VERSION=$version+next "$packaging/build.sh" "$binary" "$pages" "$out/new" >/dev/null
}

is_the_same_twice() {
    "$packaging/build.sh" "$binary" "$pages" "$out/again" >/dev/null
    cmp "$out"/old/*.deb "$out"/again/*.deb || fail "two builds differ"
}

is_small() {
    local size
    size=$(dpkg-deb --fsys-tarfile "$out"/old/*.deb | tar -xO ./usr/bin/meshd | wc -c)
    ((size < LARGEST)) || fail "the binary has $size bytes, more than $LARGEST"
}

is_clean() {
    lintian --allow-root --fail-on error,warning "$out"/old/*.deb 2>&1 || fail "lintian finds fault"
    systemd-analyze security --offline=true --threshold=25 "$packaging/meshd.service" | tail -1
}

make_system() {
    local codename tar
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    tar=$out/system-$codename.tar
    if [[ ! -e $tar ]]; then
        say "making a Debian $codename system to try it in"
        mmdebstrap --quiet --mode="$mode" --format=tar --variant=minbase --include=adduser,dbus,iproute2,systemd,systemd-sysv "$codename" \
            "$tar.new"
        mv "$tar.new" "$tar"
    fi
    remove_system
    "${namespace[@]}" bash -euc '
        mkdir -p "$0/root/packages"
        tar -C "$0" --exclude "./dev/*" -xf "$1"
        cp -r "$2/old" "$2/new" "$0/root/packages"
        cp "$3/steps.sh" "$3/files" "$0/root"' "$out/system" "$tar" "$out" "$here"
}

remove_system() { "${namespace[@]}" rm -rf "$out/system"; }

# Without a running systemd, as in a container or an image that is being built.
passes_in_a_chroot() {
    make_system
    "${namespace[@]}" unshare --mount --net --pid --fork --kill-child bash -euc '
        mount --rbind /dev "$0/dev"
        mount -t proc proc "$0/proc"
        PATH=/usr/sbin:/usr/bin:/sbin:/bin exec chroot "$0" /bin/bash /root/steps.sh' "$out/system" || fail "failed in a chroot"
}

# With systemd as its first process, where this machine can do that.
passes_under_systemd() {
    if ((EUID != 0)) || ! command -v systemd-nspawn >/dev/null; then
        say "NOT TRIED under systemd: that needs root and systemd-nspawn (package systemd-container)"
        return
    fi
    make_system
    cat >"$out/system/etc/systemd/system/steps.service" <<'END'
[Unit]
Wants=multi-user.target
[Service]
Type=oneshot
ExecStartPre=/bin/touch /root/booted
ExecStart=/bin/sh -c "bash /root/steps.sh >/root/result 2>&1"
ExecStopPost=/bin/systemctl --no-block poweroff
TimeoutStartSec=180
END
    local options=(--quiet --directory "$out/system" --private-network --bind=/dev/net/tun --machine="meshd-test-$$")
    [[ -d /run/systemd/system ]] || options+=(--register=no --keep-unit)
    timeout 240 systemd-nspawn "${options[@]}" --boot -- --unit=steps.service </dev/null >"$out/boot.log" 2>&1 || true
    if [[ ! -e $out/system/root/booted ]]; then
        say "NOT TRIED under systemd: it does not start here (see $out/boot.log)"
        return
    fi
    grep -v Killed "$out/system/root/result"
    [[ $(tail -1 "$out/system/root/result") == PASSED ]] || fail "failed under systemd"
}

rm -rf "$out/old" "$out/new" "$out/again"
build_packages
is_the_same_twice
is_small
is_clean
passes_in_a_chroot
passes_under_systemd
remove_system
say "good"
