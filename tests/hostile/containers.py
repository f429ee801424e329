"""Tricks of zip, tar and torch's old container: two readers, two archives; links; bombs."""

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import warnings
import zipfile
import zlib

from opcodes import (
    called,
    ends,
    imported,
    number,
    pushed,
    storage,
    tensor,
    torch_legacy,
    torch_zip,
    whole,
    zipped,
)

FINE = whole(pushed({"w": tensor()}))


def evil(canary):
    return whole(called("os", "system", f"touch {canary.file}"))


def changed(data, change):
    data = bytearray(data)
    change(data)
    return bytes(data)


def local_name(data):
    data[30 + data[30:].index(b"data.pkl")] ^= 1


def encrypt(data):
    data[data.index(b"PK\x01\x02") + 8] |= 1


def encrypt_locally(data):
    data[6] |= 1


def local_size(data):
    data[22] ^= 1


def local_method(data):
    data[8] = 8


def directory_offset(data):
    data[-6] ^= 1


def directory_size(data):
    data[-10:-6] = b"\xff\xff\xff\x7f"


def count(data):
    data[-12] ^= 1


def comment(data):
    data[-2:] = b"\x03\x00abc"


def prefix(data):
    data[:0] = b"PK\x03\x04" + b"\0" * 96


def pickled(data):
    data[60] ^= 1


def central_size(data):
    at = data.index(b"PK\x01\x02")
    data[at + 20 : at + 28] = b"\xff" * 8


def hidden_directory(data):
    """Python finds the directory from the end, torch by its offset: both must be the same."""
    data[-6:-2] = struct.pack("<I", data.index(b"PK\x01\x02") - 20)


def shared_bytes(data):
    """Two members of the directory point at the same bytes."""
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]


DAMAGES = [
    local_name, encrypt, encrypt_locally, local_size, local_method, directory_offset, directory_size,
    count, comment, prefix, pickled, central_size, hidden_directory, shared_bytes,
]  # fmt: skip
EXTRA_MEMBERS = {
    "twice": "a/data.pkl", "twice in capitals": "a/DATA.PKL", "above": "a/data/../../x",
    "absolute": "/etc/x", "script": "a/code/x.py", "constants": "a/constants.pkl", "stranger": "a/other",
    "second folder": "else/data.pkl", "backslash": "a\\data.pkl", "drive": "C:/data.pkl",
    "tag": "a/data/<script>alert(1)</script>", "terminal": "a/data/\x1b[2J", "right to left": "a/data/\u202e1",
    "folder": "a/data/", "tensor of nobody": "a/data/77", "dot": "a/./data.pkl", "native": "a/lib/x.so",
}  # fmt: skip


def renamed_by_extra():
    """A field that some readers take for the member's real name."""
    item = zipfile.ZipInfo("a/data.pkl")
    name = b"a/other.pkl"
    item.extra = struct.pack("<HHBI", 0x7075, 5 + len(name), 1, zlib.crc32(b"a/data.pkl")) + name
    return zipped([(item, FINE), ("a/version", b"3\n"), ("a/data/0", bytes(16))])


def descriptor_lies():
    """Sizes behind the data that differ from the directory's."""

    class Stream(io.RawIOBase):
        def __init__(self):
            self.made = b""

        def writable(self):
            return True

        def write(self, data):
            self.made += bytes(data)
            return len(data)

    stream = Stream()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in (("a/data.pkl", FINE), ("a/version", b"3\n"), ("a/data/0", bytes(16))):
            archive.writestr(name, data)
    return changed(stream.made, lambda data: data.__setitem__(data.index(b"PK\x07\x08") + 9, 99))


def zip64_lies():
    """A second end record that readers of large files believe."""
    data = torch_zip(FINE)
    begin = len(data) - 22
    count, size, offset = struct.unpack("<HII", data[-12:-2])
    record = struct.pack(
        "<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count - 1, count - 1, size, offset
    )
    locator = struct.pack("<IIQI", 0x07064B50, 0, begin, 1)
    return data[:begin] + record + locator + data[begin:]


