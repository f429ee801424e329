"""One variable moves the hub: its own addresses, and those of data sets."""

import pytest

from securitynet.files.hub import hub_address, hub_datasets, hub_endpoint

FILE = "https://huggingface.co/owner/name/resolve/main/model.safetensors"


@pytest.mark.parametrize(
    ("named", "endpoint", "datasets"),
    [
        (None, "https://huggingface.co", "https://huggingface.co/datasets"),
        ("", "https://huggingface.co", "https://huggingface.co/datasets"),
        ("http://127.0.0.1:9/", "http://127.0.0.1:9", "http://127.0.0.1:9"),
        ("http://127.0.0.1:9/datasets", "http://127.0.0.1:9", "http://127.0.0.1:9/datasets"),
    ],
)
def test_the_hub_is_where_it_is_said_to_be(named, endpoint, datasets, monkeypatch):
    monkeypatch.delenv("SECURITYNET_HUB", raising=False)
    if named is not None:
        monkeypatch.setenv("SECURITYNET_HUB", named)
    assert (hub_endpoint(), hub_datasets()) == (endpoint, datasets)
    assert hub_address(FILE) == f"{endpoint}/owner/name/resolve/main/model.safetensors"
    for other in ("https://huggingface.co.evil.example/x", "https://zenodo.org/records/1"):
        assert hub_address(other) == other
