"""Networks of other people's packages, small, with random weights: torchvision's, timm's, and transformers'.

Every parameter and running statistic is moved off what it begins with, so that none looks like a constant, no two are
equal, and none is at a point without a gradient.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import nn

from tests.oracle.torchvision_models import torchvision_models
from tools.coverage.corpus import OPTIONS, SIZE, SIZES

TORCHVISION = (  # noqa: SIM905
    "squeezenet1_1 shufflenet_v2_x0_5 mobilenet_v3_small mnasnet0_5 mobilenet_v2 resnet18 regnet_y_400mf "
    "regnet_x_400mf efficientnet_b0 googlenet densenet121 resnext50_32x4d wide_resnet50_2 inception_v3 alexnet "
    "convnext_tiny swin_t swin_v2_t vit_b_16 vgg11_bn efficientnet_v2_s maxvit_t lraspp_mobilenet_v3_large "
    "deeplabv3_mobilenet_v3_large"
).split()
TIMM: dict[str, int] = {
    name: size
    for size, names in {
        32: "test_resnet test_mambaout",
        160: "test_byobnet test_efficientnet test_efficientnet_gn test_efficientnet_ln test_efficientnet_evos test_vit "
        "test_vit2 test_vit3 test_vit4 test_convnext test_convnext2 test_convnext3 test_nfnet",
        64: "resnet10t mobilenetv3_small_050 lcnet_035 ghostnet_050 ghostnetv2_100 repghostnet_050 mnasnet_small "
        "semnasnet_075 regnetx_002 regnety_002 resnet18d resnetblur18 skresnet18 seresnet18 legacy_seresnet18 "
        "ese_vovnet19b_slim_dw dla46_c dla46x_c gernet_s hardcorenas_a spnasnet_100 fbnetc_100 tinynet_e "
        "mobilenetv4_conv_small_050 mobileone_s0 hrnet_w18_small selecsls42 hgnetv2_b0 tf_efficientnet_b0 "
        "efficientnet_es mixnet_s rexnet_100 convnext_atto convnextv2_atto convnext_femto_ols inception_next_atto "
        "mambaout_femto starnet_s050 rdnet_tiny edgenext_xx_small fastvit_t8 repvgg_a0 resnet26d eca_resnet33ts "
        "gcresnext26ts bat_resnext26ts lambda_resnet26t halonet26t botnet26t_256 sebotnet33ts_256 eca_nfnet_l0 "
        "nf_resnet26 nf_regnet_b0 dm_nfnet_f0 resnetv2_50x1_bit resnetv2_18 cspdarknet53 darknet53 res2net50_26w_4s "
        "densenet121 dpn48b xception41p cs3darknet_s efficientvit_b0 repvit_m0_9 swiftformer_xs",
        224: "vit_tiny_patch16_224 deit_tiny_distilled_patch16_224 deit3_small_patch16_224 beit_base_patch16_224 "
        "eva02_tiny_patch14_224 xcit_nano_12_p16_224 pit_ti_224 levit_128s cait_xxs24_224 convit_tiny "
        "crossvit_tiny_240 coat_lite_tiny mixer_s32_224 gmlp_ti16_224 resmlp_12_224 gmixer_12_224 poolformer_s12 "
        "poolformerv2_s12 mobilevit_xxs mobilevitv2_050 efficientformer_l1 efficientformerv2_s0 efficientvit_m0 "
        "tiny_vit_5m_224 pvt_v2_b0 mvitv2_tiny twins_svt_small visformer_tiny tnt_s_patch16_224 nest_tiny "
        "swin_tiny_patch4_window7_224 gcvit_xxtiny davit_tiny focalnet_tiny_srf coatnet_nano_rw_224 hiera_tiny_224 "
        "sequencer2d_s volo_d1_224 nextvit_small caformer_s18 convformer_s18 vit_relpos_small_patch16_224 "
        "vit_tiny_r_s16_p8_224 samvit_base_patch16_224 mobilenetv4_hybrid_medium",
        256: "maxvit_rmlp_pico_rw_256 maxvit_pico_rw_256 swinv2_tiny_window8_256",
    }.items()
    for name in names.split()
}
TRANSFORMERS = (  # noqa: SIM905
    "bert roberta albert electra distilbert mpnet deberta deberta-v2 mobilebert squeezebert convbert funnel fnet "
    "nystromformer layoutlm ibert xlm xlnet camembert rembert roformer megatron-bert ernie yoso esm luke canine "
    "perceiver splinter gpt2 gpt_neo gpt_neox gptj opt bloom llama mistral mixtral qwen2 qwen3 phi gemma gemma2 "
    "gemma3_text falcon mpt stablelm codegen ctrl openai-gpt biogpt xglm persimmon olmo olmo2 cohere granite "
    "starcoder2 mamba mamba2 rwkv xlstm t5 bart mbart pegasus m2m_100 marian blenderbot blenderbot-small longt5 "
    "prophetnet fsmt led switch_transformers vit deit beit dinov2 swin swinv2 convnext convnextv2 poolformer "
    "segformer mobilevit mobilevitv2 resnet regnet levit mobilenet_v1 mobilenet_v2 efficientnet focalnet cvt "
    "pvt pvt_v2 dpt glpn vit_mae ijepa yolos bit swiftformer wav2vec2 hubert wavlm unispeech sew data2vec-audio "
    "data2vec-text data2vec-vision whisper speech_to_text audio-spectrogram-transformer clip_vision_model "
    "clip_text_model siglip_vision_model modernbert"
).split()
"""Kinds of :class:`transformers.AutoConfig`."""

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "embedding_size": 16,
    "d_model": 16,
    "n_embd": 16,
    "emb_dim": 16,
    "dim": 16,
    "word_embed_proj_dim": 16,
    "intermediate_size": 24,
    "ffn_dim": 24,
    "d_ff": 24,
    "d_inner": 24,
    "n_inner": 24,
    "hidden_dim": 24,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "num_attention_heads": 2,
    "num_heads": 2,
    "n_head": 2,
    "n_heads": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_encoder_attention_heads": 2,
    "num_decoder_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "d_kv": 8,
    "max_position_embeddings": 40,
    "n_positions": 40,
    "n_ctx": 40,
    "image_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "use_cache": False,
    "mask_time_prob": 0.0,
    "_attn_implementation": "eager",
}
"""What makes a configuration small, where it has such a key."""
OWN: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "xlnet": {"d_head": 8},
    "squeezebert": {"q_groups": 2, "k_groups": 2, "v_groups": 2, "post_attention_groups": 1},
    "funnel": {"block_sizes": [1, 1], "d_head": 8, "num_hidden_layers": None},
    "wav2vec2": {"conv_dim": [16, 16], "conv_kernel": [5, 3], "conv_stride": [3, 2], "num_feat_extract_layers": 2},
    "swin": {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "swinv2": {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "convnext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "convnextv2": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "regnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 4},
    "levit": {"image_size": 224},
    "poolformer": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "segformer": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
    "mamba": {"state_size": 4, "time_step_rank": 2},
    "mobilebert": {"intra_bottleneck_size": 16, "true_hidden_size": 16},
    "prophetnet": {"ngram": 1, "num_hidden_layers": None},
    "gptj": {"rotary_dim": 4},
    "codegen": {"rotary_dim": 4},
    "perceiver": {"d_model": 16, "d_latents": 16, "num_latents": 8, "num_self_attends_per_block": 1},
    "longt5": {"local_radius": 3},
    "modernbert": {"cls_token_id": 1, "sep_token_id": 2, "local_attention": 8},
}
OWN |= dict.fromkeys(("hubert", "wavlm", "unispeech", "sew", "data2vec-audio"), OWN["wav2vec2"])
NOISE = 0.03


class Architecture(NamedTuple):
    """A network that can be made: in evaluation mode, and what it is called with."""

    name: str
    make: Callable[[], tuple[nn.Module, tuple[torch.Tensor, ...]]]


class Answer(nn.Module):
    """A network of transformers called with tensors alone; its first output."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        found = self.model(**dict(zip(self.names, (x, y), strict=False)), return_dict=True)
        return next(value for value in found.values() if isinstance(value, torch.Tensor))


