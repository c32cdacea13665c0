"""What can go wrong at a TPM, named by what the caller must do; never carries a secret."""

from __future__ import annotations


class TpmError(Exception):
    """Base of every error of this driver; never raised itself."""


class TpmAway(TpmError):
    """The TPM did not answer, or the context is dead: close it and open a new one."""


class TpmUnsure(TpmAway):
    """It went away inside a command that changes it: done or not done, only reading tells."""


class TpmBusy(TpmError):
    """The TPM answers but will not do it now (NV rate limit, self-test): the context stays good, try later."""


class TpmPolicyRefused(TpmError):
    """The TPM answers and says no: the platform state, the policy version or the policy's signature is wrong."""


class TpmForeign(TpmError):
    """The TPM holds other objects than the bundle names: another TPM, a cleared one, or a handle in use by others."""


class TpmRefused(TpmError):
    """Any other response code.

    Attributes:
        code: the response code as the TPM gave it.
    """

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(f"{sentence} (response code 0x{code:x})")
        self.code = code
