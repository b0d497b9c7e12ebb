"""Where the part lies in a frame, against the recipe's reference picture; frames are warped onto that picture.

The pose is a similarity: a shift, an angle and a scale. It is found on a reduced grey frame without its slow changes of
light: by phase correlation (Kuglin and Hines 1975), else from ORB features and RANSAC, and refined by ECC (Evangelidis
and Psarakis 2008). Only the region of interest of the reference takes part, so that a background that stays where it is
does not hold the part. The pose's score is the correlation of both pictures there, computed anew with the final pose.

Everything here runs on the CPU, before the upload.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from inspector.config import FixtureLimits
from inspector.detection.decision import Mask
from inspector.detection.parts import stretch
from inspector.errors import NotLocatedError, RecipeError
from inspector.types import Pose, Region

Array = np.ndarray[Any, Any]

_REDUCED_SIDE = 256
"""Of the picture that the pose is found on: about so many pixels on the longer side."""
_LIGHT_SIGMA = 6.0
"""Reduced pixels: brightness that changes more slowly is the lamp's, not the part's."""
_LEAST_TEXTURE = 0.5
"""Grey levels, standard deviation in the region of interest: below, noise would decide on the pose."""
_ECC = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-4)
_ECC_BLUR = 5
_FEATURES = 800
_FEWEST_MATCHES = 8
_RANSAC_PX = 2.0
_FILL = cv2.BORDER_REFLECT_101
"""What a warped frame shows where the camera saw nothing: as at the edge of a grid of tiles. None of it is judged."""


def reduce_grey(image: Array) -> Array:
    """The picture that poses are found on, of a frame at the network's scale.

    Args:
        image: (h, w, 3) RGB or (h, w), uint8 or float32 in [0, 255].

    Returns:
        (h // k, w // k) uint8, k a whole number.
    """
    height, width = image.shape[:2]
    factor = _choose_factor((height, width))
    rows, columns = height // factor, width // factor
    cropped = image[: rows * factor, : columns * factor]
    small = cv2.resize(cropped, (columns, rows), interpolation=cv2.INTER_AREA) if factor > 1 else cropped
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) if small.ndim == 3 else small
    return np.asarray(grey.round() if grey.dtype != np.uint8 else grey, dtype=np.uint8)


def _choose_factor(image_hw: tuple[int, int]) -> int:
    return max(1, round(max(image_hw) / _REDUCED_SIDE))


@dataclass(frozen=True, slots=True)
class _Found:
    """A pose: 2 × 3, reference → frame, in numbers of reduced pixels; and its score."""

    matrix: Array
    score: float


class Fixture:
    """A recipe's reference picture. Stateless after construction: may be shared between threads."""

    def __init__(
        self, limits: FixtureLimits, reference: Array, roi: Mask, frame_hw: tuple[int, int], image_hw: tuple[int, int]
    ) -> None:
        """Prepare a reference.

        Args:
            limits: what a pose must keep to.
            reference: (h, w) uint8, as `reduce_grey` gave it.
            roi: (H, W) uint8, above 0 where the part is; of the frame's aspect.
            frame_hw: size of the camera's frames.
            image_hw: their size at the network's scale.

        Raises:
            RecipeError: the picture has another size, or shows nothing in the region of interest.
        """
        self.limits = limits
        self._frame_hw, self._image_hw = frame_hw, image_hw
        self._factor = _choose_factor(image_hw)
        expected = (image_hw[0] // self._factor, image_hw[1] // self._factor)
        if reference.shape != expected:
            raise RecipeError(f"fixture: the reference must be {expected}, for frames of {frame_hw}, "
                              f"got {reference.shape}")  # fmt: skip
        self._roi = stretch(roi, expected)
        self._grey, self._reference = reference, _flatten_light(reference)
        self._measure_reference()
        self._corners = _find_hull(stretch(roi, image_hw))
        self._features = _build_orb().detectAndCompute(_widen(reference), np.where(self._roi > 0, 255, 0).astype("u1"))

    def _measure_reference(self) -> None:
        inside = self._roi > 0
        deviation = float(self._reference[inside].std())
        if deviation < _LEAST_TEXTURE:
            raise RecipeError(
                f"fixture: the reference must show texture in the region of interest: a standard deviation of at "
                f"least {_LEAST_TEXTURE} grey levels, got {deviation:.2g}"
            )
        soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), _LIGHT_SIGMA)
        self._windowed = self._reference * soft

    def locate(self, image: Array) -> Pose:
        """Find the part in a frame at the network's scale, as in `reduce_grey`.

        Raises:
            NotLocatedError: it fits worse than it may, lies beyond the limits, or is not in the frame as a whole.
        """
        try:
            pose = self._to_pose(self._find(reduce_grey(image)))
        except cv2.error as error:
            raise NotLocatedError(f"pose: cannot be computed: {error}") from error
        self._check(pose)
        return pose

    def _find(self, grey: Array) -> _Found:
        frame = _flatten_light(grey)
        best = self._refine(frame, self._correlate(frame))
        if not best.score >= self.limits.min_score and (start := self._match(grey)) is not None:
            best = max(best, self._refine(frame, start), key=lambda found: found.score)
        return best

    def _correlate(self, frame: Array) -> Array:
        (right, down), _ = cv2.phaseCorrelate(self._windowed, frame.astype(np.float32))
        return np.array([[1.0, 0.0, right], [0.0, 1.0, down]])

    def _match(self, grey: Array) -> Array | None:
        """A similarity from features; None where too few agree."""
        points, descriptors = self._features
        found, others = _build_orb().detectAndCompute(_widen(grey), None)
        if descriptors is None or others is None:
            return None
        matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(descriptors, others)
        if len(matches) < _FEWEST_MATCHES:
            return None
        source = np.array([points[match.queryIdx].pt for match in matches], dtype=np.float32)
        target = np.array([found[match.trainIdx].pt for match in matches], dtype=np.float32)
        matrix, agree = cv2.estimateAffinePartial2D(
            source, target, method=cv2.RANSAC, ransacReprojThreshold=_RANSAC_PX, maxIters=2000
        )
        return matrix if matrix is not None and int(agree.sum()) >= _FEWEST_MATCHES else None

    def _refine(self, frame: Array, start: Array) -> _Found:
        """Move and turn a first guess (2 × 3) until the pictures agree; itself where that makes it no better."""
        first = _Found(start, self._score(frame, start))
        aligned = _warp(frame, start, self._reference.shape)
        turn = np.eye(2, 3, dtype=np.float32)
        try:
            # The reference is the one that is moved: only that side's mask is known to every OpenCV.
            _, turn = cv2.findTransformECC(
                aligned, self._reference, turn, cv2.MOTION_EUCLIDEAN, _ECC, self._roi, _ECC_BLUR
            )
        except cv2.error:  # no correlation, or it did not settle
            return first
        matrix = (_square(start) @ np.linalg.inv(_square(turn)))[:2]
        return max(first, _Found(matrix, self._score(frame, matrix)), key=lambda found: found.score)

    def _score(self, frame: Array, matrix: Array) -> float:
        """Correlation, −1 to 1, in the region of interest; 0 where the frame is flat there."""
        inside = self._roi > 0
        here, there = _warp(frame, matrix, self._reference.shape)[inside], self._reference[inside]
        here, there = here - here.mean(), there - there.mean()
        spread = float(np.sqrt((here @ here) * (there @ there)))
        return float(here @ there) / spread if spread > 0 else 0.0

    def _to_pose(self, found: _Found) -> Pose:
        """From reduced pixels to the frame's, about its middle."""
        matrix = found.matrix.astype(np.float64)
        scale = math.hypot(matrix[0, 0], matrix[1, 0])
        linear = matrix[:, :2]
        shift = (matrix[:, 2] + 0.5 - linear @ (0.5, 0.5)) * self._factor  # from pixel numbers to places, (x, y)
        middle = np.array(self._image_hw[::-1]) / 2
        shift = shift + linear @ middle - middle
        right, down = shift * np.array(self._frame_hw[::-1]) / np.array(self._image_hw[::-1])
        angle = math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
        return Pose(float(right), float(down), angle, scale, found.score)

    def _check(self, pose: Pose) -> None:
        limits = self.limits
        if not pose.score >= limits.min_score:
            raise NotLocatedError(f"pose: score must be at least {limits.min_score:.3g}, got {pose.score:.3g}")
        if not abs(pose.angle_deg) <= limits.max_angle_deg:
            raise NotLocatedError(f"pose: angle must be at most {limits.max_angle_deg:g}°, got {pose.angle_deg:.1f}°")
        if not abs(pose.scale - 1) <= limits.max_scale_change:
            raise NotLocatedError(f"pose: scale must be within 1 ± {limits.max_scale_change:g}, got {pose.scale:.3f}")
        height, width = self._image_hw
        corners = self._corners @ _build_matrix(pose, self._image_hw, self._frame_hw).T
        beyond = float(max((-0.5 - corners).max(), (corners - (width - 0.5, height - 0.5)).max()))
        if not beyond <= 0:
            off = math.ceil(beyond * self._frame_hw[1] / width) if math.isfinite(beyond) else beyond
            raise NotLocatedError(f"pose: the region of interest must lie in the frame, reaches {off} px beyond")

    def straighten(self, pixels: Array, image: Array) -> Array:
        """A frame at the sensor's scale, as in `Frame`, warped onto the reference; `image` is it, as for `locate`."""
        pose = self.locate(image)
        return _warp(pixels, _build_matrix(pose, self._frame_hw, self._frame_hw), self._frame_hw)

    def draw_frame(self, like: Array) -> Array:
        """The reference, enlarged to a frame of the shape and dtype of another one."""
        grey = cv2.resize(self._grey, self._frame_hw[::-1]).astype(like.dtype)
        if like.dtype == np.uint16:
            grey = grey * 257
        return grey if like.ndim == 2 else np.asarray(cv2.merge([grey] * 3))

    def align(self, image: Array, pose: Pose) -> Array:
        """A frame at the network's scale, warped onto the reference; made up by reflection where nothing was seen."""
        return _warp(image, _build_matrix(pose, self._image_hw, self._frame_hw), self._image_hw)


