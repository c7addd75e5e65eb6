//! Sequence numbers: 32 bits that wrap (RFC 9293 §3.4).

use core::ops::{Add, AddAssign, Sub};

/// A sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence(pub u32);

impl Sequence {
    /// Whether this number comes before `other`, both being within 2 GiB of each other.
    #[inline(always)]
    pub const fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// How far this is behind `other`; negative if it is ahead of it.
    #[inline(always)]
    pub const fn behind(self, other: Self) -> i32 {
        other.0.wrapping_sub(self.0) as i32
    }
}

impl Add<u32> for Sequence {
    type Output = Self;
    #[inline(always)]
    fn add(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

impl AddAssign<u32> for Sequence {
    #[inline(always)]
    fn add_assign(&mut self, count: u32) {
        *self = *self + count;
    }
}

impl Sub for Sequence {
    type Output = u32;
    #[inline(always)]
    fn sub(self, other: Self) -> u32 {
        self.0.wrapping_sub(other.0)
    }
}
