"""Maps on volumes: by a 3-D network over all of it, or a 2-D model slice by slice."""

from radwb.attend.volumes.cells import Cells, cells
from radwb.attend.volumes.maps import METHODS_3D, volume_map
from radwb.attend.volumes.slices import slice_maps
from radwb.models.net3d import Net3d

__all__ = ["METHODS_3D", "Cells", "Net3d", "cells", "slice_maps", "volume_map"]
