"""Writes ONNX models byte by byte: small, odd and hostile ones, without the onnx package."""

import struct

import numpy as np

FLOAT, UINT8, INT64, FLOAT16, DOUBLE = 1, 2, 7, 10, 11
TYPES = {"float32": FLOAT, "uint8": UINT8, "int64": INT64, "float16": FLOAT16, "float64": DOUBLE}


def varint(number):
    number &= (1 << 64) - 1
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def field(number, value):
    """Return one field: an integer, a float, a text or bytes."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(number, values):
    return b"".join(field(number, value) for value in values)


def tensor(name, array):
    """Return a TensorProto with its data inside."""
    array = np.asarray(array)
    kind = field(2, TYPES[array.dtype.name])
    return fields(1, array.shape) + kind + field(8, name) + field(9, array.tobytes())


def external(name, shape, location):
    """Return a float TensorProto whose data lie in another file."""
    entry = field(1, "location") + field(2, location)
    return fields(1, shape) + field(2, FLOAT) + field(8, name) + field(13, entry) + field(14, 1)


def attribute(name, value):
    """Return an AttributeProto: a number, numbers, a TensorProto ``("t", ...)`` or a graph."""
    if isinstance(value, tuple):
        number, kind = {"t": (5, 4), "g": (6, 5)}[value[0]]
        return field(1, name) + field(number, value[1]) + field(20, kind)
    if isinstance(value, list):
        return field(1, name) + fields(8, value) + field(20, 7)
    number, kind = (2, 1) if isinstance(value, float) else (3, 2)
    return field(1, name) + field(number, value) + field(20, kind)


def node(op, inputs, outputs, domain="", **attributes):
    """Return a NodeProto."""
    held = [attribute(name, value) for name, value in attributes.items()]
    names = fields(1, inputs) + fields(2, outputs) + field(4, op)
    return names + fields(5, held) + (field(7, domain) if domain else b"")


def end(name, shape, kind=FLOAT):
    """Return a ValueInfoProto; sides that are texts are open."""
    sides = [field(2, side) if isinstance(side, str) else field(1, side) for side in shape]
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, fields(1, sides))))


def graph(nodes, inputs, outputs, tensors=()):
    """Return a GraphProto."""
    ends = fields(11, inputs) + fields(12, outputs)
    return fields(1, nodes) + field(2, "g") + fields(5, tensors) + ends


def model(body, *, domains=("",), functions=()):
    """Return a ModelProto of a graph."""
    opsets = [field(1, domain) + field(2, 17) for domain in domains]
    return field(1, 8) + field(7, body) + fields(8, opsets) + fields(25, functions)


def of_layers(layers, sides):
    """Return a ModelProto of convolutions, ReLU, flattening and linear layers, batch open."""
    nodes, tensors, name = [], [], "x"
    for i, layer in enumerate(layers):
        inputs, output, kind = [name], f"h{i}", type(layer).__name__
        if kind in ("Conv2d", "Linear"):
            inputs += [f"w{i}", f"b{i}"]
            parameters = (layer.weight, layer.bias)
            arrays = [parameter.detach().numpy() for parameter in parameters]
            tensors += map(tensor, inputs[1:], arrays)
        if kind == "Conv2d":
            pads = [*layer.padding, *layer.padding]
            nodes.append(node("Conv", inputs, [output], strides=[*layer.stride], pads=pads))
        elif kind == "Linear":
            nodes.append(node("Gemm", inputs, [output], transB=1))
        else:
            nodes.append(node({"ReLU": "Relu", "Flatten": "Flatten"}[kind], inputs, [output]))
        name = output
    ends = [end("x", ("n", *sides))], [end(name, ("n", layers[-1].out_features))]
    return model(graph(nodes, *ends, tensors))
