"""Maps on volumes: a 3-D network over the whole of it, or a 2-D model slice by slice."""

from radwb.attend.volumes.maps import METHODS_3D, Net3d, slice_maps, volume_map

__all__ = ["METHODS_3D", "Net3d", "slice_maps", "volume_map"]
