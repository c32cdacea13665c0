// Checks the receipt in this page's fragment, in this browser, and asks nobody.
//
// Owns the checks of docs/formats/slip-link.md and their words. Must never make a request, and never call a slip
// genuine because something could not be checked.
"use strict";

const INFLATED_BYTES_MAX = 65536;
const DEPTH_MAX = 12;
const LABELS = { alg: 1, kid: 4, vds: 395, vdp: 396, log: -70101, size: -70102 };
const ALGORITHMS = {
  "-19": [{ name: "Ed25519" }, { name: "Ed25519" }],
  "-9": [{ name: "ECDSA", namedCurve: "P-256" }, { name: "ECDSA", hash: "SHA-256" }],
  "-51": [{ name: "ECDSA", namedCurve: "P-384" }, { name: "ECDSA", hash: "SHA-384" }],
};

class Wrong extends Error {} // the slip is not what it says
class Damaged extends Wrong {} // nothing can be read from the code
class CannotTell extends Error {} // this browser or this page cannot check it

// --- bytes ---------------------------------------------------------------------------------------------------------

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const same = (one, other) => one instanceof Uint8Array && other instanceof Uint8Array && hex(one) === hex(other);

function joined(...parts) {
  const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}

async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", joined(...parts)));
}

function fromBase64(text) {
  const binary = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

async function inflated(bytes) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const parts = [];
  for (let size = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) return joined(...parts);
    size += value.length;
    if (size > INFLATED_BYTES_MAX) throw new Wrong("The code holds more than a receipt can have.");
    parts.push(value);
  }
}

// --- CBOR: shortest heads, definite lengths, no floats, no key twice --------------------------------------------------

function decode(bytes) {
  const reader = { bytes, at: 0 };
  const value = read(reader, 0);
  if (reader.at !== bytes.length) throw new Wrong("Bytes stand behind the receipt.");
  return value;
}

function take(reader, count) {
  if (reader.at + count > reader.bytes.length) throw new Wrong("The receipt is cut off.");
  reader.at += count;
  return reader.bytes.subarray(reader.at - count, reader.at);
}

function readHead(reader) {
  const [first] = take(reader, 1);
  const [major, short] = [first >> 5, first & 31];
  if (short < 24) return [major, short];
  if (short > 27) throw new Wrong("The receipt is not written as receipts are.");
  const width = 1 << (short - 24);
  const value = take(reader, width).reduce((number, byte) => number * 256 + byte, 0);
  const isShortest = value >= (width === 1 ? 24 : 256 ** (width / 2));
  if (!isShortest || !Number.isSafeInteger(value)) throw new Wrong("The receipt is not written as receipts are.");
  return [major, value];
}

function read(reader, depth) {
  if (depth > DEPTH_MAX) throw new Wrong("The receipt is nested too deep.");
  const [major, value] = readHead(reader);
  switch (major) {
    case 0: return value;
    case 1: return -1 - value;
    case 2: return take(reader, value);
    case 3: return new TextDecoder("utf-8", { fatal: true }).decode(take(reader, value));
    case 4: return Array.from({ length: Math.min(value, reader.bytes.length) }, () => read(reader, depth + 1));
    case 5: return readMap(reader, value, depth);
    case 6: if (value === 18) return read(reader, depth + 1); break; // COSE_Sign1
    case 7: if (value >= 20 && value <= 22) return [false, true, null][value - 20]; break;
  }
  throw new Wrong("The receipt holds something that receipts do not hold.");
}

function readMap(reader, count, depth) {
  const map = new Map();
  for (let index = 0; index < count; index += 1) {
    const key = read(reader, depth + 1);
    if (map.has(key)) throw new Wrong("The receipt says something twice.");
    map.set(key, read(reader, depth + 1));
  }
  return map;
}

// --- the receipt -----------------------------------------------------------------------------------------------------

