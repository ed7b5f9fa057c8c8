#!/usr/bin/env bash
# Makes the Debian package from a binary that is built: packaging/build.sh BINARY PAGES OUT
#   PAGES  folder with the manual pages and completions
#   OUT    folder for the package; its name is the last line of the output
# VERSION and DEBFULLNAME, DEBEMAIL (the maintainer) may be set. The same commit and binary make the same bytes.
set -euo pipefail
umask 022
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
binary=$(realpath "$1") pages=$(realpath "$2")
mkdir -p "$3"
out=$(realpath "$3")

cd "$root"
: "${VERSION:=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)}"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.lock)}"
export SOURCE_DATE_EPOCH
maintainer="${DEBFULLNAME:-meshd maintainers} <${DEBEMAIL:-maintainers@meshd.example}>"
architecture=$(dpkg --print-architecture)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
doc=$tree/usr/share/doc/meshd

stage_programs() {
    install -D -m 0755 "$binary" "$tree/usr/bin/meshd"
    strip --strip-all --remove-section=.comment --remove-section=.note "$tree/usr/bin/meshd"
    install -D -m 0644 "$here/meshd.service" "$tree/usr/lib/systemd/system/meshd.service"
    install -D -m 0644 "$here/60-meshd.conf" "$tree/usr/lib/sysctl.d/60-meshd.conf"
}

stage_pages() {
    for page in "$pages"/*.[15]; do
        install -D -m 0644 "$page" "$tree/usr/share/man/man${page##*.}/${page##*/}"
    done
    install -D -m 0644 "$pages/meshd.bash" "$tree/usr/share/bash-completion/completions/meshd"
    install -D -m 0644 "$pages/_meshd" "$tree/usr/share/zsh/vendor-completions/_meshd"
    install -D -m 0644 "$pages/meshd.fish" "$tree/usr/share/fish/vendor_completions.d/meshd.fish"
    install -D -m 0644 -t "$tree/usr/share/meshd/completions" "$pages/meshd.elv" "$pages/meshd.ps1"
}

# Debian's form of a changelog: that of this version names the one that people read.
debian_changelog() {
    printf 'meshd (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- %s  %s\n' \
        "$VERSION" "$maintainer" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
}

third_party() {
    echo "Crates in this binary, with their licences"
    cargo tree --locked --package meshd --edges normal --prefix none --format '{p}: {l}' |
        sed 's/ (\*)$//; / (\//d; s/ (proc-macro)//' | LC_ALL=C sort -u
}

stage_docs() {
    install -D -m 0644 "$here/copyright" "$doc/copyright"
    install -D -m 0644 -t "$doc" README.md CHANGELOG.md
    install -D -m 0644 -t "$doc/examples" config/examples/*.toml
    debian_changelog >"$doc/changelog"
    third_party >"$doc/THIRD-PARTY"
    gzip -9n "$doc/changelog" "$doc/CHANGELOG.md" "$doc/THIRD-PARTY" "$tree"/usr/share/man/man?/*
}

# What the binary needs of the system, by the symbols that it uses.
dependencies() {
    mkdir -p "$work/source/debian"
    printf 'Source: meshd\n\nPackage: meshd\nArchitecture: any\n' >"$work/source/debian/control"
    (cd "$work/source" && dpkg-shlibdeps -O "$tree/usr/bin/meshd") | sed -n 's/^shlibs:Depends=//p'
}

stage_control() {
    install -D -m 0755 -t "$tree/DEBIAN" "$here"/scripts/*
    local depends size
    depends=$(dependencies)
    size=$(du -sk --apparent-size --exclude=DEBIAN "$tree" | cut -f1)
    sed "s/@VERSION@/$VERSION/; s/@ARCHITECTURE@/$architecture/; s/@MAINTAINER@/$maintainer/; s/@SIZE@/$size/
         s/@DEPENDS@/$depends/" "$here/control.in" >"$tree/DEBIAN/control"
    (cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
    chmod 0644 "$tree/DEBIAN/control" "$tree/DEBIAN/md5sums"
}

stage_programs
stage_pages
stage_docs
stage_control
dpkg-deb --root-owner-group -Zxz --build "$tree" "$out" >/dev/null
echo "binary: $(stat -c %s "$tree/usr/bin/meshd") bytes stripped; $(sed -n '/^Depends/p' "$tree/DEBIAN/control")"
echo "$out/meshd_${VERSION}_$architecture.deb"
