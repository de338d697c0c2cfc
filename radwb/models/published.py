"""Published networks that the catalog of data names, each by its own name."""

from radwb import data
from radwb.models.encoders3d import load_astra
from radwb.models.hub import published_folder
from radwb.models.keras_file import keras_model, read_keras
from radwb.models.language import load_smollm2
from radwb.models.sources import fill
from radwb.models.text import MiniLM

KERMANY_NOTES = (
    "trained by its publisher on children's films of Kermany et al.; how they were "
    "made square isn't stated: squashed, as Keras does, is assumed",
)


def _kermany_xception(name, *, download):
    (file,) = published_folder(name, download=download).glob("*.keras")
    net, tensors = read_keras(file)
    classes = ["No Finding", "Pneumonia"]  # NORMAL, PNEUMONIA
    model = keras_model(net, name, classes, KERMANY_NOTES)
    model.notes += fill(net, tensors, file)
    model.licence = data.catalog().set_index("name").loc[name, "licence"]
    return model


def _minilm(name, *, download):
    return MiniLM(download=download)


# name -> (name, download) -> the network
PUBLISHED = {
    "astra-ct": load_astra,
    "kermany-xception": _kermany_xception,
    "minilm": _minilm,
    "smollm2": load_smollm2,
}