def tar_of(*items):
    """Return a tar file of (name, data, changes of its header) triples."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data, fields in items:
            item = tarfile.TarInfo(name)
            item.size = len(data)
            for key, value in fields.items():
                setattr(item, key, value)
            archive.addfile(item, io.BytesIO(data))
    return file.getvalue()


def nested(data, depth, name="x.zip"):
    for _ in range(depth):
        data = zipped([(name, data)])
    return data


def zip_link():
    item = zipfile.ZipInfo("weights.pt")
    item.create_system, item.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return zipped([(item, b"/etc/passwd")])


def declares(n_bytes):
    """A zip file whose directory says that its member has so many bytes."""
    data = bytearray(zipped([("x.bin", b"\0" * 1000)], method=zipfile.ZIP_DEFLATED))
    at = data.index(b"PK\x01\x02")
    item = struct.pack("<I", min(n_bytes, 0xFFFFFFFF - 1))
    data[at + 24 : at + 28] = item
    return bytes(data)


def many_declared():
    """Ten gigabytes by the directory, in three members."""
    members = [(f"x{i}.bin", b"\0" * 1000) for i in range(3)]
    data = bytearray(zipped(members, method=zipfile.ZIP_DEFLATED))
    at = 0
    while (at := data.find(b"PK\x01\x02", at + 1)) > 0:
        data[at + 24 : at + 28] = struct.pack("<I", 3_500_000_000)
    return bytes(data)


def zips(canary):
    """Return file name -> content."""
    fine = torch_zip(FINE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {
            f"member {name}.pt": torch_zip(FINE, more=[(member, b"x")])
            for name, member in EXTRA_MEMBERS.items()
        }
    found |= {f"{change.__name__}.pt": changed(fine, change) for change in DAMAGES}
    with_evil = torch_zip(evil(canary), data=())
    found |= {
        "compressed.pt": torch_zip(FINE, method=zipfile.ZIP_DEFLATED),
        "renamed by an extra field.pt": renamed_by_extra(),
        "descriptor lies.pt": descriptor_lies(),
        "second end record.pt": zip64_lies(),
        "no pickle.pt": zipped([("a/version", b"3\n")]),
        "pickle without a folder.pt": zipped([("data.pkl", FINE)]),
        "cut.pt": fine[:-30],
        "bytes after it.pt": fine + evil(canary),
        "pickle with a zip behind it.pkl": evil(canary)[:-1] + b"0N." + fine,
        "legacy with a zip behind it.pt": torch_legacy(FINE) + fine,
        "archive with a checkpoint.zip": zipped([("x/weights.pt", with_evil)]),
        "archive in archives.zip": nested(with_evil, 2),
        "archives without end.zip": nested(with_evil, 12),
        "link.zip": zip_link(),
        "leaves its folder.zip": zipped([("../../weights.pt", fine)]),
        "encrypted.zip": changed(zipped([("weights.bin", fine)]), encrypt),
        "shared bytes.zip": changed(zipped([("x.bin", fine), ("y.bin", fine)]), shared_bytes),
        "zeros.zip": zipped([("x.bin", bytes(68_000_000))], method=zipfile.ZIP_DEFLATED),
        "declares four gigabytes.zip": declares(4_000_000_000),
        "declares ten gigabytes.zip": many_declared(),
        "bz2 inside.zip": zipped([("x.bin", fine)], method=zipfile.ZIP_BZIP2),
        "many pickles.zip": zipped(
            [(f"{i}.pkl", whole(b"N" * 3000 + b"0" * 2999)) for i in range(1500)],
            method=zipfile.ZIP_STORED,
        ),
        "empty.zip": zipped([]),
        "program.zip": zipped([("lib/x.so", b"\x7fELF" + bytes(60))]),
    }
    return found


def tars(canary):
    """Return file name -> content."""
    pt = torch_zip(evil(canary), data=())
    plain = tar_of(("weights.pt", pt, {}))
    return {
        "checkpoint.tar": plain,
        "checkpoint.tar.gz": gzip.compress(plain),
        "checkpoint.tar.xz": lzma.compress(plain),
        "above.tar": tar_of(("../../weights.txt", b"x", {})),
        "absolute.tar": tar_of(("/etc/weights.txt", b"x", {})),
        "symbolic link.tar": tar_of(("w", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})),
        "hard link.tar": tar_of(("w", b"", {"type": tarfile.LNKTYPE, "linkname": "../x"})),
        "device.tar": tar_of(("w", b"", {"type": tarfile.BLKTYPE})),
        "pipe.tar": tar_of(("w", b"", {"type": tarfile.FIFOTYPE})),
        "unknown type.tar": tar_of(("w", b"", {"type": b"Z"})),
        "long name above.tar": tar_of((f"{'a/' * 100}../../../x.txt", b"x", {})),
        "name in an extended header.tar": tar_of(("x.txt", b"x", {"pax_headers": {"path": "../x"}})),
        "terminal.tar": tar_of(("\x1b[2J.txt", b"x", {})),
        "lying size.tar": changed(tar_of(("x.txt", b"x" * 600, {})), lambda data: data.__setitem__(
            slice(124, 148), b"77777777777\0" + data[136:148])),
        "bomb.tar.gz": gzip.compress(tar_of(("x.txt", bytes(68_000_000), {})), compresslevel=1),
        "bomb.bz2": bz2.compress(bytes(68_000_000)),
        "bomb.xz": lzma.compress(bytes(68_000_000), preset=0),
        "two streams.gz": gzip.compress(FINE) + gzip.compress(evil(canary)),
        "cut.gz": gzip.compress(plain)[:-20],
        "much memory.xz": b"\xfd7zXZ\0\0\4\xe6\xd6\xb4F\x02\0!\x01\x28" + bytes(60),
        "also legacy.pt": also_legacy(),
    }  # fmt: skip


def also_legacy():
    """Torch tries to read a tar archive before the pickles."""
    data = torch_legacy(FINE)
    header = bytearray(tarfile.TarInfo("x").tobuf())
    header[:14] = data[:14]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data


def legacies(canary):
    """Return file name -> content: the old container, with lies about what follows."""
    data = torch_legacy(FINE)
    stops = [0, *ends(data)]
    found = {
        f"evil pickle {which}.pt": data[: stops[which]] + evil(canary) + data[stops[which + 1] :]
        for which in range(1, 5)
    }
    magic = whole(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19" + called("os", "system", "true") + b"\x86")
    found |= {
        "evil beside the magic number.pt": magic + data[stops[1] :],
        "bytes behind.pt": data + b"more",
        "no data.pt": torch_legacy(FINE, data=b""),
        "fewer elements.pt": torch_legacy(FINE, data=struct.pack("<q", 3) + bytes(12)),
        "more elements.pt": torch_legacy(FINE, data=struct.pack("<q", 2**40) + bytes(16)),
        "negative elements.pt": torch_legacy(FINE, data=struct.pack("<q", -4) + bytes(16)),
        "other keys.pt": torch_legacy(FINE, keys=("1",)),
        "keys twice.pt": torch_legacy(FINE, keys=("0", "0"), data=(struct.pack("<q", 4) + bytes(16)) * 2),
        "keys that are no list.pt": data[: stops[4]] + whole(b"N") + data[stops[5] :],
        "names in the header.pt": whole(imported("torch", "float32")) + data[stops[1] :],
        "other protocol.pt": data[: stops[1]] + whole(number(1002)) + data[stops[2] :],
        "cut.pt": data[:-3],
    }  # fmt: skip
    return found


CLAIMS = {
    "longer than its storage": ((5,), (1,), 0, 4),
    "beyond by its stride": ((3,), (2,), 0, 4),
    "beyond by its offset": ((4,), (1,), 1, 4),
    "negative stride": ((4,), (-1,), 0, 4),
    "negative size": ((-4,), (1,), 0, 4),
    "negative offset": ((1,), (1,), -1, 4),
    "storage larger than its member": ((4,), (1,), 0, 5),
    "storage smaller than its member": ((2,), (1,), 0, 2),
    "a tera of elements from one": ((2**40,), (0,), 0, 4),
    "many sides": ((1,) * 65, (1,) * 65, 0, 4),
    "sizes without strides": ((2, 2), (1,), 0, 4),
    "overflow": ((2**31, 2**31, 4), (2**62, 1, 1), 0, 4),
}


def lies():
    """Return file name -> content: tensors that do not lie in their storage."""
    found = {}
    for name, (size, stride, offset, numel) in CLAIMS.items():
        body = whole(pushed({"w": tensor(storage(numel), offset, size, stride)}))
        found[f"{name}.pt"] = torch_zip(body)
        if "member" not in name:
            data = struct.pack("<q", numel) + bytes(4 * numel)
            found[f"{name}.legacy.pt"] = torch_legacy(body, data=data)
    two = {"a": tensor(), "b": tensor(storage(16, "0", ("torch", "ByteStorage")))}
    found["one storage of two types.pt"] = torch_zip(whole(pushed(two)))
    found["storage without a member.pt"] = torch_zip(FINE, data=())
    found["key that leaves the folder.pt"] = torch_zip(
        whole(pushed({"w": tensor(storage(4, "../../x"))})), data=()
    )
    return found
