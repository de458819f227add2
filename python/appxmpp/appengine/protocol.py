"""Messages in the accessor style of App Engine's Python runtime.

A field ``x`` is read by ``m.x()`` and written by ``m.set_x(value)``; a repeated
one has ``x_size()``, ``x_list()``, ``x(i)``, ``add_x(value)``. The wire format
is that of protocol buffers; messages are written, never read.
"""

from appxmpp.appengine.text import utf8_length

_VARINT = 0
_LENGTH_DELIMITED = 2


class Field(object):
    """One field: its number, its kind (str, bool, int or a Message class), its default."""

    def __init__(self, number, name, kind, default=None, repeated=False, required=False):
        self.number = number
        self.name = name
        self.kind = kind
        self.default = default
        self.repeated = repeated
        self.required = required

    @property
    def nested(self):
        """Whether the values are messages themselves."""
        return issubclass(self.kind, Message)


class Message(object):
    """The base of all messages; a subclass names its fields in `FIELDS`."""

    FIELDS = ()

    # Ways to print an enum, kept for code that lists the constants of a class.
    _NUMERIC_ASCII = 0
    _SYMBOLIC_SHORT_ASCII = 1
    _SYMBOLIC_FULL_ASCII = 2

    def __init__(self):
        self._values = {}

    def Clear(self):
        """Forgets every value."""
        self._values = {}

    def MergeFrom(self, other):
        """Takes over the values of `other`; repeated fields are appended."""
        assert other is not self
        for field in self.FIELDS:
            value = other._values.get(field.name)
            if value is None:
                continue
            if field.repeated:
                own = self._values.setdefault(field.name, [])
                own.extend(_copy(item) for item in value)
            else:
                self._values[field.name] = _copy(value)

    def CopyFrom(self, other):
        """Becomes equal to `other`."""
        if other is not self:
            self.Clear()
            self.MergeFrom(other)

    def Equals(self, other):
        """Whether both carry the same values."""
        return type(self) is type(other) and self._set_values() == other._set_values()

    def __eq__(self, other):
        return self.Equals(other)

    def __ne__(self, other):
        return not self.Equals(other)

    __hash__ = None

    def _set_values(self):
        return {name: value for name, value in self._values.items() if value != []}

    def IsInitialized(self, debug_strs=None):
        """Whether the required fields are set; what is missing is added to `debug_strs`."""
        missing = [f.name for f in self.FIELDS if f.required and f.name not in self._values]
        if debug_strs is not None:
            debug_strs.extend("Required field: %s not set." % name for name in missing)
        return not missing

    def Encode(self):
        """The message in the wire format, as bytes."""
        wire = bytearray()
        for field in self.FIELDS:
            for item in _items(field, self._values.get(field.name)):
                _append(wire, field, item)
        return bytes(wire)

    SerializeToString = SerializePartialToString = Encode

    def ByteSize(self):
        """The length of the wire format, in bytes."""
        return sum(
            _size(field, item)
            for field in self.FIELDS
            for item in _items(field, self._values.get(field.name))
        )

    def __str__(self, prefix=""):
        text = ""
        for field in self.FIELDS:
            for item in _items(field, self._values.get(field.name)):
                text += prefix + _line(field, item, prefix)
        return text


def message(cls):
    """Class decorator: gives a message its accessors, field by field."""
    for field in cls.FIELDS:
        accessors = _repeated(field) if field.repeated else _singular(field)
        for name, accessor in accessors.items():
            accessor.__name__ = name
            setattr(cls, name, accessor)
    return cls


def _singular(field):
    name = field.name

    def get(self):
        if field.nested:
            return self._values.setdefault(name, field.kind())
        return self._values.get(name, field.default)

    def put(self, value):
        self._values[name] = value

    def clear(self):
        self._values.pop(name, None)

    def has(self):
        return name in self._values

    return {name: get, "set_" + name: put, "clear_" + name: clear, "has_" + name: has}


def _repeated(field):
    name = field.name

    def values(self):
        return self._values.setdefault(name, [])

    def size(self):
        return len(values(self))

    def item(self, index):
        return values(self)[index]

    def put(self, index, value):
        values(self)[index] = value

    def add(self, value):
        values(self).append(value)

    def add_nested(self):
        values(self).append(field.kind())
        return values(self)[-1]

    def clear(self):
        self._values.pop(name, None)

    accessors = {name: item, name + "_list": values, name + "_size": size, "clear_" + name: clear}
    if field.nested:
        accessors.update({"add_" + name: add_nested, "mutable_" + name: item})
    else:
        accessors.update({"add_" + name: add, "set_" + name: put})
    return accessors


def _items(field, value):
    if value is None:
        return []
    return value if field.repeated else [value]


def _size(field, value):
    tag = _varint_size(field.number << 3)
    if not field.nested and field.kind is not str:
        return tag + _varint_size(int(value))
    length = value.ByteSize() if field.nested else utf8_length(value)
    return tag + _varint_size(length) + length


def _varint_size(value):
    wire = bytearray()
    _append_varint(wire, value)
    return len(wire)


def _copy(value):
    if not isinstance(value, Message):
        return value
    copy = type(value)()
    copy.CopyFrom(value)
    return copy


def _append(wire, field, value):
    if field.nested or field.kind is str:
        data = value.Encode() if field.nested else _utf8(value)
        _append_varint(wire, field.number << 3 | _LENGTH_DELIMITED)
        _append_varint(wire, len(data))
        wire.extend(data)
    else:
        _append_varint(wire, field.number << 3 | _VARINT)
        _append_varint(wire, int(value))


def _append_varint(wire, value):
    # Negative numbers take the 64 bits of their two's complement.
    value &= (1 << 64) - 1
    while value > 0x7F:
        wire.append(value & 0x7F | 0x80)
        value >>= 7
    wire.append(value)


def _utf8(value):
    return value if isinstance(value, bytes) else value.encode("utf-8")


_ESCAPES = {10: "\\n", 13: "\\r", 9: "\\t", 34: '\\"', 39: "\\'", 92: "\\\\"}


def _line(field, value, prefix):
    if field.nested:
        return "%s <\n%s%s>\n" % (field.name, value.__str__(prefix + "  "), prefix)
    if field.kind is bool:
        return "%s: %s\n" % (field.name, "true" if value else "false")
    if field.kind is str:
        value = '"%s"' % "".join(_escaped(byte) for byte in bytearray(_utf8(value)))
    return "%s: %s\n" % (field.name, value)


def _escaped(byte):
    if byte in _ESCAPES:
        return _ESCAPES[byte]
    return chr(byte) if 32 <= byte < 127 else "\\%03o" % byte
