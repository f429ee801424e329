"""Hostile files that are no torch checkpoints: arrays, HDF5, Keras, ONNX, safetensors, configurations."""

import bz2
import json
import struct
import warnings
import zipfile
import zlib

from containers import FINE, evil
from opcodes import called, imported, proto, pushed, torch_zip, whole, zipped

FINE_TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def tensors_file(header, n_bytes=8, length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + b"\0" * n_bytes


def safetensors(canary):
    """Return file name -> content."""
    headers = {
        "overlap": {"a": FINE_TENSOR, "b": FINE_TENSOR},
        "hole": {"a": {**FINE_TENSOR, "data_offsets": [4, 12]}},
        "short": {"a": {**FINE_TENSOR, "shape": [1]}},
        "beyond the end": {"a": {**FINE_TENSOR, "shape": [3], "data_offsets": [0, 12]}},
        "negative": {"a": {**FINE_TENSOR, "shape": [-2], "data_offsets": [0, -8]}},
        "fraction": {"a": {**FINE_TENSOR, "data_offsets": [0.0, 8.0]}},
        "boolean": {"a": {**FINE_TENSOR, "shape": [True, 2]}},
        "type": {"a": {**FINE_TENSOR, "dtype": "OBJECT"}},
        "type that is a list": {"a": {**FINE_TENSOR, "dtype": ["F32"]}},
        "overflow": {"a": {**FINE_TENSOR, "shape": [2**62, 4, 2]}},
        "many sides": {"a": {**FINE_TENSOR, "shape": [1] * 70 + [2]}},
        "not a mapping": {"a": [1, 2]},
        "not an object": [1, 2],
        "metadata": {"__metadata__": {"a": [1]}, "a": FINE_TENSOR},
        "nesting": b'{"a":' + b"[" * 100_000,
        "twice": b'{"a":1,"a":2}',
        "not utf-8": b'{"\xff":1}',
        "code": b"{__import__('os')}",
    }
    found = {f"{name}.safetensors": tensors_file(header) for name, header in headers.items()}
    fine = tensors_file({"a": FINE_TENSOR})
    return found | {
        "long header.safetensors": tensors_file({"a": FINE_TENSOR}, length=2**62),
        "long header of 90 MB.safetensors": tensors_file({"a": FINE_TENSOR}, length=90_000_000),
        "bytes behind.safetensors": fine + evil(canary),
        "zip behind.safetensors": fine + torch_zip(evil(canary), data=()),
        "cut.safetensors": fine[:-1],
        "pickle with another name.safetensors": evil(canary),
        "html.safetensors": b"<html><script>alert(1)</script></html>",
    }


def npy(descr, shape="(1,)", data=b"", header=None, version=1):
    text = header or f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    raw = text.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(raw)) + raw + data


