#!/bin/bash
# Runs as root in a Debian system that is thrown away: installs, upgrades, removes and purges the packages in /root/packages.
# Under systemd the daemon runs as well.
set -euo pipefail
trap 'echo "FAILED at line $LINENO: $BASH_COMMAND"' ERR
exec </dev/null
export DEBIAN_FRONTEND=noninteractive

old=$(ls /root/packages/old/*.deb) new=$(ls /root/packages/new/*.deb)
configuration=/etc/meshd/meshd.toml
boots() { [ -d /run/systemd/system ]; }

fail() {
    ! boots || journalctl --no-pager --unit meshd --lines 60 --output short-monotonic || true
    echo "FAILED: $*"
    exit 1
}

equal() { [ "$1" = "$2" ] || fail "$3: $1 instead of $2"; }

write_configuration() {
    public=$(meshd key show)
    cat >"$configuration" <<END
[node]
name = "lab.one"
[[endpoint]]
name = "lab.one"
public_key = "$public"
subnets = ["10.50.0.0/24"]
address = "10.99.0.1"
[[endpoint]]
name = "lab.two"
public_key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
address = "10.99.0.2"
[[community]]
name = "lab"
members = ["lab.one", "lab.two"]
END
}

# What is left of the package, other than the test's own files and logs.
remains() {
    find / -xdev \( -path /proc -o -path /sys -o -path /root -o -path /tmp -o -path /var/log \) -prune -o \
        -name '*meshd*' -print | grep -v '^/var/lib/dpkg/info/' || true
    getent passwd meshd || true
    getent group meshd || true
}

installs_and_starts_nothing() {
    said=$(dpkg -i "$old" 2>/dev/null)
    for command in "meshd init --mesh NAME" "meshd join" "systemctl start meshd"; do
        grep -q "$command" <<<"$said" || fail "does not say what is next: $said"
    done
    said=$(! meshd config check 2>&1) || fail "finds a configuration"
    grep -q "meshd init --mesh NAME" <<<"$said" || fail "does not say how to make a configuration: $said"
    equal "$(stat -c '%a %U %G' /etc/meshd)" "750 root meshd" /etc/meshd
    equal "$(stat -c '%a %U %G' /var/lib/meshd)" "700 meshd meshd" /var/lib/meshd
    [ -L /etc/systemd/system/multi-user.target.wants/meshd.service ] || fail "not enabled"
    diff <(dpkg -L meshd | grep -v /man1/meshd-) /root/files || fail "other files than listed"
    dpkg --verify meshd
    meshd --version | grep -qx "meshd .*"
    ! boots || { systemctl start meshd && ! systemctl is-active --quiet meshd; } || fail "runs without a configuration"
}

# As the unit runs it, where there is no systemd to do that.
start_daemon() {
    if boots; then
        systemctl start meshd
    else
        install -d -m 0750 -o meshd -g meshd /run/meshd
        setpriv --reuid=meshd --regid=meshd --init-groups --inh-caps=-all,+net_admin,+net_bind_service \
            --ambient-caps=-all,+net_admin,+net_bind_service --no-new-privs meshd up >/root/daemon.log 2>&1 &
        daemon=$!
    fi
    for _ in $(seq 100); do meshd status >/dev/null 2>&1 && return || sleep 0.1; done
    cat /root/daemon.log 2>/dev/null || true
    fail "the daemon does not start"
}

stop_daemon() {
    if boots; then
        systemctl stop meshd
    else
        kill "$daemon"
        wait "$daemon" || fail "the daemon does not stop well"
    fi
}

# The whole first run, with a umask that closes what root makes to everybody else.
its_daemon_takes_somebody_in() {
    (umask 077 && meshd init --mesh lab --name lab.one --address 192.0.2.1 >/root/init.log)
    equal "$(stat -c '%a %U %G' "$configuration")" "640 root meshd" "$configuration"
    equal "$(stat -c '%a %U %G' /var/lib/meshd/mesh.toml)" "640 meshd meshd" mesh.toml
    equal "$(stat -c '%a %U' /var/lib/meshd/private.key)" "600 meshd" private.key
    equal "$(meshd key show)" "$(sed -n 's/^public_key = "\(.*\)"/\1/p' /var/lib/meshd/mesh.toml | head -1)" "the key"
    runuser -u meshd -- meshd config check >/dev/null || fail "what init made is closed to the daemon"
    start_daemon
    said=$(grep -x "meshd-invite-1:.*" /root/init.log | meshd join --config /root/two)
    grep -q "lab.one has taken it in" <<<"$said" || fail "takes nobody in: $said"
    ! grep -q invited_until /var/lib/meshd/mesh.toml || fail "the mesh file was not changed"
    equal "$(stat -c '%a %U %G' /var/lib/meshd/mesh.toml)" "640 meshd meshd" "mesh.toml after it was changed"
    # Root's invitation leaves it the daemon's, and reaches the one that runs.
    (umask 077 && meshd invite till >/dev/null 2>/root/invite.log)
    ! grep -q "does not" /root/invite.log || fail "the daemon does not know of the invitation: $(cat /root/invite.log)"
    equal "$(stat -c '%a %U %G' /var/lib/meshd/mesh.toml)" "640 meshd meshd" "mesh.toml after an invitation"
    ! boots || reloads_or_says_why_not
    stop_daemon
    rm -r /root/two "$configuration" /var/lib/meshd/*
}

reloads_or_says_why_not() {
    systemctl reload meshd || fail "does not reload"
    cp /var/lib/meshd/mesh.toml /root/mesh.toml
    before=$(meshd status --json | grep -c till || true)
    echo "nonsense = 1" >>/var/lib/meshd/mesh.toml
    ! systemctl reload meshd 2>/dev/null || fail "says nothing of a bad file"
    journalctl --no-pager --unit meshd | grep nonsense >/dev/null || fail "does not say what is wrong"
    systemctl is-active --quiet meshd || fail "stops for a bad file"
    equal "$(meshd status --json | grep -c till || true)" "$before" "what a bad file changed"
    cat /root/mesh.toml >/var/lib/meshd/mesh.toml
    systemctl reload meshd || fail "does not reload a file that was mended"
}

keys_belong_to_the_service() {
    meshd key generate --out /var/lib/meshd/private.key >/dev/null
    equal "$(stat -c '%a %U' /var/lib/meshd/private.key)" "600 meshd" private.key
    write_configuration
    meshd config check >/dev/null
    runuser -u meshd -- meshd config check >/dev/null
    cp "$configuration" /root/good.toml
    cp /var/lib/meshd/private.key /root/key
}

runs_under_systemd() {
    systemctl start meshd
    meshd status >/dev/null
    equal "$(stat -c %U "/proc/$(systemctl show -P MainPID meshd)")" meshd "the process's user"
    equal "$(cat /proc/sys/net/ipv4/ip_forward)" 1 "forwarding"
    equal "$(cat /proc/sys/net/ipv4/ping_group_range | tr '\t' ' ')" "0 2147483647" "users who may ping"
    said=$(systemctl show -P StatusText meshd)
    equal "$said" "0 of 1 peers connected" "the status"
}

comes_back_after_kill_9_and_after_it_hung() {
    mkdir -p /etc/systemd/system/meshd.service.d
    printf '[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n' >/etc/systemd/system/meshd.service.d/soon.conf
    systemctl daemon-reload
    systemctl restart meshd
    for signal in KILL STOP; do
        before=$(systemctl show -P MainPID meshd)
        kill -"$signal" "$before"
        for _ in $(seq 300); do
            now=$(systemctl show -P MainPID meshd)
            [ "$now" != "$before" ] && systemctl is-active --quiet meshd && break
            sleep 0.1
        done
        [ "$now" != "$before" ] && systemctl is-active --quiet meshd || fail "does not come back after SIG$signal"
    done
}

upgrades() {
    dpkg -i "$new" >/dev/null
    equal "$(dpkg-query -W -f '${Version}' meshd)" "$(dpkg-deb -f "$new" Version)" "the version"
    boots || return 0
    systemctl is-active --quiet meshd || fail "does not run after the upgrade"
    from=$(systemctl show -P ActiveExitTimestampMonotonic meshd)
    to=$(systemctl show -P ActiveEnterTimestampMonotonic meshd)
    echo "upgrade: $(((to - from) / 1000)) ms from the stop of the old daemon to the new one ready"
    ((to > from && to - from < 5000000)) || fail "an upgrade interrupts for too long"
}

an_upgrade_leaves_running_what_a_bad_configuration_would_stop() {
    before=$(systemctl show -P MainPID meshd)
    echo "nonsense = 1" >>"$configuration"
    said=$(dpkg -i "$new" 2>&1)
    grep -q "systemctl restart meshd" <<<"$said" || fail "does not say what to do: $said"
    equal "$(systemctl show -P MainPID meshd)" "$before" "the process"
    cp /root/good.toml "$configuration"
}

# `sudo meshd up` beside the service: what it leaves must not close the folder to the service.
runs_by_hand_too() {
    systemctl stop meshd
    meshd up >/root/by-hand.log 2>&1 &
    by_hand=$!
    for _ in $(seq 100); do meshd status >/dev/null 2>&1 && break || sleep 0.1; done
    kill -9 "$by_hand"
    wait "$by_hand" 2>/dev/null || true
    systemctl start meshd || fail "does not start after root's: $(journalctl -u meshd -n 5)"
}

removed_it_leaves_configuration_and_key() {
    dpkg -r meshd >/dev/null 2>&1
    [ -e "$configuration" ] && [ -e /var/lib/meshd/private.key ] || fail "removed too much"
    [ ! -e /usr/bin/meshd ] || fail "the binary is still there"
    ! boots || equal "$(cat /proc/sys/net/ipv4/ip_forward)" 0 "forwarding after the removal"
    dpkg -i "$old" >/dev/null
    ! boots || systemctl is-active --quiet meshd || fail "does not run after it came back"
    dpkg -r meshd >/dev/null 2>&1
}

purged_it_leaves_nothing() {
    for _ in 1 2; do dpkg -P meshd >/dev/null 2>&1; done
    equal "$(remains)" "" "left after the purge"
}

# What `meshd init` made before the package came.
takes_over_what_root_began() {
    install -d -m 0700 /etc/meshd
    (umask 077 && cp /root/key /etc/meshd/private.key && sed '/^name = "lab.one"/{s/$/\nkey_file = "private.key"/;:a;n;ba;}' /root/good.toml >"$configuration")
    dpkg -i "$old" >/dev/null 2>&1
    runuser -u meshd -- meshd config check >/dev/null || fail "what root began is closed to the daemon"
    ! boots || systemctl is-active --quiet meshd || fail "does not start with what root began"
    dpkg -P meshd >/dev/null 2>&1
}

# Key and configuration are there already, from a daemon that root ran by hand.
takes_over_from_root() {
    install -d -m 0700 /etc/meshd /var/lib/meshd
    (umask 077 && cp /root/key /var/lib/meshd/private.key)
    cp /root/good.toml "$configuration"
    dpkg -i "$old" >/dev/null 2>&1
    equal "$(stat -c %U /var/lib/meshd/private.key)" meshd "the key's owner"
    runuser -u meshd -- meshd config check >/dev/null || fail "the configuration is closed to the daemon"
    ! boots || systemctl is-active --quiet meshd || fail "does not start with a configuration that was there"
    dpkg -P meshd >/dev/null 2>&1
}

policy_is_obeyed() {
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    install -d /etc/meshd
    install -d -m 0700 /var/lib/meshd
    (umask 077 && cp /root/key /var/lib/meshd/private.key)
    cp /root/good.toml "$configuration"
    dpkg -i "$new" >/dev/null 2>&1
    ! systemctl is-active --quiet meshd || fail "starts against policy-rc.d"
    dpkg -P meshd >/dev/null 2>&1
    rm /usr/sbin/policy-rc.d
}

if boots; then
    # systemd-nspawn lays a boot id of its own over the kernel's, which services with a /proc of their own do not see; one machine has one.
    umount /proc/sys/kernel/random/boot_id 2>/dev/null || true
fi
ip link add eth0 type veth peer name eth1
ip address add 192.0.2.1/24 dev eth0
ip address add 10.50.0.1/24 dev eth1
for link in lo eth0 eth1; do ip link set "$link" up; done
# A new network namespace has what the machine has.
echo 0 >/proc/sys/net/ipv4/ip_forward
installs_and_starts_nothing
its_daemon_takes_somebody_in
keys_belong_to_the_service
if boots; then
    runs_under_systemd
    comes_back_after_kill_9_and_after_it_hung
    runs_by_hand_too
fi
upgrades
! boots || an_upgrade_leaves_running_what_a_bad_configuration_would_stop
removed_it_leaves_configuration_and_key
purged_it_leaves_nothing
takes_over_what_root_began
takes_over_from_root
! boots || policy_is_obeyed
echo PASSED
