#!/usr/bin/env bash
# Swift on a Debian machine: a minimal trixie in a folder of the user's cache, with swiftlang in it (about 5 minutes, 3.3 GB, once).
# Prints the folder. Needs root (chroot); the mirror is read from this machine's own apt sources. A stamp says that it is whole.
set -euo pipefail

release=trixie
packages=(swiftlang libc6-dev libstdc++-14-dev)
# The stamp is a recipe number: raise it when the lines above change.
recipe="1 $release ${packages[*]}"
folder="${HEARPACK_SWIFT:-${HEARPACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hearpack}/swift-$release}"
stamp="$folder/.hearpack-stamp"

fail() { echo "swift toolchain: $*" >&2; exit 1; }

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$recipe" ]; then
    echo "$folder"
    exit 0
fi
[ "${1:-}" != "--check" ] || fail "not installed in $folder; run: make swift-toolchain"
[ "$(uname -s)-$(uname -m)" = "Linux-x86_64" ] || fail "expected Linux on x86-64, got $(uname -sm); use the platform's own Swift 6"
[ "$(id -u)" = 0 ] || fail "a chroot needs root; run: sudo make swift-toolchain"

# One builder at a time; the others wait and then find the stamp.
mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
flock 9
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$recipe" ]; then
    echo "$folder"
    exit 0
fi

mirror() {
    # deb822 first, then the one-line format; only a mirror that carries Debian itself.
    {
        cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs:[[:space:]]*//p' | tr ' ' '\n'
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | sed -n 's/^deb[[:space:]]\{1,\}\(\[[^]]*\][[:space:]]*\)\{0,1\}\([^ ]*\).*/\2/p'
    } | grep '/debian/\{0,1\}$' | head -n 1
}
source_url=$(mirror || true)
[ -n "$source_url" ] || fail "no Debian mirror in this machine's apt sources"

if ! command -v debootstrap >/dev/null; then
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >&2
fi

building="$folder.building"
in_chroot() { unshare -m bash -c 'mount -t proc proc "$0/proc"; exec chroot "$0" "$@"' "$building" "$@"; }
rm -rf --one-file-system "$building"
echo "swift toolchain: installing ${packages[0]} from $release into $folder (once, about 5 minutes, 3.3 GB)" >&2
# In a mount namespace of its own: what debootstrap mounts inside cannot outlive it.
unshare -m debootstrap --variant=minbase "$release" "$building" "$source_url" >"$folder.log" 2>&1 || fail "debootstrap failed; its end: $(tail -n 3 "$folder.log")"
# The machine's own apt settings (a proxy, a CA) hold inside, too.
cp -L /etc/resolv.conf "$building/etc/resolv.conf" 2>/dev/null || true
printf 'force-unsafe-io\n' >"$building/etc/dpkg/dpkg.cfg.d/hearpack"
printf 'path-exclude /usr/share/doc/*\npath-exclude /usr/share/man/*\npath-exclude /usr/share/locale/*\n' >>"$building/etc/dpkg/dpkg.cfg.d/hearpack"
in_chroot /usr/bin/env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >>"$folder.log" 2>&1 || fail "apt failed; its end: $(tail -n 3 "$folder.log")"
rm -rf "$building"/var/cache/apt/archives/*.deb "$building"/var/lib/apt/lists/*
in_chroot /usr/bin/swift --version >>"$folder.log" 2>&1 || fail "swift does not start; see $folder.log"
printf '%s' "$recipe" >"$building/.hearpack-stamp"
rm -rf --one-file-system "$folder"
mv "$building" "$folder"
echo "$folder"
