#!/usr/bin/env bash
# Runs a command where Swift is: in the chroot of tools/swift_toolchain.sh on Debian, directly on a machine that has its own Swift (a Mac).
#   tools/swift_run.sh FOLDER... -- COMMAND ARGUMENT...
# Each FOLDER is visible inside under its own path; the command starts in the first. /proc and all mounts live and die with
# the command (a mount namespace of its own), so the machine outside never sees them.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"

folders=()
while [ "$#" -gt 0 ] && [ "$1" != "--" ]; do
    folders+=("$(cd "$1" && pwd)")
    shift
done
[ "$#" -gt 1 ] && [ "${#folders[@]}" -gt 0 ] || { echo "usage: swift_run.sh FOLDER... -- COMMAND ARGUMENT..." >&2; exit 2; }
shift

if [ "$(uname -s)" = "Darwin" ]; then
    cd "${folders[0]}"
    exec "$@"
fi
root="$("$here/swift_toolchain.sh" --check)"
export HEARPACK_CHROOT="$root" HEARPACK_FOLDERS="$(printf '%s\n' "${folders[@]}")"
# shellcheck disable=SC2016  # expanded by the inner shell
exec unshare -m bash -c '
    set -e
    mount -t proc proc "$HEARPACK_CHROOT/proc"
    mount --rbind /dev "$HEARPACK_CHROOT/dev"
    first=
    while IFS= read -r folder; do
        mkdir -p "$HEARPACK_CHROOT$folder"
        mount --bind "$folder" "$HEARPACK_CHROOT$folder"
        first="${first:-$folder}"
    done <<<"$HEARPACK_FOLDERS"
    unset HEARPACK_FOLDERS
    export HOME=/home PATH=/usr/libexec/swift/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
    exec chroot "$HEARPACK_CHROOT" /bin/bash -c '\''cd "$0" && exec "$@"'\'' "$first" "$@"
' swift_run "$@"
