//! The widths that integer instructions work on.

/// An unsigned integer of 8, 16, 32 or 64 bits.
pub(crate) trait Integer:
    Copy
    + Eq
    + Ord
    + std::ops::BitAnd<Output = Self>
    + std::ops::BitOr<Output = Self>
    + std::ops::BitXor<Output = Self>
    + std::ops::Not<Output = Self>
    + 'static
{
    /// Width in bits.
    const BITS: u32;
    /// Width in bytes.
    const BYTES: u64;
    /// The lowest bits of `value`.
    fn truncate(value: u64) -> Self;
    /// Zero-extended.
    fn zero_extend(self) -> u64;
    /// Sign-extended.
    fn sign_extend(self) -> u64;
    /// Modulo 2^BITS.
    fn add(self, other: Self) -> Self;
    /// Modulo 2^BITS.
    fn sub(self, other: Self) -> Self;
    /// The sign bit.
    fn sign(self) -> bool;
}

macro_rules! integer {
    ($($unsigned:ident $signed:ident)*) => {$(
        impl Integer for $unsigned {
            const BITS: u32 = $unsigned::BITS;
            const BYTES: u64 = $unsigned::BITS as u64 / 8;

            #[inline(always)]
            fn truncate(value: u64) -> Self {
                value as Self
            }

            #[inline(always)]
            fn zero_extend(self) -> u64 {
                u64::from(self)
            }

            #[inline(always)]
            fn sign_extend(self) -> u64 {
                i64::from(self as $signed) as u64
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }

            #[inline(always)]
            fn sign(self) -> bool {
                (self as $signed) < 0
            }
        }
    )*};
}

integer!(u8 i8 u16 i16 u32 i32 u64 i64);
