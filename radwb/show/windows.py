"""The windows of a CT that a radiologist asks for by name, in Hounsfield units."""

SOFT_TISSUE_HU = (-160, 240)
# their keys in a viewer are 1, 2, 3, 4
WINDOWS_HU = {
    "Lung": (-1350, 150),
    "Mediastinum": (-125, 225),
    "Bone": (-500, 1300),
    "Soft tissue": SOFT_TISSUE_HU,
}
