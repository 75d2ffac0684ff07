"""The errors a person may meet. Every message says what was wrong, where, and what to do."""


class SRPUError(Exception):
    """Base of all errors whose message is written for a person and may be shown to one."""


class WeightsUnavailable(SRPUError):
    """Pre-trained weights were asked for and could not be had."""


class UnsupportedModel(SRPUError):
    """An encoder × decoder combination that does not work; the message lists the ones that do."""


class UnknownVersion(SRPUError):
    """A model version that is not in the registry."""


class BrokenModel(SRPUError):
    """A model folder that is incomplete or does not agree with its card."""