def arrays(canary):
    """Return file name -> content: numpy's files."""
    objects = npy("'|O'", data=evil(canary))
    harmless = npy("'|O'", data=whole(pushed([1])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twice = zipped([("a.npy", npy("'<f4'", data=bytes(4))), ("a.npy", objects)])
    return {
        "objects.npy": objects,
        "harmless objects.npy": harmless,
        "objects in a record.npy": npy("[('a', '|O')]", data=evil(canary)),
        "record.npy": npy("[('a', '<f4')]", data=bytes(4)),
        "objects.npz": zipped([("a.npy", objects)]),
        "compressed objects.npz": zipped([("a.npy", objects)], method=zipfile.ZIP_DEFLATED),
        "objects among numbers.npz": zipped([("a.npy", npy("'<f4'", data=bytes(4))), ("b.npy", objects)]),
        "twice.npz": twice,
        "above.npz": zipped([("../a.npy", npy("'<f4'", data=bytes(4)))]),
        "bomb.npz": zipped([("a.npy", npy("'<f4'", "(17000000,)", bytes(68_000_000)))],
                           method=zipfile.ZIP_DEFLATED),
        "other data.npz": zipped([("a.npy", npy("'<f4'", "(9,)", bytes(4)))]),
        "shape.npy": npy("'<f4'", "(1000000000000,)", bytes(4)),
        "negative shape.npy": npy("'<f4'", "(-1,)", bytes(4)),
        "shape of many digits.npy": npy("'<f4'", f"({'9' * 3000},)", bytes(4)),
        "code in the header.npy": npy("", header=f"__import__('os').system('touch {canary.file}')"),
        "nested header.npy": npy("", header="(" * 5000 + ")" * 5000),
        "header of 4 GB.npy": b"\x93NUMPY\x02\0" + struct.pack("<I", 2**32 - 1) + b"{" * 100,
        "version.npy": npy("'<f4'", data=bytes(4), version=9),
        "bytes behind.npy": npy("'<f4'", data=bytes(4)) + evil(canary),
    }  # fmt: skip


def joblibs(canary):
    """Return file name -> content: pickles as other programs wrap them."""
    wrapper = whole(called("joblib.numpy_pickle", "NumpyArrayWrapper"))
    return {
        "array.joblib": wrapper,
        "evil.joblib": evil(canary),
        "zlib.joblib": zlib.compress(evil(canary)),
        "bz2.joblib": bz2.compress(evil(canary)),
        "estimator.pkl": whole(called("sklearn.ensemble._forest", "RandomForestClassifier")),
        "transformer.pkl": whole(imported("sklearn.preprocessing._function_transformer",
                                          "FunctionTransformer") + b")\x81" + pushed(
                                              {"func": imported("os", "system")}) + b"b"),
    }  # fmt: skip


def keras(canary):
    """Return file name -> content: HDF5 and Keras."""
    code = f"touch {canary.file}"
    config = {"class_name": "Functional", "config": {"layers": []}}
    signature = b"\x89HDF\r\n\x1a\n" + bytes(500)

    def layered(**layer):
        return {**config, "config": {"layers": [layer]}}

    def archive(content, *more):
        return zipped([("config.json", json.dumps(content)), ("metadata.json", "{}"), *more])

    in_file = json.dumps(layered(class_name="Lambda", config={"function": ["4wEAAAA=", code]}))
    link = b"\x01\x08\x40" + b"\x04" + b"link" + struct.pack("<H", 13) + b"\x00../secret\x00/w\x00"
    function = {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}
    return {
        "lambda.h5": signature + in_file.encode() + bytes(100),
        "lambda far away.h5": signature + bytes(9_000_000) + in_file.encode(),
        "lambda without blanks.h5": signature + in_file.replace(": ", ":").encode(),
        "function.h5": signature + b'"function_type": "lambda"',
        "link to another file.h5": signature + link + bytes(100),
        "behind a user block.h5": bytes(512) + signature,
        "plain.h5": signature,
        "lambda.keras": archive(layered(class_name="Lambda", config={"function": code})),
        "function.keras": archive(
            layered(class_name="Activation", config={"activation": function})
        ),
        "module.keras": archive(layered(class_name="system", module="os", config={})),
        "registered.keras": archive(layered(class_name="X", registered_name="evil>X")),
        "not json.keras": zipped([("config.json", "{"), ("metadata.json", "{}")]),
        "above.keras": archive(config, ("../x", b"")),
        "evil beside.keras": archive(config, ("model.weights.pkl", evil(canary))),
        "weights.keras": archive(config, ("model.weights.h5", signature)),
        "lambda.json": in_file.encode(),
    }


def onnx(*, nodes=(), tensors=(), opset="", version=17, more=()):
    graph = [(1, proto(*node)) for node in nodes] + [(5, proto(*item)) for item in tensors]
    return proto((1, 8), (7, proto(*graph, (2, "g"))), (8, proto((1, opset), (2, version))), *more)


def external(location):
    data = [(13, proto((1, "location"), (2, location)))]
    return [(1, 4), (2, 1), (8, "w"), *data, (14, 1)]


def onnxes(canary):
    """Return file name -> content: ONNX models."""
    inner = [(4, "Identity")]
    for _ in range(40):
        inner = [(4, "If"), (5, proto((1, "then_branch"), (6, proto((1, proto(*inner))))))]
    raw = [(1, 4), (2, 1), (8, "w"), (9, bytes(8))]
    return {
        "outside.onnx": onnx(tensors=[external("../../../etc/passwd")]),
        "absolute.onnx": onnx(tensors=[external("/etc/passwd")]),
        "other system.onnx": onnx(tensors=[external("..\\secret")]),
        "drive.onnx": onnx(tensors=[external("C:secret")]),
        "address in memory.onnx": onnx(tensors=[external("*/_ORT_MEM_ADDR_/*")]),
        "not there.onnx": onnx(tensors=[external("weights.bin")]),
        "no location.onnx": onnx(tensors=[external("")]),
        "in a constant.onnx": onnx(nodes=[[(4, "Constant"), (5, proto((1, "value"), (5, proto(
            *external("/etc/passwd")))))]]),
        "in a subgraph.onnx": onnx(nodes=[[(4, "If"), (5, proto((1, "then_branch"), (6, proto((5, proto(
            *external("/etc/passwd")))))))]]),
        "in a list.onnx": onnx(nodes=[[(4, "X"), (5, proto((1, "a"), (10, proto(*external("/x")))))]]),
        "sparse.onnx": proto((1, 8), (7, proto((15, proto((1, proto(*external("/x"))))))), (8, proto((2, 17)))),
        "custom operator.onnx": onnx(nodes=[[(4, "Evil"), (7, "evil.ops")]]),
        "custom domain.onnx": onnx(opset="evil.ops"),
        "python.onnx": onnx(nodes=[[(4, "PythonOp"), (7, "com.microsoft")]]),
        "py func.onnx": onnx(nodes=[[(4, "PyCustomOp"), (7, "ai.onnx.contrib")]]),
        "other binary.onnx": onnx(nodes=[[(4, "EPContext"), (7, "com.microsoft")]]),
        "nested.onnx": onnx(nodes=[inner]),
        "fewer bytes.onnx": onnx(tensors=[raw]),
        "negative shape.onnx": onnx(tensors=[[(1, 2**64 - 1), (2, 1), (8, "w"), (9, bytes(8))]]),
        "no data.onnx": onnx(tensors=[[(1, 2**40), (2, 1), (8, "w")]]),
        "type.onnx": onnx(tensors=[[(1, 1), (2, 99), (8, "w"), (9, bytes(8))]]),
        "training.onnx": onnx(more=[(20, proto((1, b"")))]),
        "unknown field.onnx": onnx(more=[(19, b"x")]),
        "many fields.onnx": onnx() + b"\x72\0" * 450_000,
        "cut.onnx": onnx(tensors=[raw])[:-20] + b"\x08\x01\x3a\xff\xff\x03",
    }  # fmt: skip


def programs(canary):
    """Return file name -> content: programs, and formats that are only recognised."""
    pt2 = [("x/archive_format", b"pt2"), ("x/models/model.json", b"{}")]
    script = [
        ("a/code/__torch__.py", b"def f(): ..."),
        ("a/constants.pkl", FINE),
        ("a/data.pkl", FINE),
    ]
    return {
        "torchscript.pt": zipped(script),
        "torchscript with a program.pt": zipped([*script, ("a/code/x.py", b"torch.save(x, y)")]),
        "plain.pt2": zipped(pt2),
        "native code.pt2": zipped([*pt2, ("x/data/aotinductor/model/x.so", b"\x7fELF")]),
        "evil inputs.pt2": zipped([*pt2, ("x/data/sample_inputs/x.pt", torch_zip(evil(canary), data=()))]),
        "old.pt2": zipped([("serialized_exported_program.json", b"{}"),
                           ("serialized_state_dict.pt", torch_zip(evil(canary), data=()))]),
        "model.gguf": b"GGUF\x03" + bytes(60),
        "saved_model.pb": proto((1, 1), (2, proto((1, b"meta")))),
        "model.tflite": b"\x1c\0\0\0TFL3" + bytes(60),
        "flax.msgpack": b"\x81\xa6params\x81\xa1w\xc0",
        "program.bin": b"\x7fELF" + bytes(60),
        "program.pt": b"MZ" + bytes(60),
        "weights.7z": b"7z\xbc\xaf\x27\x1c" + bytes(60),
        "weights.zst": b"\x28\xb5\x2f\xfd" + bytes(60),
        "nothing.pt": b"",
        "one byte.pt": b"\x80",
        "noise.pt": bytes(range(255, 0, -1)) * 20,
    }  # fmt: skip


def configurations(canary):
    """Return file name -> content: texts that make a loader run code."""
    reference = {"AutoModelForImageClassification": "modeling_evil.EvilModel"}
    return {
        "config.json": json.dumps({"auto_map": reference}).encode(),
        "other_repo.json": json.dumps(
            {"auto_map": {"AutoModel": "evil/repo--modeling.Evil"}}
        ).encode(),
        "pipelines.json": json.dumps({"custom_pipelines": {"x": {"impl": "evil.Evil"}}}).encode(),
        "nested.json": json.dumps({"a": [{"auto_map": reference}]}).encode(),
        "many objects.json": b"[" + b"{}," * 3_000_000 + b"{}]",
        "deep.json": b'{"a":' + b"[" * 100_000,
        "modeling_evil.py": f"open({str(canary.file)!r}, 'w').close()\n".encode(),
        "tag.yaml": f"x: !!python/object/apply:os.system ['touch {canary.file}']\n".encode(),
        "long tag.yaml": b"x: !<tag:yaml.org,2002:python/object/new:os.system> [true]\n",
        "setup.sh": f"#!/bin/sh\ntouch {canary.file}\n".encode(),
    }