def unwarp_map(anomaly_map: Array, pose: Pose, frame_hw: tuple[int, int]) -> Array:
    """A map (h, w) float32 of an aligned frame, as it lies over the frame as the camera took it; 0 where it ends."""
    matrix = _build_matrix(pose, anomaly_map.shape, frame_hw)
    return np.asarray(cv2.warpAffine(anomaly_map, matrix, anomaly_map.shape[::-1], flags=cv2.INTER_LINEAR))


def unwarp_place(xy: tuple[int, int], pose: Pose, frame_hw: tuple[int, int]) -> tuple[int, int]:
    """A place of an aligned frame, in sensor pixels, in the frame as the camera took it."""
    x, y = _build_place_matrix(pose, frame_hw, frame_hw) @ (*xy, 1.0)
    return round(x), round(y)


def unwarp_region(region: Region, pose: Pose, frame_hw: tuple[int, int]) -> Region:
    """A region of an aligned frame as the box around it in the frame as the camera took it, cut at its edges."""
    left, top, right, bottom = region.xyxy
    places = np.array([[x, y, 1.0] for x in (left, right) for y in (top, bottom)])  # edges, not pixel numbers
    corners = places @ _build_place_matrix(pose, frame_hw, frame_hw).T
    height, width = frame_hw
    (x0, y0), (x1, y1) = np.floor(corners.min(axis=0) + 1e-6), np.ceil(corners.max(axis=0) - 1e-6)
    x0, y0 = min(max(0, int(x0)), width - 1), min(max(0, int(y0)), height - 1)
    xyxy = (x0, y0, max(x0 + 1, min(int(x1), width)), max(y0 + 1, min(int(y1), height)))
    return Region(xyxy, region.peak, max(1, round(region.area * pose.scale**2)))


