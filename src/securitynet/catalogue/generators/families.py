"""The architecture family of a network, read off its name."""

from __future__ import annotations

import re

MAKERS = re.compile(r"^(tf|dm|legacy|bn|test)_")
"""Who ported it, or that it is a variant: no family of its own."""
BEGINNINGS = {
    "airnet": "airnet", "airnext": "airnext", "bat_resnext": "resnext", "cs3darknet": "darknet",
    "cs3edgenet": "cspnet", "cs3se": "cspnet", "cs3sedarknet": "darknet", "cspdarknet": "darknet",
    "cspresne": "cspnet", "darknet": "darknet", "davit": "davit", "dla60_res2ne": "dla",
    "drn": "drn", "eca_botnext": "botnet", "eca_halonext": "halonet", "eca_nfnet": "nfnet",
    "eca_resne": "ecaresnet", "eca_vovnet": "vovnet", "ecaresne": "ecaresnet",
    "efficientformerv2": "efficientformerv2", "ese_vovnet": "vovnet", "fdmobilenet": "fdmobilenet",
    "gc_efficientnetv2": "efficientnetv2", "gcresne": "gcresnet", "haloregnetz": "halonet",
    "hieradet": "hiera", "inception_next": "inceptionnext",
    "inception_resnet": "inceptionresnet", "inceptionresnet": "inceptionresnet",
    "inception": "inception", "lambda_resnet": "lambdanet", "lamhalobotnet": "halonet",
    "mobilenet_edgetpu": "mobilenet", "nf_": "nfnet", "nf_regnet": "nfnet", "pvt_v2": "pvtv2",
    "regnet": "regnet", "res2ne": "res2net", "resnesta": "resnest", "resnest": "resnest",
    "resneta": "resnet", "resnetblur": "resnet", "resnetd": "resnet", "ibn": "ibnnet",
    "rmlp": "maxvit", "coatnet_rmlp": "coatnet", "sehalonet": "halonet",
    "semnasnet": "mnasnet", "seresnextaa": "seresnext", "seresnetaa": "seresnet",
    "shake": "shakeshakeresnet", "shufflenet_v2": "shufflenetv2", "skresne": "sknet",
    "squeezeres": "squeezenet", "sqnxt": "squeezenext", "swin_v2": "swinv2", "tiny_vit": "tinyvit",
    "wide_resnet": "wrn", "mobilenet_v2": "mobilenetv2", "mobilenet_v3": "mobilenetv3",
    "efficientnet_v2": "efficientnetv2", "condensenet": "condensenet", "hrnetv2": "hrnet",
    "selecsls": "selecsls", "ror3": "ror", "dm_nfnet": "nfnet", "preresnet": "preresnet",
    "resnetabc": "resnet", "deit3": "deit", "beitv2": "beit", "eva02": "eva",
    "diracnet": "diracnet", "xdensenet": "xdensenet", "shufflenetv2": "shufflenetv2",
    "mobilenetv2": "mobilenetv2", "mobilenetb": "mobilenet", "resnetbc": "resnet",
    "seresnetbc": "seresnet", "sepreresnetbc": "sepreresnet", "alexnet": "alexnet",
    "zfnet": "zfnet", "scnet": "scnet", "halo2botnet": "halonet", "sebotnet": "botnet",
    "nasnet": "nasnet", "rexnet": "rexnet", "densenetblur": "densenet", "fbnetc": "fbnet",
}  # fmt: skip
"""Beginnings of names that do not say their family by their letters."""
LETTERS = re.compile(r"[a-z]+?(v\d)?(?![a-z])")


def family(name: str) -> str:
    """Return the family of a network by its provider's name, e.g. ``resnet`` of ``resnet50d``."""
    plain = MAKERS.sub("", name.split(".")[0])
    fitting = [start for start in BEGINNINGS if plain.startswith(start)]
    if fitting:
        return BEGINNINGS[max(fitting, key=len)]
    found = LETTERS.match(plain)
    return found.group(0) if found else plain
