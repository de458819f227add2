"""The runtime's own exception, where Google's SDK is not installed."""


class DeadlineExceededError(BaseException):
    """A request took longer than the runtime allows."""
