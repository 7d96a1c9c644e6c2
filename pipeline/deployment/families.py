"""Families of timm's that tests take through training, counting, ONNX and INT8. Imports no torch."""

import re

from pipeline.params import Architecture

VIT = {"embed_dim": 48, "depth": 2, "num_heads": 3}
MEMBERS = {  # a small one of each family, the side of the images that it is tried with, and its arguments
    "test_resnet": (28, {}),
    "resnet10t": (28, {}),
    "test_efficientnet": (28, {}),
    "test_byobnet": (28, {}),
    "test_nfnet": (28, {}),
    "test_mambaout": (28, {}),
    "mobilenetv3_small_050": (28, {}),
    "mobilenetv4_conv_small_035": (28, {}),
    "efficientnet_lite0": (28, {}),
    "tf_efficientnetv2_b0": (28, {}),
    "ghostnet_050": (28, {}),
    "regnetx_002": (28, {}),
    "regnety_002": (28, {}),
    "repvgg_a0": (28, {}),
    "fastvit_t8": (28, {}),
    "mobilevit_xxs": (28, {}),
    "efficientvit_m0": (28, {}),
    "efficientvit_b0": (32, {}),
    "convnext_atto": (32, {}),
    "convnextv2_atto": (32, {}),
    "edgenext_xx_small": (32, {}),
    "densenet121": (32, {"growth_rate": 8, "block_config": [2, 2, 2, 2]}),
    "resnest14d": (32, {}),
    "repvit_m0_9": (32, {}),
    "pvt_v2_b0": (32, {}),
    "starnet_s050": (32, {}),
    "rdnet_tiny": (32, {}),
    "focalnet_tiny_srf": (32, {}),
    "davit_tiny": (32, {}),
    "convit_tiny": (32, {"img_size": 32, "depth": 2, "local_up_to_layer": 1}),
    "xcit_nano_12_p8_224": (32, {"img_size": 32, "depth": 2}),
    "gmlp_ti16_224": (32, {"img_size": 32}),
    "resmlp_12_224": (32, {"img_size": 32}),
    "visformer_tiny": (32, {"img_size": 32}),
    "swin_tiny_patch4_window7_224": (32, {"img_size": 32, "depths": [2, 2], "num_heads": [3, 6], "embed_dim": 24}),
    "swinv2_tiny_window8_256": (32, {"img_size": 32, "depths": [2, 2], "num_heads": [3, 6], "embed_dim": 24}),
    "eva02_tiny_patch14_224": (28, {"img_size": 28, "depth": 2}),
    "vit_tiny_patch16_224": (32, {"img_size": 32, **VIT}),
    "deit_tiny_distilled_patch16_224": (32, {"img_size": 32, **VIT}),
    "beit_base_patch16_224": (32, {"img_size": 32, **VIT}),
    "vit_relpos_small_patch16_224": (32, {"img_size": 32, **VIT}),
    "test_maxvit": (32, {"img_size": 32}),
    "hiera_tiny_224": (64, {"img_size": 64}),
    "cait_xxs24_224": (32, {"img_size": 32, "depth": 2}),
    "pit_ti_224": (64, {"img_size": 64}),
    "pit_ti_distilled_224": (64, {"img_size": 64}),
    "hrnet_w18_small": (64, {}),
    "nfnet_l0": (64, {}),
    "dm_nfnet_f0": (64, {}),
    "tresnet_m": (64, {}),
    "shvit_s1": (64, {}),
    "tiny_vit_5m_224": (64, {}),
    "naflexvit_base_patch16_gap": (64, {**VIT}),
    "test_coatnet": (160, {"img_size": 160}),
    "efficientformer_l1": (224, {}),
    "levit_128s": (224, {}),
    "mixer_s32_224": (224, {}),
}


def known(architecture: Architecture) -> bool:
    """Whether a member of its family is one of those above; of weights in a folder nobody knows."""
    name = architecture.model or re.split(r"[:/]", architecture.backbone)[-1]
    if architecture.model is None and architecture.backbone.startswith("local-dir:"):
        return False
    return _family(name) in {_family(member) for member in MEMBERS}


def _family(name: str) -> str:
    """`resnet` of resnet18.a1_in1k, `mobilenetv3` of mobilenetv3_small_050."""
    return re.match(r"(?:tf_|test_)?([a-z]*(?:v\d(?!\d))?)", name)[1]
