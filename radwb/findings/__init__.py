"""What findings and devices are called, and which finding is a kind of which.

Left of all rooms: nothing else of radwb is imported here, so that labels, masks,
reports, prompts, figures and the simulator share one definition.
"""

from radwb.findings.rows import FINDINGS

__all__ = ["FINDINGS"]
