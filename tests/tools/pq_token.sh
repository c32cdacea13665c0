#!/bin/bash
# Runs a command beside an opencryptoki token that has ML-DSA (CKM_ML_DSA), which SoftHSM has not.
#
#   tests/tools/pq_token.sh ROOT COMMAND...
#
# ROOT is made once by mmdebstrap (Debian sid: older releases carry no opencryptoki with ML-DSA). The library needs that
# release's C library, so COMMAND runs inside ROOT, in mount, process and IPC namespaces of its own, with this project and
# its Python bound in at their own paths. The token lives in memory and dies with the command, as do all mounts.
# Needs root, for mmdebstrap and the mounts.
set -euo pipefail

readonly LABEL=pqtoken
LIBRARY=/usr/lib/$(uname -m)-linux-gnu/opencryptoki/libopencryptoki.so.0
readonly LIBRARY
readonly MAKERS_SO_PIN=87654321 # what every fresh opencryptoki token begins with; changed at once

main() {
  local root=$1
  shift
  [[ $(id -u) == 0 ]] || { echo "pq_token: needs root: mmdebstrap and mounts"; exit 1; }
  [[ -e $root/.complete ]] || make_root "$root"
  exec unshare --mount --pid --ipc --fork -- "$0" --inside "$(realpath "$root")" "$@"
}

make_root() {
  local mirror
  command -v mmdebstrap > /dev/null || { echo "pq_token: needs the Debian package mmdebstrap"; exit 1; }
  # The machine's own mirror; the security archive has no sid.
  mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | sort -u | sed -n 1p)
  echo "pq_token: making $1 once (about a minute, 200 MB)"
  rm -rf "$1"
  mkdir -p "$(dirname "$1")"
  # A mirror that stands still has an expired release file; the packages are verified by their signatures all the same.
  mmdebstrap --quiet --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' \
    --include=opencryptoki,libopencryptoki0,openssl,python3 sid "$1" "$mirror"
  touch "$1/.complete"
}

inside() {
  local root=$1 pin so_pin
  shift
  bind_world "$root"
  prepare_token_store "$root"
  chroot "$root" pkcsslotd
  pin=$(new_pin) so_pin=$(new_pin)
  in_root() { chroot --groups=pkcs11 "$root" "$@"; }
  printf '%s\n%s\n' "$MAKERS_SO_PIN" "$LABEL" | in_root pkcsconf -I -c 3 > /dev/null
  in_root pkcsconf -P -c 3 -S "$MAKERS_SO_PIN" -n "$so_pin" > /dev/null
  in_root pkcsconf -u -c 3 -S "$so_pin" -n "$pin" > /dev/null
  chroot --groups=pkcs11 "$root" env -C "$PWD" HOME=/tmp PYTHONDONTWRITEBYTECODE=1 \
    PQ_TOKEN_LIBRARY="$LIBRARY" PQ_TOKEN_LABEL="$LABEL" PQ_TOKEN_PIN="$pin" "$@"
}

bind_world() {
  local root=$1 base device path
  base=$("$PWD/.venv/bin/python" -c 'import sys; print(sys.base_prefix)')
  mount -t proc proc "$root/proc"
  mkdir -p "$root/dev/shm"
  for path in dev/shm tmp run; do mount -t tmpfs tmpfs "$root/$path"; done
  for device in null zero random urandom; do
    [[ -e $root/dev/$device ]] || touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  bind "$PWD" "$root"
  if [[ $base == /usr ]]; then
    # Debian's own Python: another version than the root's, so it stands beside it.
    local version
    version=$("$PWD/.venv/bin/python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    touch "$root/usr/bin/$version"
    mount --bind "/usr/bin/$version" "$root/usr/bin/$version"
    bind "/usr/lib/$version" "$root"
  else
    bind "$base" "$root"
  fi
}

bind() {
  mkdir -p "$2$1"
  mount --bind "$1" "$2$1"
}

# What the package's init scripts do on a booted machine, with only the software token left.
prepare_token_store() {
  local root=$1
  mount -t tmpfs tmpfs "$root/var/lib/opencryptoki"
  mkdir -p "$root/run/lock/opencryptoki/swtok" "$root/var/lib/opencryptoki/swtok/TOK_OBJ" "$root/run/opencryptoki"
  printf 'version opencryptoki-3.27\nslot 3\n{\n    stdll = libpkcs11_sw.so\n    tokversion = 3.12\n}\n' \
    > "$root/etc/opencryptoki/opencryptoki.conf"
  chroot "$root" chown -R root:pkcs11 /run/lock/opencryptoki /var/lib/opencryptoki
  chroot "$root" chown pkcsslotd:pkcs11 /run/opencryptoki
  chroot "$root" chmod -R 770 /run/lock/opencryptoki /var/lib/opencryptoki
  chroot "$root" chmod 710 /run/opencryptoki
}

new_pin() { od -An -N4 -tx4 /dev/urandom | tr -d ' \n'; } # 8 characters are the most opencryptoki takes

if [[ ${1:-} == --inside ]]; then
  shift
  inside "$@"
else
  main "$@"
fi