async function unpack(fragment) {
  if (!/^1\.[A-Za-z0-9_-]+$/.test(fragment)) throw new Damaged("The code is not one of a slip, or a part of it is missing.");
  try {
    const file = decode(await inflated(fromBase64(fragment.slice(2))));
    if (file.get("version") !== 1 || file.get("receipts").length !== 1) throw new Wrong("Another kind of receipt.");
    return { entries: file.get("entries").map(readEntry), receipt: readReceipt(file.get("receipts")[0]) };
  } catch (error) {
    if (error instanceof Wrong) throw error;
    throw new Damaged("It cannot be unpacked: a part of it is missing or was changed.");
  }
}

function readEntry(bytes) {
  const [version, seq, time, kind, actor, body, , , ...more] = decode(bytes);
  if (version !== 1 || more.length) throw new Wrong("Another kind of entry.");
  return { bytes, seq, time, kind, actor, body: decode(body) };
}

function readReceipt(bytes) {
  const [protectedBytes, unprotected, payload, signature] = decode(bytes);
  const header = decode(protectedBytes);
  if (payload !== null || header.get(LABELS.vds) !== 1) throw new Wrong("Another kind of receipt.");
  const proofs = unprotected.get(LABELS.vdp).get(-1).map(decode);
  return { protectedBytes, header, proofs, signature };
}

async function rootOf(leaf, index, size, path) {
  if (!(index >= 0 && index < size)) return null;
  let [at, last, hash] = [index, size - 1, leaf];
  const half = () => { at = Math.floor(at / 2); last = Math.floor(last / 2); };
  for (const node of path) {
    if (last === 0 || !(node instanceof Uint8Array) || node.length !== 32) return null;
    if (at % 2 === 1 || at === last) {
      hash = await sha256(Uint8Array.of(1), node, hash);
      while (at % 2 === 0 && at !== 0) half();
    } else {
      hash = await sha256(Uint8Array.of(1), hash, node);
    }
    half();
  }
  return last === 0 ? hash : null;
}

async function proveEntries({ entries, receipt }) {
  const size = receipt.header.get(LABELS.size);
  if (!entries.length || entries.length !== receipt.proofs.length) throw new Wrong("An entry has no proof.");
  const roots = new Set();
  for (const [number, entry] of entries.entries()) {
    const [proofSize, index, path] = receipt.proofs[number];
    if (proofSize !== size || index !== entry.seq) throw new Wrong("The proof is about another place in the log.");
    const root = await rootOf(await sha256(Uint8Array.of(0), entry.bytes), index, size, path);
    if (root === null) throw new Wrong("The proof does not lead to the log.");
    roots.add(hex(root));
  }
  if (roots.size !== 1) throw new Wrong("What the slip says is not what stands in the log.");
  return Uint8Array.from([...roots][0].match(/../g), (pair) => parseInt(pair, 16));
}

async function proveSignature({ receipt }, root, shop) {
  const [kid, size] = [receipt.header.get(LABELS.kid), receipt.header.get(LABELS.size)];
  const log = shop && shop.logs.find((each) => each.id === hex(receipt.header.get(LABELS.log)));
  if (!shop) throw new CannotTell("This page knows no shop, so nobody here vouches for the key that signed.");
  if (!log) throw new Wrong("It belongs to another shop's log, or to none.");
  const key = log.keys.filter((each) => each.from <= size).pop();
  if (!key || key.kid !== hex(kid) || key.algorithm !== receipt.header.get(LABELS.alg)) throw new Wrong("It was signed by a key that is not the shop's.");
  if (size > key.trustedTo) throw new Wrong("The shop's owner no longer trusts the key that signed it. Ask the shop.");
  const [kind, use] = ALGORITHMS[String(key.algorithm)];
  const text = new TextEncoder().encode("Signature1");
  const lengthOf = (bytes) => (bytes.length < 256 ? Uint8Array.of(0x58, bytes.length) : Uint8Array.of(0x59, bytes.length >> 8, bytes.length & 255));
  const signed = joined(Uint8Array.of(0x84, 0x6a), text, lengthOf(receipt.protectedBytes), receipt.protectedBytes, Uint8Array.of(0x40, 0x58, 32), root);
  let publicKey;
  try {
    publicKey = await crypto.subtle.importKey("spki", fromBase64(key.spki), kind, false, ["verify"]);
  } catch {
    throw new CannotTell(`This browser cannot check signatures of the kind ${kind.name}. A newer one can.`);
  }
  if (!(await crypto.subtle.verify(use, publicKey, receipt.signature, signed))) throw new Wrong("The shop's key did not sign this.");
  return log;
}

