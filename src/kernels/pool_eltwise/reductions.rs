//! What a window is reduced to: its maximum, with or without an affine map, its mean, a normalised pixel.

use super::lanes::{Lanes, MOST_LANES};

/// What a window is reduced to.
pub(super) trait Reduction<L: Lanes>: Copy {
    /// What lies beyond the plane; joined to a pixel, it changes nothing.
    const BORDER: f32;

    /// Whether [`Reduction::last`] looks at the pixel amid the window. Where it does, there is one for each.
    const OWN: bool = false;

    /// What is reduced of a pixel.
    #[inline(always)]
    fn first(self, _: L, pixels: L::Vector) -> L::Vector {
        pixels
    }

    /// Two of them.
    fn join(self, lanes: L, a: L::Vector, b: L::Vector) -> L::Vector;

    /// Whether [`Reduction::join_finite`] takes fewer instructions than [`Reduction::join`].
    const FINITE_IS_FASTER: bool = false;

    /// Two of them, of pixels that are finite.
    #[inline(always)]
    fn join_finite(self, lanes: L, a: L::Vector, b: L::Vector) -> L::Vector {
        self.join(lanes, a, b)
    }

    /// What becomes of the whole window's.
    fn last(self, lanes: L, reduced: L::Vector, own: L::Vector) -> L::Vector;
}

/// The maximum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maximum;

impl<L: Lanes> Reduction<L> for Maximum {
    const BORDER: f32 = f32::NEG_INFINITY;
    const FINITE_IS_FASTER: bool = true;

    #[inline(always)]
    fn join(self, lanes: L, a: L::Vector, b: L::Vector) -> L::Vector {
        lanes.larger(a, b)
    }

    #[inline(always)]
    fn join_finite(self, lanes: L, a: L::Vector, b: L::Vector) -> L::Vector {
        lanes.at_least(a, b)
    }

    #[inline(always)]
    fn last(self, _: L, largest: L::Vector, _: L::Vector) -> L::Vector {
        largest
    }
}

/// The maximum of scale x + shift, as |scale| times that of the pixels, taken with the sign of the scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct AffineMaximum {
    sign: f32,
    scale: f32,
    shift: f32,
}

impl AffineMaximum {
    pub(super) fn new(scale: f32, shift: f32) -> Self {
        let sign = if scale < 0.0 { -1.0 } else { 1.0 };
        Self { sign, scale: sign * scale, shift }
    }
}

impl<L: Lanes> Reduction<L> for AffineMaximum {
    const BORDER: f32 = f32::NEG_INFINITY;
    const FINITE_IS_FASTER: bool = true;

    #[inline(always)]
    fn first(self, lanes: L, pixels: L::Vector) -> L::Vector {
        lanes.multiply(lanes.splat(self.sign), pixels)
    }

    #[inline(always)]
    fn join(self, lanes: L, a: L::Vector, b: L::Vector) -> L::Vector {
        lanes.larger(a, b)
    }

    #[inline(always)]
    fn join_finite(self, lanes: L, a: L::Vector, b: L::Vector) -> L::Vector {
        lanes.at_least(a, b)
    }

    #[inline(always)]
    fn last(self, lanes: L, largest: L::Vector, _: L::Vector) -> L::Vector {
        lanes.add(lanes.multiply(lanes.splat(self.scale), largest), lanes.splat(self.shift))
    }
}

/// The mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean {
    /// That of a pixel: 1 over their number.
    pub share: f32,
}

impl<L: Lanes> Reduction<L> for Mean {
    const BORDER: f32 = 0.0;

    #[inline(always)]
    fn join(self, lanes: L, a: L::Vector, b: L::Vector) -> L::Vector {
        lanes.add(a, b)
    }

    #[inline(always)]
    fn last(self, lanes: L, sum: L::Vector, _: L::Vector) -> L::Vector {
        lanes.multiply(lanes.splat(self.share), sum)
    }
}

/// The window's own pixel over (1 + share times the sum of squares)^beta.
#[derive(Clone, Copy, Debug)]
pub(super) struct Normalised {
    /// Weight of a square.
    pub share: f32,
    /// The exponent.
    pub beta: f32,
}

impl<L: Lanes> Reduction<L> for Normalised {
    const BORDER: f32 = 0.0;
    const OWN: bool = true;

    #[inline(always)]
    fn first(self, lanes: L, pixels: L::Vector) -> L::Vector {
        lanes.multiply(pixels, pixels)
    }

    #[inline(always)]
    fn join(self, lanes: L, a: L::Vector, b: L::Vector) -> L::Vector {
        lanes.add(a, b)
    }

    #[inline(always)]
    fn last(self, lanes: L, sum: L::Vector, own: L::Vector) -> L::Vector {
        let base = lanes.add(lanes.splat(1.0), lanes.multiply(lanes.splat(self.share), sum));
        let power = if self.beta == 0.75 {
            let root = lanes.root(base);
            lanes.multiply(root, lanes.root(root))
        } else {
            let mut powers = [0.0; MOST_LANES];
            // SAFETY: the array has as many floats as the longest vector.
            unsafe { lanes.store(base, powers.as_mut_ptr()) };
            for value in &mut powers[..L::LANES] {
                *value = value.powf(self.beta);
            }
            // SAFETY: as before.
            unsafe { lanes.load(powers.as_ptr()) }
        };
        lanes.divide(own, power)
    }
}
