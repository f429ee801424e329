"""Pickles written opcode by opcode, zip files byte by byte: what every kind of attack is made of."""

import io
import pickletools
import struct
import zipfile


def text(value):
    """Push a short text (protocol 4)."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"\x8c" + bytes([len(raw)]) + raw if len(raw) < 256 else long_text(value)


def long_text(value):
    """Push a text (any protocol from 1 on)."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value):
    """Push a number of up to eight bytes."""
    return b"\x8a\x08" + struct.pack("<q", value)


def imported(module, name):
    """Push a global (protocols 0 to 3)."""
    return f"c{module}\n{name}\n".encode()


def pushed(value):
    """Push a plain value, a name given as ``Import`` or opcodes given as bytes."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool) or value is None:
        return {True: b"\x88", False: b"\x89", None: b"N"}[value]
    if isinstance(value, int):
        return number(value)
    if isinstance(value, str):
        return long_text(value)
    if isinstance(value, tuple):
        return b"(" + b"".join(map(pushed, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(pushed, value)) + b"e"
    return b"}(" + b"".join(pushed(part) for pair in value.items() for part in pair) + b"u"


def called(module, name, *arguments):
    """Push the result of a call."""
    return imported(module, name) + pushed(tuple(arguments)) + b"R"


def whole(body, protocol=2):
    """Make a pickle of opcodes."""
    return b"\x80" + bytes([protocol]) + body + b"."


def storage(numel=4, key="0", kind=("torch", "FloatStorage")):
    """Push a tensor's memory."""
    persistent = ("storage", imported(*kind), key, "cpu", numel)
    return pushed(persistent) + b"Q"


def tensor(memory=None, offset=0, size=(4,), stride=(1,), *rest):
    """Push a tensor."""
    hooks = rest or (False, called("collections", "OrderedDict"))
    arguments = (memory or storage(), offset, tuple(size), tuple(stride), *hooks)
    return called("torch._utils", "_rebuild_tensor_v2", *arguments)


def torch_zip(pickled, *, data=((0, 16),), more=(), method=zipfile.ZIP_STORED):
    """Return torch's container around a pickle."""
    members = [("a/data.pkl", pickled), ("a/version", b"3\n")]
    members += [(f"a/data/{key}", bytes(size)) for key, size in data]
    return zipped([*members, *more], method=method)


def zipped(members, *, method=zipfile.ZIP_STORED):
    """Return a zip file of (name or ZipInfo, data) pairs, duplicates and all."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def torch_legacy(pickled, *, keys=("0",), data=None):
    """Return torch's old container around a pickle."""
    head = [
        whole(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"),
        whole(number(1001)),
        whole(pushed({"protocol_version": 1001, "little_endian": True})),
    ]
    data = struct.pack("<q", 4) + bytes(16) if data is None else data
    return b"".join([*head, pickled, whole(pushed(list(keys)))]) + data


def ends(data, count=5):
    """Return where each of the pickles of a legacy file ends."""
    stream, found = io.BytesIO(data), []
    for _ in range(count):
        list(pickletools.genops(stream))
        found.append(stream.tell())
    return found


def varint(value):
    """Return a number as protocol buffers write it."""
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def proto(*fields):
    """Return a protocol buffer of (field number, int | str | bytes) pairs."""
    out = b""
    for key, value in fields:
        if isinstance(value, int):
            out += varint(key << 3) + varint(value)
        else:
            raw = value.encode() if isinstance(value, str) else value
            out += varint(key << 3 | 2) + varint(len(raw)) + raw
    return out
