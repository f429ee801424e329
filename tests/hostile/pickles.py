"""Tricks of opcodes: calls hidden from a reader that is not the unpickler, and bombs."""

import pickle
import struct

from opcodes import (
    called,
    imported,
    long_text,
    number,
    pushed,
    storage,
    tensor,
    text,
    whole,
)


def tricks(canary):
    """Return name -> pickle; each would reach the canary, or something that it must not."""
    command = f"touch {canary.file}"
    end = text(command) + b"\x85R."
    late = long_text(command) + b"\x85R."
    ordered = called("collections", "OrderedDict")
    array = called(
        "numpy._core.multiarray", "_reconstruct", imported("numpy", "ndarray"), (0,), "b"
    )
    dtype = called("numpy", "dtype", "f4", False, True)
    tuples = b")" + b"2\x86" * 40  # each holds the last one twice
    deep = b")q\x00" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1])
                                for i in range(60))  # fmt: skip
    return {
        "stack global": b"\x80\x04" + text("os") + text("system") + b"\x93" + end,
        "names from the memo": b"\x80\x04" + text("os") + b"\x940" + text("system")
        + b"\x940h\x00h\x01\x93" + end,
        "names under popped ones": b"\x80\x04" + text("os") + text("system") + text("collections")
        + text("OrderedDict") + b"00\x93" + end,
        "memo overwritten": b"\x80\x04" + text("collections") + b"q\x050" + text("os")
        + b"q\x050h\x05" + text("system") + b"\x93" + end,
        "memo by three opcodes": b"\x80\x04" + text("os") + b"r\x05\0\0\x000" + text("system")
        + b"\x940j\x05\0\0\0h\x01\x93" + end,
        "name on a tuple": b"\x80\x04)" + text("system") + b"\x93" + end,
        "name of bytes": b"\x80\x04C\x02osC\x06system\x93" + end,
        "name of a number": b"\x80\x04" + number(1) + text("system") + b"\x93" + end,
        "inst": b"\x80\x02(" + long_text(command) + b"ios\nsystem\n.",
        "inst in protocol 0": f"(S'{command}'\nios\nsystem\n.".encode(),
        "reduce in protocol 0": f"cos\nsystem\n(S'{command}'\ntR.".encode(),
        "reduce in protocol 0, unicode": f"cposix\nsystem\n(V{command}\ntR.".encode(),
        "reduce in protocol 1": b"cos\nsystem\n(" + long_text(command) + b"tR.",
        "obj": b"\x80\x02(cos\nsystem\n" + long_text(command) + b"o.",
        "obj of an allowed class": b"\x80\x02(ccollections\nOrderedDict\no.",
        "ext": b"\x80\x02\x82\x01" + late,
        "ext of four bytes": b"\x80\x02\x84\x01\0\0\0" + late,
        "newobj": b"\x80\x02cos\nsystem\n" + long_text(command) + b"\x85\x81.",
        "newobj_ex": b"\x80\x04cos\nsystem\n" + text(command) + b"\x85}\x92.",
        "newobj of a function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)\x81.",
        "persistent text": b"\x80\x02Pos.system\n.",
        "persistent tuple": b"\x80\x02" + pushed(("storage", imported("os", "system"), "0", "cpu", 1))
        + b"Q.",
        "persistent, not a storage": b"\x80\x02" + pushed(("module", "os", "system")) + b"Q.",
        "escaped name": b"\x80\x02ccollections\nOrdered\\x44ict\n" + late,
        "name with a carriage return": b"\x80\x02ccollections\r\nOrderedDict\r\n)R.",
        "name with a blank": b"\x80\x02ccollections OrderedDict\n\n)R.",
        "name with a null": b"\x80\x02ccollections\nOrderedDict\x00\n)R.",
        "look-alike letters": b"\x80\x04" + text("c\u043ellections") + text("OrderedDict") + b"\x93)R.",
        "dotted name": b"\x80\x04" + text("torch") + text("os.system") + b"\x93" + end,
        "dotted allowed name": b"\x80\x04" + text("collections") + text("OrderedDict.fromkeys")
        + b"\x93" + end,
        "allowed name in the wrong module": b"\x80\x02cos\nOrderedDict\n)R.",
        "module imported for its effect": b"\x80\x02cantigravity\nx\n.",
        "data called": b"\x80\x02ctorch\nfloat32\n)R.",
        "result called": b"\x80\x02" + ordered + b")R.",
        "codec": whole(called("_codecs", "encode", "x", "zip")),
        "codec from a number": whole(called("_codecs", "encode", 1, "latin1")),
        "codec without a name": whole(called("_codecs", "encode", "x")),
        "state of a device": whole(called("torch", "device", "cpu") + b"}b"),
        "state of a tensor": whole(tensor() + b"}b"),
        "state of a class": whole(imported("argparse", "Namespace") + pushed((None, {"a": 1})) + b"b"),
        "state of a function": whole(imported("_codecs", "encode") + b"}b"),
        "slots of a dictionary": whole(ordered + pushed((None, {"items": imported("torch", "device")}))
                                       + b"b"),
        "state is a call": whole(ordered + called("os", "system", command) + b"b"),
        "device of a tuple": whole(called("torch", "device", ("cpu",))),
        "size of texts": whole(called("torch", "Size", ("a",))),
        "layout of anything": whole(called("torch.serialization", "_get_layout", "os.system")),
        "parameter of anything": whole(called("torch._utils", "_rebuild_parameter", "a", True, ordered)),
        "dictionary of odd pairs": whole(called("collections", "OrderedDict", [("a",)])),
        "dictionary of a call": whole(called("collections", "OrderedDict", imported("os", "system"))),
        "hooks": whole(tensor(None, 0, (4,), (1,), False, called("collections", "OrderedDict",
                                                              [("a", imported("torch", "device"))]))),
        "hooks added later": b"\x80\x02" + ordered + b"q\x010" + tensor(None, 0, (4,), (1,), False, b"h\x01")
        + b"0h\x01" + pushed("a") + imported("torch", "device") + b"s.",
        "hooks that are no dictionary": whole(tensor(None, 0, (4,), (1,), False, imported("torch", "device"))),
        "metadata": whole(tensor(None, 0, (4,), (1,), False, ordered, {"conj": True})),
        "array of another class": whole(called("numpy._core.multiarray", "_reconstruct",
                                               imported("argparse", "Namespace"), (0,), "b")),
        "array of all memory": whole(called("numpy._core.multiarray", "_reconstruct",
                                            imported("numpy", "ndarray"), (2**40,), "b")),
        "array made directly": whole(called("numpy", "ndarray", (2**40,))),
        "array of objects": whole(array + pushed((1, (1,), called("numpy", "dtype", "O8", False, True),
                                                  False, [imported("os", "system")])) + b"b"),
        "array with an odd state": whole(array + pushed({"a": 1}) + b"b"),
        "array of odd data": whole(array + pushed((1, (1,), dtype, False, imported("torch", "device")))
                                   + b"b"),
        "type with metadata": whole(dtype + pushed((3, "<", None, ("a",), {"a": 1}, -1, -1, 0)) + b"b"),
        "scalar of an object": whole(called("numpy.core.multiarray", "scalar",
                                            called("numpy", "dtype", "O8", False, True), "a")),
        "two stops": pickle.dumps({}, protocol=2) + whole(called("os", "system", command)),
        "trailing bytes": pickle.dumps({}, protocol=2) + b"\x00",
        "call before the cut": b"\x80\x02" + called("os", "system", command),
        "call before nonsense": b"\x80\x02" + called("os", "system", command) + b"\xff\xff",
        "frame that hides the end": b"\x80\x04\x95\x01" + bytes(7) + b"N."
        + whole(called("os", "system", command)),
        "line across a frame": b"\x80\x04\x95\x02" + bytes(7) + b"ccollections\nOrderedDict\n)R.",
        "frame in a frame": b"\x80\x04\x95\x10" + bytes(7) + b"\x95\x02" + bytes(7) + b"NNNNNNN.",
        "out-of-band buffer": b"\x80\x05\x97.",
        "read-only buffer": b"\x80\x05C\x01a\x98.",
        "array of bytes": b"\x80\x05\x96\x01" + bytes(7) + b"a.",
        "duplicated": whole(imported("os", "system") + b"2" + long_text(command) + b"\x85R"),
        "mark popped": b"\x80\x02((0" + called("os", "system", command) + b".",
        "protocol of the future": b"\x80\x7f" + called("os", "system", command) + b".",
        "protocol changed": b"\x80\x02\x80\x04" + text("os") + text("system") + b"\x93" + end,
        "dictionary from marks": whole(b"(" + pushed("a") + called("os", "system", command) + b"d"),
        "list from marks": whole(b"(" + called("os", "system", command) + b"l"),
        "as a key": whole(b"}" + called("os", "system", command) + b"Ns"),
        "key that never ends": whole(b"}" + deep + b"Ns"),
        "set that never ends": whole(called("builtins", "set", [deep])),
        "duplicated tuples": whole(tuples),
        "list as a key": whole(b"}]Ns"),
        "a kind of storage as a text": whole(pushed(("storage", "FloatStorage", "0", "cpu", 4)) + b"Q"),
        "a view of a storage": whole(pushed(("storage", imported("torch", "FloatStorage"), "0", "cpu", 4,
                                             ("v", 0, 4))) + b"Q"),
        "size without end": whole(pushed(("storage", imported("torch", "FloatStorage"), "0", "cpu", -4))
                                  + b"Q"),
        "storage of a storage": whole(pushed(("storage", storage(), "0", "cpu", 4)) + b"Q"),
    }  # fmt: skip


