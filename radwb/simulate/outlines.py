"""Truth masks: where a reader could outline what is known to be there."""

import numpy as np
import torch
from scipy import ndimage

from radwb.findings import FINDINGS
from radwb.simulate import physics
from radwb.simulate.project import Rays, heart_outline, midline

# least change of the detector's log signal, about 2 % of a film's range from black to
# white
SEEN = 0.05
# scattered over primary signal, a middling grid: it veils what heart and diaphragm
# cover
SCATTER = 0.35
# a smaller piece is dropped beside larger ones, and a smaller hole is filled
PIECE_MM2 = 100.0
# a ray that crosses less of a lung, medial of it, runs through the mediastinum
LUNG_MM = 25.0
# `Body.heart` of the CT, a cardiothoracic ratio of about 0.41; without the finding,
# hearts are drawn from 0.88 to 1.12
AVERAGE_HEART = 1.0


class Outlines:
    """Outlines the findings of one sampled patient.

    A truth mask holds the rays that a finding changes so much that a reader could see
    it, by one rule for all (`Planting` in `radwb.findings.rows` has its numbers):

    - **Seen**: the change of the detector's log signal, scatter included, smoothed over
      `smooth_mm`, exceeds `SEEN`, and a share (`share`) of the finding's own greatest
      change. What fluid, heart or diaphragm hide is thereby left out. A finding that
      nowhere reaches `SEEN`, or lies beside the film, keeps its name and has an empty
      mask; every other has at least one pixel.
    - **Pieces** below `PIECE_MM2` are dropped beside larger ones, holes below it are
        filled.
    - **Side**: on a frontal film a finding of one side ends at the midline
      (`project.midline`), and one that spreads along the lung (`is_layer`) at the
      lung's medial border, so that it doesn't run round the mediastinum; unless nothing
      of it lies elsewhere.

    By finding, where it isn't plainly that:

    - **Cardiomegaly**: the enlargement, not the heart: what the heart covers beyond an
      average heart (`AVERAGE_HEART`) in the same patient, where it meets lung. Every
      film has a heart, so that a map on its middle says nothing of its size; this is
      where the film would change if the heart were average, as with all other findings.
      Score a map against it; a reader's outline of the organ is "Heart" (`render(...,
      organs=True)`).
    - **Pneumothorax**: from the chest wall to the visceral line, more air than lung; in
      the supine, where no ray may run through air alone, where the air is deepest.
    - **Atelectasis**, lobar: the airless lung, not the heart and the diaphragm that it
        pulls along.
    - **Support Devices**: the metal and plastic; wires are thin, cross the midline and
        keep all their pieces.
    """

    def __init__(self, rays: Rays, lungs):
        self.rays = rays
        self.lungs = lungs
        self.ground = physics.line_integral(rays.paths)
        self.primary = torch.exp(-self.ground)
        blurred = physics.blur(self.primary.numpy(), len(self.primary) / 10)
        self.scattered = SCATTER * torch.from_numpy(blurred)

    def seen(self, signal):
        """(H, W) unsigned change of the detector's log signal.

        Args:
            signal: (H, W) change of the line integral.
        """
        before = self.primary + self.scattered
        after = self.primary * torch.exp(-signal) + self.scattered
        return torch.log(before / after).abs()

    def shape(self, finding, signal, density):
        """(H, W) bool, where a finding lies, however faint.

        Its contrast to noise is taken there.
        """
        if finding.name == "Support Devices":
            return self.seen(signal) > SEEN
        if finding.name == "Pneumothorax":
            lies = self._beyond_the_line(finding, density)
        else:
            change = self._smooth(finding.name, self.seen(signal))
            share = FINDINGS[finding.name].planting.share
            lies = change > share * change.max().clamp(min=1e-6)
        placed = lies & self._place(finding)
        return placed if placed.any() else lies

    def mask(self, finding, shape, signal):
        """(H, W) bool, the truth mask: what of its shape is seen, without specks."""
        change = self.seen(signal)
        if finding.name == "Support Devices":
            return change > SEEN  # wires are thin, and keep all their pieces
        if finding.name == "Pneumothorax":
            # outlined by its line, faint as the air may be over the lung's rim
            visible = shape & (change.max() > SEEN)
        else:
            visible = shape & (self._smooth(finding.name, change) > SEEN)
        if not visible.any() and change.max() > SEEN:
            visible = change > SEEN
        return whole(visible, self.rays.pixel_mm)

    def heart(self):
        """(H, W) bool, by how much the heart is too large."""
        average = heart_outline(self.rays, AVERAGE_HEART)
        grown = self.rays.heart & ~average
        beside = grown & (self.rays.lung_mm > LUNG_MM)
        smooth = self._smooth("Cardiomegaly", beside.float()) > 0.5
        if not smooth.any():
            smooth = grown
        return whole(smooth, self.rays.pixel_mm)

    def _smooth(self, name, change):
        sigma = FINDINGS[name].planting.smooth_mm / self.rays.pixel_mm
        return torch.from_numpy(physics.blur(change.numpy(), sigma))

    def _beyond_the_line(self, finding, density):
        lungs = self.lungs
        here = lungs.on(finding.side)
        emptied = here & (density < 0.3 * lungs.density)
        total = self._smooth(finding.name, 10 * lungs.project(here.float()))
        air = self._smooth(finding.name, 10 * lungs.project(emptied.float()))
        most = float(air.max())
        beyond = (air > min(15.0, 0.5 * most)) & (air > 0.6 * total)
        if self.rays.anatomy.axis == 1 and not lungs.supine:
            beyond = _from_the_wall(beyond, finding.side)
        if beyond.any():
            return beyond
        return air > 0.5 * most  # in the supine no ray may run through air alone

    def _place(self, finding):
        """(H, W) bool, where an outline may lie.

        That is on its side, and along a lung not medial of it.
        """
        allowed = torch.ones_like(self.ground, dtype=torch.bool)
        if self.rays.anatomy.axis != 1:
            return allowed
        if finding.side:
            to_the_left = midline(self.rays) > 0
            allowed = to_the_left if finding.side == "left" else ~to_the_left
        if FINDINGS[finding.name].planting.is_layer:
            sides = (finding.side,) if finding.side else ("right", "left")
            beside = [self._lateral_of_border(side) for side in sides]
            allowed = allowed & torch.stack(beside).any(0)
        return allowed

    def _lateral_of_border(self, side):
        """(H, W) bool, from the skin to the medial border of a lung.

        The patient's right is on the left.
        """
        thick = (self.lungs.path_mm(side) > LUNG_MM).int()
        if side == "left":
            return thick.cummax(1).values.bool()
        return thick.flip(1).cummax(1).values.flip(1).bool()


def _from_the_wall(mask, side):
    """Of each row of a mask (H, W) the run that is nearest to a side's chest wall."""
    inward = mask.flip(1) if side == "left" else mask
    begun = inward.int().cummax(1).values.bool()
    over = (begun & ~inward).int().cummax(1).values.bool()
    run = inward & ~over
    return run.flip(1) if side == "left" else run


def whole(mask, pixel_mm):
    """A mask (H, W) without specks.

    Small pieces are dropped, but not the largest; small holes are filled.
    """
    least = PIECE_MM2 / pixel_mm**2
    holes, size = _pieces(~mask.numpy())
    filled = mask.numpy() | ((size < least) & (size > 0))[holes]
    pieces, size = _pieces(filled)
    if len(size) == 1:
        return mask
    return torch.from_numpy(((size >= least) | (size == size.max()))[pieces])


def _pieces(mask):
    """(H, W) the number of each pixel's piece, and the pieces' sizes; 0 is none."""
    pieces, _ = ndimage.label(mask)
    size = np.bincount(pieces.ravel())
    size[0] = 0
    return pieces, size
