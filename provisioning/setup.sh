#!/usr/bin/env bash
# Makes this checkout runnable: Debian packages, .venv, locked packages, the project itself. Safe to repeat and to interrupt.
#
# - Says one line per step; details go to build/setup.log, whose tail is shown when a step fails.
# - Installs only what a probe found missing, so it needs no root where nothing is missing.
# - `setup.sh all` also brings the outside world that tests and `make evidence` start: PostgreSQL, Node.js with npm, and
#   Chromium, tpm2-tools. A shop does without them.
# - `setup.sh image` brings what `make image` starts, `setup.sh machine` also QEMU and its firmware, `setup.sh rig` also the
#   router of the rig's LAN.
# - Names no package index: apt and pip use the machine's own configuration.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
LOG=build/setup.log
STAMP=.venv/.tillstone-setup
SCOPE=${1:-shop}
STEPS=5
step_number=0

main() {
  local began=$EPOCHREALTIME
  mkdir -p build
  wait_for_other_setup
  require_python
  local missing fingerprint
  fingerprint=$(fingerprint)
  missing=$(missing_packages)
  if [ -z "$missing" ] && is_current "$fingerprint"; then
    echo "set-up is current ($(seconds_since "$began"))"
    return
  fi
  : >"$LOG"
  echo "setting up Tillstone with Python $(python_version); details in $LOG"
  install_debian_packages "$missing"
  step "virtual environment" make_venv
  step "build tools" install_locked build
  # The TPM binding exists as source only: compiling it is most of this step.
  step "Python packages, one compiled here (about a minute)" install_locked dev --no-build-isolation
  step "tillstone and a first import" install_project
  echo "$fingerprint" >"$STAMP"
  echo "ready after $(seconds_since "$began")"
}

wait_for_other_setup() {
  exec 9>build/setup.lock
  flock --nonblock 9 && return
  echo "another set-up of this checkout is running; waiting for it"
  flock 9
}

require_python() {
  command -v "$PYTHON" >/dev/null || give_up "no $PYTHON here" "install python3, or name one: make setup PYTHON=/path/to/python3"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    give_up "$PYTHON is $(python_version), Python 3.11 or newer is needed" "name another one: make setup PYTHON=/path/to/python3"
  case $(python_version) in
    3.11 | 3.13) ;;
    *) echo "note: the lock is tried with Python 3.11 and 3.13; this is $(python_version)" ;;
  esac
}

