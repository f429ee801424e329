"""The corpus of hostile files: made on the spot, harmless, each with a canary that never fires.

``cases(canary)`` gives them all; each is a name, a category and the bytes. A canary is what a file
would do if anything in it ran: make a file (by itself or by a process), call a listener on this
machine, set a variable.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
try:
    import containers
    import gadgets
    import opcodes
    import others
    import pickles
finally:
    sys.path.pop(0)


@dataclass(frozen=True)
class Canary:
    """What would be seen if a file ran: a file that appears, a call to a port, a variable set."""

    file: Path
    port: int
    variable: str = "SECURITYNET_CANARY"


@dataclass(frozen=True)
class Case:
    """One hostile file."""

    category: str
    name: str
    content: bytes

    @property
    def id(self):
        return f"{self.category}: {self.name}"


def cases(canary):
    """Return every hostile file."""
    found = []
    for index, (name, group, module, function) in enumerate(gadgets.gadgets()):
        body = gadgets.payload(group, module, function, canary)
        suffix, content = gadgets.containers(body, index)
        found.append(Case(f"gadget, {group}", f"{name}.{suffix}", content))
    for index, (name, body) in enumerate(gadgets.chains(canary)):
        suffix, content = gadgets.containers(body, index)
        found.append(Case("gadget, chain", f"{name}.{suffix}", content))
    for name, content in pickles.tricks(canary).items():
        found.append(Case("opcodes", f"{name}.pkl", content))
        found.append(Case("opcodes in a zip", f"{name}.pt", opcodes.torch_zip(content)))
        found.append(
            Case("opcodes in the old container", f"{name}.pth", opcodes.torch_legacy(content))
        )
    found += [Case("bomb", f"{name}.pkl", data) for name, data in pickles.bombs().items()]
    groups = {
        "zip": containers.zips(canary), "tar": containers.tars(canary),
        "old container": containers.legacies(canary), "storage": containers.lies(),
        "safetensors": others.safetensors(canary), "numpy": others.arrays(canary),
        "joblib": others.joblibs(canary), "keras": others.keras(canary),
        "onnx": others.onnxes(canary), "program": others.programs(canary),
        "configuration": others.configurations(canary),
    }  # fmt: skip
    found += [Case(group, *item) for group, files in groups.items() for item in files.items()]
    return found