// --- what the entries say ----------------------------------------------------------------------------------------------

const STANDINGS = {
  paid: "Paid",
  accepted_offline: "Accepted offline, not yet confirmed",
  checking: "Being checked",
  declined: "Declined",
  declined_after_handover: "Declined by the bank after the goods were handed over",
  not_charged: "Not charged",
  partly_refunded: "Partly refunded",
  refunded: "Refunded",
  reversed: "Reversed",
  cancelled: "Cancelled",
};
const AFTER = {
  offer: { rejected: "declined", absent: "not_charged" },
  authorise: { confirmed: "paid", rejected: "declined", accepted_offline: "accepted_offline", absent: "not_charged" },
  forward: { confirmed: "paid", rejected: "declined_after_handover", absent: "accepted_offline" },
};

const paymentOf = (entry) => (entry.kind === "sale" ? entry.body.get("asked").get("key") : entry.body.get("payment"));

async function meaning(entries) {
  const [first, newest] = [entries[0], entries[entries.length - 1]];
  if (!entries.every((entry) => same(paymentOf(entry), paymentOf(newest)))) throw new Wrong("Its entries are about two different payments.");
  const sale = ["sale", "intent"].includes(first.kind) ? first.body.get("sale") : null;
  return { newest, sale: sale || null, standing: await standingOf(entries, newest) };
}

async function standingOf(entries, newest) {
  switch (newest.kind) {
    case "sale": return "paid";
    case "refund": return newest.body.get("left") ? "partly_refunded" : "refunded";
    case "reversal": return "reversed";
    case "tombstone": return "cancelled";
    case "intent": return newest.body.get("operation").get("kind") === "forward" ? "accepted_offline" : "checking";
    case "reversal_wanted": return "checking";
    case "outcome": break;
    default: throw new Wrong("Its entry is not about a payment.");
  }
  const asked = await Promise.all(entries.filter((entry) => entry.kind === "intent").map((entry) => sha256(entry.bytes)));
  if (!asked.some((hash) => same(newest.body.get("intent"), hash))) throw new Wrong("The bank's answer belongs to another sale.");
  return (AFTER[newest.body.get("kind")] || {})[newest.body.get("state")] || "checking";
}

async function check(fragment, shop) {
  const steps = [];
  const done = (text) => steps.push({ ok: true, text });
  try {
    if (!globalThis.crypto || !crypto.subtle || !globalThis.DecompressionStream) {
      throw new CannotTell("This browser cannot check slips, or the page did not come over https. A newer browser can.");
    }
    const receipt = await unpack(fragment);
    done("The code is whole and readable.");
    const root = await proveEntries(receipt);
    const size = receipt.receipt.header.get(LABELS.size).toLocaleString("en");
    done(`It stands, unchanged, in a log of ${size} entries.`);
    const log = await proveSignature(receipt, root, shop);
    done("The shop's own key signed that log.");
    const said = await meaning(receipt.entries);
    if (receipt.entries.length > 1) done("What happened later belongs to this sale and to no other.");
    return { verdict: "genuine", steps, log, mark: hex(await sha256(said.newest.bytes)), ...said };
  } catch (error) {
    const verdict = error instanceof CannotTell ? "unknown" : "false";
    const text = error instanceof Wrong || error instanceof CannotTell ? error.message : "The receipt is malformed.";
    return { verdict, isDamaged: error instanceof Damaged, steps: [...steps, { ok: false, text }] };
  }
}