python_version() { "$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# --- what is there already ---------------------------------------------------------------------------------------------

# Everything whose change makes the environment stale. The folder belongs to it: a venv holds absolute paths.
fingerprint() {
  { cat requirements/*.txt pyproject.toml provisioning/setup.sh; "$PYTHON" -c 'import sys; print(sys.version, sys.base_prefix)'; pwd; } |
    sha256sum | cut -d ' ' -f 1
}

is_current() {
  [ -f "$STAMP" ] && [ "$(<"$STAMP")" = "$1" ] && .venv/bin/python -c '' 2>/dev/null && [ -x .venv/bin/tillstone ] && [ -x .venv/bin/pytest ]
}

# Probes for the thing itself, not for a package: what was installed another way counts.
missing_packages() {
  has_program softhsm2-util || echo softhsm2
  has_program swtpm || echo swtpm
  has_program swtpm_setup || echo swtpm-tools
  has_program gcc || echo gcc
  has_program pkg-config || echo pkg-config
  has_program curl || echo curl
  has_program openssl || echo openssl
  [ -e /usr/include/stdlib.h ] || echo libc6-dev
  [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  # The development package brings every TCTI (the way to a TPM), whose own package names differ between Debian 12 and 13.
  pkg-config --exists tss2-esys tss2-tcti-swtpm tss2-tcti-device 2>/dev/null || echo libtss2-dev
  "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  "$PYTHON" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || echo python3-dev
  case $SCOPE in
    all) missing_outside ;;
    image) missing_image ;;
    machine) missing_image && missing_machine ;;
    rig) missing_image && missing_machine && missing_lan ;;
  esac
}

# The package's name since Debian 13, and before it. apt's own lists may be empty on a fresh machine.
since_debian_13() {
  local version
  version=$(. /etc/os-release 2>/dev/null && echo "${VERSION_ID:-13}")
  if [ "${version%%.*}" -ge 13 ]; then echo "$1"; else echo "$2"; fi
}

missing_outside() {
  has_postgres || echo postgresql
  has_program node || echo nodejs
  has_program npm || echo npm
  has_program chromium || echo chromium
  # Quotes of ours are checked with the tools of others.
  has_program tpm2_checkquote || echo tpm2-tools
  # Definitions of the image are checked with the tools that read them on the box.
  [ -x /usr/sbin/nft ] || has_program nft || echo nftables
  [ -x /usr/sbin/cryptsetup ] || has_program cryptsetup || echo cryptsetup-bin
  [ -x /usr/sbin/ip ] || has_program ip || echo iproute2
  has_program systemd-analyze || echo systemd
  # Both are parts of systemd in Debian 12, packages of their own in Debian 13.
  # Makes the disks that updates are tried on.
  has_program systemd-repart || since_debian_13 systemd-repart systemd
  has_program systemd-cryptenroll || since_debian_13 systemd-cryptsetup systemd
}

# All other tools of the image run in a tree of their own; uidmap lets a user who is not root make one.
missing_image() {
  has_program mmdebstrap || echo mmdebstrap
  has_program newuidmap || echo uidmap
}

missing_machine() {
  has_program qemu-system-x86_64 || echo qemu-system-x86
  has_program qemu-img || echo qemu-utils
  [ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || echo ovmf
}

missing_lan() {
  has_program ip || [ -x /usr/sbin/ip ] || echo iproute2
  has_program dnsmasq || [ -x /usr/sbin/dnsmasq ] || echo dnsmasq-base
}

has_program() { command -v "$1" >/dev/null; }

# Debian keeps the server's programs off PATH, one folder per version.
has_postgres() { has_program initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

# --- the steps ---------------------------------------------------------------------------------------------------------

install_debian_packages() {
  local packages
  packages=$(echo $1) # one line
  if [ -z "$packages" ]; then
    step "Debian packages: nothing missing" true
    return
  fi
  local line="apt-get update && apt-get install -y --no-install-recommends $packages"
  has_program apt-get || give_up "missing: $packages" "these are Debian's names; install the same things your system's way, then run make setup again"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    { has_program sudo && sudo -n true 2>/dev/null; } ||
      give_up "missing Debian packages, and this user may not install them: $packages" "run this as root, then make setup again:" "  $line"
    as_root=(sudo -n)
  fi
  step "Debian packages: $packages" apt_install $packages
  [ -z "$(missing_packages)" ] || give_up "still missing after the installation: $(echo $(missing_packages))" "see $LOG"
}

# The lists are fetched only when the ones on the machine do not lead to the packages.
apt_install() {
  apt_get install "$@" || { apt_get update && apt_get install "$@"; }
}

apt_get() {
  local verb=$1 flags=()
  shift
  [ "$verb" = install ] && flags=(-y --no-install-recommends)
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$verb" "${flags[@]}" "$@"
}

# An environment of another Python, or one whose Python is gone, cannot be mended: it is made anew.
make_venv() {
  local is='import sys; print(sys.version, sys.base_prefix)'
  if [ "$(.venv/bin/python -c "$is" 2>/dev/null)" = "$("$PYTHON" -c "$is")" ] && .venv/bin/python -m pip --version; then
    return
  fi
  rm -rf .venv
  "$PYTHON" -m venv .venv
}

install_locked() {
  local name=$1
  shift
  .venv/bin/python -m pip install --require-hashes "$@" -r "requirements/$name.txt"
}

# setuptools-scm, there for the TPM binding, asks git for our files too, and git refuses root in somebody else's checkout.
# An editable install needs no such list.
install_project() {
  export SETUPTOOLS_SCM_IGNORE_DUBIOUS_OWNER=1
  .venv/bin/python -m pip install --no-deps --no-build-isolation -e .
  .venv/bin/python -c 'import cryptography, msgspec, pkcs11, tpm2_pytss, uvloop; import appliance, drivers, provisioning'
}

# --- telling -----------------------------------------------------------------------------------------------------------

# Runs one step in the background, so that a person at a screen sees the seconds pass. Its own process group (set -m)
# lets Ctrl-C end the step with everything it started.
step() {
  local title=$1 began=$EPOCHREALTIME label
  shift
  step_number=$((step_number + 1))
  label="[$step_number/$STEPS] $title"
  printf '\n=== %s\n' "$label" >>"$LOG"
  printf '%s' "$label"
  set -m
  (set -e; "$@") </dev/null >>"$LOG" 2>&1 9>&- &
  set +m
  local job=$!
  trap 'kill -- -"$job" 2>/dev/null; echo; exit 130' INT TERM
  while [ -t 1 ] && kill -0 "$job" 2>/dev/null; do
    printf '\r\033[K%s  %s' "$label" "$(seconds_since "$began")"
    sleep 0.2
  done
  if ! wait "$job"; then
    printf '  FAILED after %s\n' "$(seconds_since "$began")"
    explain_failure
  fi
  trap - INT TERM
  [ -t 1 ] && printf '\r\033[K%s' "$label"
  printf '  %s\n' "$(seconds_since "$began")"
}

explain_failure() {
  echo "the last lines of $LOG:"
  tail -n 20 "$LOG" | sed 's/^/  | /'
  give_up "set-up stopped; what succeeded is kept" \
    "if a download failed: check the network, the apt sources and 'python3 -m pip config list', then run make setup again" \
    "if .venv looks broken: rm -rf .venv, then run make setup again"
}

give_up() {
  printf 'setup: %s\n' "$1" >&2
  shift
  printf '  %s\n' "$@" >&2
  exit 1
}

seconds_since() {
  local us=$((${EPOCHREALTIME/[.,]/} - ${1/[.,]/}))
  printf '%d.%d s' $((us / 1000000)) $((us % 1000000 / 100000))
}

main
