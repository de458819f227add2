"""What a call to a service can fail with, where Google's SDK is not installed."""


class Error(Exception):
    """Base class of the failures of a call."""


class RPCFailedError(Error):
    """The call failed on its way."""


class CallNotFoundError(Error):
    """The service has no such call."""


class ArgumentError(Error):
    """The request was not understood."""


class DeadlineExceededError(Error):
    """No answer came in time."""


class CancelledError(Error):
    """The call was cancelled."""


class ApplicationError(Error):
    """The service refused the call, with a number of its own."""

    def __init__(self, application_error, error_detail=""):
        super(ApplicationError, self).__init__(application_error, error_detail)
        self.application_error = application_error
        self.error_detail = error_detail

    def __str__(self):
        return "ApplicationError: %d %s" % (self.application_error, self.error_detail)


class OverQuotaError(Error):
    """The app has used up a quota."""


class RequestTooLargeError(Error):
    """The request is larger than 1 MiB."""


class ResponseTooLargeError(Error):
    """The response is too large."""


class CapabilityDisabledError(Error):
    """The service is switched off for now."""


class FeatureNotEnabledError(Error):
    """The app may not use this feature."""