class First(nn.Module):
    """The first of a network's outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.model(x)
        found = next(iter(found.values())) if isinstance(found, dict) else found
        return found[0] if isinstance(found, (tuple, list)) else found


def architectures() -> Iterator[Architecture]:
    """All of them: transformers' first, as they are smallest."""
    for name in TRANSFORMERS:
        yield Architecture(f"transformers/{name}", lambda name=name: _transformer(name))
    for name, size in TIMM.items():
        yield Architecture(f"timm/{name}", lambda name=name, size=size: _timm(name, size))
    for name in TORCHVISION:
        yield Architecture(f"torchvision/{name}", lambda name=name: _torchvision(name))


def moved(network: nn.Module) -> nn.Module:
    """*network* in evaluation mode, its parameters and running statistics moved by noise."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=random)
                parameter.add_(NOISE * noise * (1 + parameter.abs()))
        for name, buffer in network.named_buffers():
            if name.rpartition(".")[2] in ("running_mean", "running_var"):
                buffer.add_(NOISE * torch.rand(buffer.shape, generator=random))
    return network.eval()


def _torchvision(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    models = torchvision_models()
    builder = getattr(models, name, None) or getattr(models.segmentation, name)
    size = SIZES.get(name, SIZE)
    return moved(First(builder(weights=None, **OPTIONS.get(name, {})))), (torch.randn(2, 3, size, size),)


def _timm(name: str, size: int) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torchvision_models()
    import timm

    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=5)
    size = network.pretrained_cfg["input_size"][1] if size == 224 else size
    return moved(First(network)), (torch.randn(2, 3, size, size),)


def _transformer(kind: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torchvision_models()
    import transformers

    torch.manual_seed(0)
    config, own = transformers.AutoConfig.for_model(kind), OWN.get(kind, {})
    for key, value in (SMALL | own).items():
        with suppress(AttributeError, NotImplementedError):  # what can only be read follows from others
            if value is not None and (key in own or isinstance(getattr(config, key, None), (int, float, str, bool))):
                setattr(config, key, value)
    network = transformers.AutoModel.from_config(config)
    return moved(Answer(network, _call(network, config))), _example(network, config)


def _call(network: nn.Module, config: Any) -> tuple[str, ...]:
    """The inputs that it is called with."""
    main = network.main_input_name
    if getattr(config, "is_encoder_decoder", False) and main != "pixel_values":
        return main, "decoder_input_ids"
    masked = main == "input_ids" and "attention_mask" in inspect.signature(network.forward).parameters
    return (main, "attention_mask") if masked else (main,)


def _example(network: nn.Module, config: Any) -> tuple[torch.Tensor, ...]:
    ids = torch.randint(3, 50, (2, 12))
    main = network.main_input_name
    if main == "pixel_values":
        size = getattr(config, "image_size", SIZE)
        height, width = size if isinstance(size, (tuple, list)) else (size, size)
        examples: tuple[torch.Tensor, ...] = (torch.randn(2, getattr(config, "num_channels", 3), height, width),)
    elif main == "input_values":
        audio = (2, config.max_length, config.num_mel_bins) if hasattr(config, "num_mel_bins") else (2, 400)
        examples = (torch.randn(audio),)
    elif main == "input_features":
        bins = getattr(config, "num_mel_bins", None) or config.input_feat_per_channel
        whisper = hasattr(config, "num_mel_bins")
        examples = (torch.randn(2, bins, 2 * config.max_source_positions) if whisper else torch.randn(2, 40, bins),)
    else:
        examples = (ids,)
    second = {"decoder_input_ids": ids[:, :7], "attention_mask": torch.ones_like(ids)}
    return (*examples, *(second[name] for name in _call(network, config)[1:]))
