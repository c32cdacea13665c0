#!/bin/sh
# One cash sale at the terminal door, with nothing but curl, openssl, coreutils and sed: a whole client.
# usage: sale.sh URL CA_FILE KEY_FILE TERMINAL AUDIENCE [AMOUNT_MINOR [CURRENCY]]
# Prints the box's answer (JSON) and keeps its receipt beside the key. Exit code 0: answered; 1: refused; 2: not known
# yet (ask `status`, or run it again with KEY=<the key it printed> in the environment); 3: called wrongly.
# Format: appliance/docs/formats/terminal-protocol.md
set -eu
if [ $# -lt 5 ]; then
  sed -n 's/^# usage: /usage: /p' "$0" >&2
  exit 3
fi
url=$1 ca=$2 key_file=$3 terminal=$4 audience=$5 amount=${6:-1250} currency=${7:-EUR}

b64() { basenc --base64url -w0 | tr -d '='; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }

uuid7() { # RFC 9562 section 5.7: 48 bits of milliseconds, version 7, variant 10, 74 random bits
  random=$(openssl rand -hex 10)
  a=$(printf '%012x' "$(now_ms)")
  variant=$(printf '%x' $((0x$(echo "$random" | cut -c4) & 3 | 8)))
  echo "$(echo "$a" | cut -c1-8)-$(echo "$a" | cut -c9-12)-7$(echo "$random" | cut -c1-3)-$variant$(echo "$random" | cut -c5-7)-$(echo "$random" | cut -c8-19)"
}

raw_signature() { # DER SEQUENCE { r, s } to r || s, 32 bytes each, in binary
  openssl asn1parse -inform DER | sed -n 's/.*INTEGER *://p' | while read -r number; do
    printf '%64s' "$number" | tr ' ' 0
  done | basenc --base16 -d
}

# The name of the key: SHA-256 of its SubjectPublicKeyInfo.
kid=$(openssl pkey -in "$key_file" -pubout -outform DER | openssl dgst -sha256 -binary | b64)
header=$(printf '{"alg":"ES256","kid":"%s"}' "$kid" | b64)
key=${KEY:-$(uuid7)} # one sale, one key, for ever
sold=${SOLD_AT_MS:-$(now_ms)}
echo "key $key sold_at_ms $sold" >&2

body=$(printf '{"currency":"%s","amount_minor":%s,"tenders":[{"kind":"cash","amount_minor":%s}],"sold_at_ms":%s}' \
  "$currency" "$amount" "$amount" "$sold")
keep_receipt() { # an answer without one ("pending") gets it later, by `status`
  home=$(dirname "$key_file")
  encoded=$(sed -n 's/.*"receipt": *"\([^"]*\)".*/\1/p' "$answer")
  if [ -n "$encoded" ]; then
    echo "$encoded" | basenc --base64 -d > "$home/receipt.cbor"
    echo "check it: tillstone verify receipt $home/receipt.cbor --trust $home/trust.json" >&2
  fi
}

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
offset=0 attempt=0
while [ $attempt -lt 8 ]; do
  attempt=$((attempt + 1))
  claims=$(printf '{"v":1,"verb":"payment","audience":"%s","terminal":"%s","key":"%s","signed_at_ms":%s,"body":%s}' \
    "$audience" "$terminal" "$key" $(($(now_ms) + offset)) "$body" | b64)
  signature=$(printf '%s.%s' "$header" "$claims" | openssl dgst -sha256 -sign "$key_file" | raw_signature | b64)
  status=$(printf '%s.%s.%s' "$header" "$claims" "$signature" | curl -sS --cacert "$ca" --tlsv1.3 --max-time 10 \
    -H 'Content-Type: application/jose' --data-binary @- -o "$answer" -w '%{http_code}' "$url/v1/payment") || status=000
  case $status in
    200 | 202) cat "$answer"; echo; keep_receipt; exit 0 ;; # 202 or "pending": durable, not final yet
    400) # a wrong clock is the only 400 worth another try: take the box's, keep the key
      if ! grep -q '"clock_skew"' "$answer"; then cat "$answer"; echo; exit 1; fi
      offset=$(($(sed -n 's/.*"now_ms": *\([0-9]*\).*/\1/p' "$answer") - $(now_ms))) ;;
    000 | 429 | 5??) sleep 1 ;; # lost or busy: the same key again, never a new one
    *) cat "$answer"; echo; exit 1 ;;
  esac
done
echo "not known yet: run again with KEY=$key SOLD_AT_MS=$sold" >&2
exit 2
