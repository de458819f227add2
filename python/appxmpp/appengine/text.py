"""Text as the API takes it: characters, or bytes in UTF-8."""

import sys

if sys.version_info[0] >= 3:
    STRING_TYPES = (str, bytes)

    def to_str(value):
        """`value` as `str`: bytes are decoded, anything but bytes is returned as it is."""
        return value.decode("utf-8") if isinstance(value, bytes) else value

else:
    STRING_TYPES = (basestring,)  # noqa: F821

    def to_str(value):
        """`value` as `str`: unicode is encoded, anything else is returned as it is."""
        return value.encode("utf-8") if isinstance(value, unicode) else value  # noqa: F821


def utf8_length(value):
    """How many bytes `value` takes; what is not text is measured by ``len()``."""
    if isinstance(value, bytes) or not hasattr(value, "encode"):
        return len(value)
    return len(value.encode("utf-8"))