def bombs():
    """Return name -> pickle that a reader could choke on."""
    return {
        "huge number": b"\x80\x02\x8a\xff" + b"\x01" * 255 + b".",
        "number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
        "number of four billion bytes": b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\x01" * 64 + b".",
        "number of negative length": b"\x80\x02\x8b\xff\xff\xff\xff" + b"\x01" * 64 + b".",
        "nested tuples": b"\x80\x02)" + b"\x85" * 5000 + b".",
        "nested lists": b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
        "nested marks": b"\x80\x02" + b"(" * 5000 + b"t" * 5000 + b".",
        "endless": b"\x80\x02" + b"N0" * 300_000 + b"N.",
        "many lists": b"\x80\x02" + b"]" * 600_000 + b".",
        "lying length": b"\x80\x02X" + struct.pack("<I", 2**31) + b"abc",
        "lying length of eight bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"abc",
        "frame of eight bytes": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
        "many long texts": b"\x80\x02" + (b"X" + struct.pack("<I", 2**20) + b"a" * 2**20) * 40 + b"ttt.",
        "text over the limit": b"\x80\x02X" + struct.pack("<I", 2**25) + b"a" * 2**25 + b".",
        "memo slot": b"\x80\x02Nr\xff\xff\xff\xff.",
        "negative memo slot": b"Np-1\n.",
        "memo bomb": b"\x80\x02" + b"".join(b"]" + b"q" + bytes([i % 256]) for i in range(60_000)) + b".",
        "doubling lists": whole(b"]q\x00" + b"".join(
            b"0](" + b"h" + bytes([i]) * 1 + (b"h" + bytes([i])) * 9 + b"eq" + bytes([i + 1])
            for i in range(200)) + b"000"),
        "empty stack": b"\x80\x02R.",
        "unknown memo": b"\x80\x02h\x07.",
        "no stop": b"\x80\x02N",
        "left behind": b"\x80\x02NN.",
        "line without end": b"\x80\x02c" + b"a" * 2**20,
    }  # fmt: skip
