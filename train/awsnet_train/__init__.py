"""From partly annotated faces to a model file that awsnet runs.

network = from_modules(emotion, au, torch.zeros(1, 3, 112, 112), emotions=EMOTIONS, aus=AUS, mean=MEAN, std=STD)
loss = partial_loss(network(images), Annotations(emotion, au))
save_model(network, "model.safetensors")
"""

from .architectures import from_resnets, small
from .aws_unit import ChannelUnit, DenseUnit, GateUnit, LayerUnit
from .join import as_branch, join_models, with_units
from .losses import UNKNOWN, Annotations, partial_loss
from .manifest import ModelError
from .model_file import load_model, save_model, save_tensors
from .modules import from_modules
from .network import AwsNet, Logits, freeze, leave_alone, parameter_groups, share_trunk

__all__ = [
    "UNKNOWN",
    "Annotations",
    "AwsNet",
    "ChannelUnit",
    "DenseUnit",
    "GateUnit",
    "LayerUnit",
    "Logits",
    "ModelError",
    "as_branch",
    "freeze",
    "from_modules",
    "from_resnets",
    "join_models",
    "leave_alone",
    "load_model",
    "parameter_groups",
    "partial_loss",
    "save_model",
    "save_tensors",
    "share_trunk",
    "small",
    "with_units",
]
