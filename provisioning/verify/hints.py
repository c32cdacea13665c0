"""What a fault usually means, in plain words, for a person who holds a receipt. Owns the wording only."""

from __future__ import annotations

from appliance.ledger.trust import Trust
from provisioning.verify.outline import claimed_signatures
from provisioning.verify.wording import short

_CHANGED = (
    "An entry, its path or the signature was changed after signing (one byte is enough), or they are not of one log:"
    " what this file adds up to is not what the key signed."
)
_LOG_HINTS = {
    "entry_malformed": "This entry was changed: these bytes could not have been written by a box.",
    "entry_out_of_order": "An entry is missing here, was repeated, or stands in another place.",
    "entry_changed": "The entries on both sides of this one agree with each other: this one was changed later.",
    "chain_broken": "The entry before this one was changed, or entries were cut out or put in here.",
    "tile_mismatch": "One of the 256 entries that end here was changed after it was recorded.",
    "body_malformed": "The body of this entry is not in the one allowed form.",
    "genesis_wrong": "The log begins with a statement that the pinned owner did not sign: "
    "another owner's log, or its first entry was changed.",
    "export_malformed": "These bytes are no exported log: another kind of file, or one damaged or changed.",
    "export_truncated": "The file was cut short.",
    "export_log_unknown": "The trust file vouches for other logs than this one.",
    "export_head_mismatch": "Entries are missing or were changed: the signed head is about other entries than these.",
    "table_mismatch": "The log is right; a table that the box made of it was changed. Remove it: it is made anew.",
    "head_mismatch": "The folder's own head is not what its entries add up to: something was changed or lost.",
}
_CHECKPOINT_HINTS = {
    "checkpoint_malformed": "These bytes are no checkpoint: another kind of file, or one damaged or cut short.",
    "checkpoint_origin_unknown": "The checkpoint is of a log that the trust file does not name.",
    "checkpoint_signature_missing": "A checkpoint needs a signature by each of the log's two keys.",
    "checkpoint_signature_wrong": "The text or the signature was changed afterwards.",
    "cosignature_wrong": "A line that bears a known witness's name was not made by that witness.",
    "log_key_distrusted": "Show what others saw in time: an evidence bundle may hold it.",
    "tlog_proof_malformed": "These bytes are no proof: another kind of file, or one damaged or cut short.",
    "tlog_proof_wrong": "Entry or path were changed, or the proof is of another entry, another size or another log.",
    "entry_body_malformed": "It is in the log; this verifier cannot say what it means. A newer one may.",
}
_HINTS = {
    "receipt_entry_malformed": "The entry was changed: these bytes could not have been written by a box.",
    "receipt_index_mismatch": "The proof belongs to another entry of the log.",
    "receipt_proof_wrong": "The path was changed, or it belongs to another entry, another size or another log.",
    "receipt_size_mismatch": "Proof and signatures are about different sizes of the log: the file was put together.",
    "receipt_log_mismatch": "The two signatures come from different logs: the file was put together.",
    "log_key_distrusted": "The owner says that somebody else may have signed with this key. Ask whoever gave you the"
    " receipt for an evidence bundle with witnesses or a block from before that time: tillstone verify bundle.",
    "receipt_disclosure_wrong": "A disclosed value is not the one that was recorded.",
    "outcome_of_another_intent": "The outcome answers another intent: the entries do not belong together. Of a PayPal"
    " or PIN pad payment an older box left out the intent: ask for the receipt again.",
    "entry_body_malformed": "It is in the log; this verifier cannot say what it means. A newer one may.",
    "second_opinion_differs": "Two implementations of ML-DSA-87 disagree. Report this: one of them is broken.",
}


def receipt_hint(code: str, file: bytes, trust: Trust) -> str:
    """What `code` means for this receipt file."""
    if code == "receipt_log_unknown":
        logs = ", ".join(f"{statement.origin} ({short(log_id)})" for log_id, statement in trust.logs.items())
        return (
            f"This receipt is from a log that the pinned owner did not vouch for: another shop's, or newer than the"
            f" trust file. It vouches for: {logs or 'no log at all'}."
        )
    if code.endswith(("_receipt_missing", "_receipt_repeated")) or code == "receipt_key_unknown":
        return (
            f"The file carries: {'; '.join(map(str, claimed_signatures(file))) or 'no readable signature'}."
            " A receipt needs exactly one by each of the log's two keys: without the post-quantum one a quantum"
            " computer could have made it, with another key anybody could have."
        )
    if code.endswith("_receipt_wrong"):
        return _CHANGED
    if code.startswith(("cbor_", "cose_")) or code == "receipt_malformed":
        return "These bytes are no receipt: another kind of file, or one damaged or changed."
    return _HINTS.get(code, "")


def log_hint(code: str) -> str:
    """What `code` means for a whole log. Nothing behind the first bad entry is proven."""
    if code.endswith(("_head_wrong", "_head_missing")):
        return "The head was signed with another key, or something was changed after signing."
    return _LOG_HINTS.get(code, "")


def checkpoint_hint(code: str) -> str:
    """What `code` means for a checkpoint or a proof under one."""
    return _CHECKPOINT_HINTS.get(code, "")


def trust_hint(code: str) -> str:
    """What `code` means for a trust file."""
    if code.startswith(("classical_signature", "post_quantum_signature", "signature_key", "owner_signature")):
        return "The keys of the log were signed by another owner than the one this file pins, or they were changed."
    return (
        "The trust file is damaged, or it is another kind of file. Get it again, and compare the owner's fingerprint."
    )
