#!/usr/bin/env bash
# ./dev fresh [COMMAND...]: the proof that the two commands work from nothing. Makes a Debian 12 with git and nothing else
# by debootstrap, clones the committed project into it, and runs ./dev test there, or COMMAND. Needs root and debootstrap.
# FRESH=DIR chooses where (default build/fresh); a tree that is there is used again, so remove it for a new proof.
# MIRROR=URL is handed to debootstrap.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=${FRESH:-$PWD/build/fresh}
[ "$(id -u)" = 0 ] || { echo "./dev fresh: needs root, for debootstrap and chroot" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "./dev fresh: needs the package debootstrap" >&2; exit 1; }

if [ ! -x "$root/usr/bin/git" ]; then
  debootstrap --variant=minbase --include=git,ca-certificates bookworm "$root" ${MIRROR:+"$MIRROR"}
fi
# How this machine reaches its registries is no part of the project: the new one gets the same way.
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
  if [ -e "$file" ]; then cp -L "$file" "$root$file"; fi
done
cp /etc/apt/apt.conf.d/99* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true

mounted=()
clean_up() { for ((i = ${#mounted[@]} - 1; i >= 0; i--)); do umount "${mounted[i]}"; done; }
trap clean_up EXIT
put() { mount "$@"; mounted+=("${*: -1}"); }
put -t proc proc "$root/proc"
put -t sysfs -o ro sys "$root/sys"
put -t devpts devpts "$root/dev/pts"
put -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"

rm -rf "$root/srv/bpfsim"
git clone -q --no-hardlinks . "$root/srv/bpfsim"
[ $# -gt 0 ] || set -- ./dev test
SECONDS=0 code=0
# Only what a login gives; no variable of this machine goes in, except where Python finds the certificates.
env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM="${TERM:-dumb}" CI=true \
  PIP_CERT="${PIP_CERT:-}" chroot "$root" bash -c 'cd /srv/bpfsim && exec "$@"' - "$@" </dev/null || code=$?
echo "fresh: \"$*\" ended with $code after $SECONDS s" >&2
exit $code
