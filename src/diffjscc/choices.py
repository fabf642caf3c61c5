"""The words that users choose from. Nothing is imported, so that the command line starts fast."""

from typing import Literal

TDLName = Literal["tdl-a", "tdl-b", "tdl-c", "tdl-d", "tdl-e"]
ChannelName = Literal["awgn", "rayleigh", "rician", "erasures", "ofdm", TDLName, "custom"]
EqualiserName = Literal["none", "zf", "mmse"]
DigitalKind = Literal[
    "bpg-ldpc",
    "bpg-capacity",
    "bpg-420-ldpc",
    "bpg-420-capacity",
    "bpgenc-ldpc",
    "bpgenc-capacity",
    "jpeg-ldpc",
    "jpeg-capacity",
    "jpeg2000-ldpc",
    "jpeg2000-capacity",
    "webp-ldpc",
    "webp-capacity",
    "avif-ldpc",
    "avif-capacity",
]
ModulationName = Literal["bpsk", "qpsk", "16-qam", "64-qam", "256-qam"]
ConstellationName = Literal["bpsk", "qpsk", "8-psk", "16-psk", "16-qam", "64-qam", "256-qam"]
CodeRateName = Literal["1/2", "2/3", "3/4", "5/6"]
NeuralKind = Literal["deepjscc", "diffjscc", "adv", "ddnm", "feedback", "isec"]
Resend = Literal["uncertain", "everything"]
SchemeKind = Literal[NeuralKind, DigitalKind, "generator", "custom"]
RefinerName = Literal["diffusion", "isec", "none"]
SamplerName = Literal["ddpm", "ddim", "dpm-solver++", "unipc"]
Start = Literal["noise", "initial"]
CaptionEnd = Literal["receiver", "transmitter"]
CaptionerName = Literal["blip2", "none"]
ColourFix = Literal["wavelet", "adain", "none"]
Geometry = Literal["reflect", "released"]
DTypeName = Literal["auto", "float32", "float16", "bfloat16", "float16-storage"]
Listed = Literal["weights", "rates", "schemes", "channels", "configs"]
TrainedChannel = Literal["awgn", "rayleigh"]
WeightsFormat = Literal["diffjscc", "released"]
LPIPSNet = Literal["squeeze", "alex", "vgg"]
MetricName = Literal["psnr", "ms_ssim", "lpips", "lpips_alex", "lpips_vgg", "niqe"]
DEFAULT_METRICS: tuple[MetricName, ...] = ("psnr", "ms_ssim", "lpips", "niqe")
QualityEstimate = Literal["predict", "simulate"]
FeatureName = Literal["squeezenet", "inception"]
PlotFormat = Literal["png", "pdf", "svg"]
FigureName = Literal["fig1", "fig3", "fig4", "fig5", "fig6", "fig7", "fig8"]
FigureChoice = Literal[FigureName, "deepjscc", "all"]
Prediction = Literal["epsilon", "v_prediction"]  # of a prior, named as in diffusers
WaveformName = Literal["ofdm-64", "ofdm-1024", "single-carrier"]
DatatypeName = Literal["cf32_le", "ci16_le"]