def _build_place_matrix(pose: Pose, image_hw: tuple[int, ...], frame_hw: tuple[int, int]) -> Array:
    """2 × 3, reference → frame, for places in an image of the frame: 0 is its left edge, its width the right one."""
    turn = math.radians(pose.angle_deg)
    cosine, sine = pose.scale * math.cos(turn), pose.scale * math.sin(turn)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    middle = np.array(image_hw[::-1]) / 2
    shift = np.array([pose.dx_px, pose.dy_px]) * np.array(image_hw[::-1]) / np.array(frame_hw[::-1])
    return np.column_stack([linear, middle + shift - linear @ middle])


def _build_matrix(pose: Pose, image_hw: tuple[int, ...], frame_hw: tuple[int, int]) -> Array:
    """The same for pixel numbers, which name the middles of pixels."""
    matrix = _build_place_matrix(pose, image_hw, frame_hw)
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return matrix


def _warp(image: Array, matrix: Array, shape: tuple[int, ...]) -> Array:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    if image.ndim == 3:  # OpenCV warps four channels in less than half the time of three (`benchmarks/fixture.py`)
        wide = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
        warped = cv2.warpAffine(wide, matrix, shape[1::-1], flags=flags, borderMode=_FILL)
        return np.asarray(cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB))
    return np.asarray(cv2.warpAffine(image, matrix, shape[1::-1], flags=flags, borderMode=_FILL))


def _square(matrix: Array) -> Array:
    return np.vstack([matrix.astype(np.float64), [0.0, 0.0, 1.0]])


def _flatten_light(grey: Array) -> Array:
    values = grey.astype(np.float32)
    return np.asarray(values - cv2.GaussianBlur(values, (0, 0), _LIGHT_SIGMA))


def _widen(grey: Array) -> Array:
    """Contrast to the full range, so that features of faint parts are found."""
    return np.asarray(cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX))


def _build_orb() -> cv2.ORB:
    return cv2.ORB.create(
        nfeatures=_FEATURES, scaleFactor=1.2, nlevels=4, edgeThreshold=15, patchSize=25, fastThreshold=5
    )


def _find_hull(mask: Mask) -> Array:
    """(n, 3): x, y and 1 of the corners of what is marked; all of it is in a rectangle where these are."""
    ys, xs = np.nonzero(mask)
    hull = cv2.convexHull(np.column_stack([xs, ys]).astype(np.int32))[:, 0]
    return np.column_stack([hull, np.ones(len(hull))]).astype(np.float64)
