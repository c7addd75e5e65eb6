//! Operands: XMM registers, and memory in the widths that vector instructions read.

use std::arch::x86_64::{__m128i, _mm_set_epi64x, _mm_unpacklo_epi64};

use crate::{
    cpu::{Core, Halt, Register, SegmentName, Step},
    decode::op::Op,
    exception::Exception,
    memory::{Access, ram::Plain, slow::is_canonical},
};

/// 16 bytes on their way through the host's XMM registers.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Vector(pub(super) __m128i);

// SAFETY: any 16 bytes are a value, and there is no padding.
unsafe impl Plain for Vector {}

impl Vector {
    /// From lowest to highest bit.
    #[inline(always)]
    pub(super) fn new(bits: u128) -> Self {
        // SAFETY: both are 16 bytes without invalid values.
        Self(unsafe { std::mem::transmute::<u128, __m128i>(bits) })
    }

    /// Two halves.
    #[inline(always)]
    pub(super) fn halves(high: u64, low: u64) -> Self {
        // SAFETY: SSE2 is part of the architecture.
        Self(unsafe { _mm_set_epi64x(high as i64, low as i64) })
    }

    /// The low halves of two vectors.
    #[inline(always)]
    pub(super) fn low_halves(high: Self, low: Self) -> Self {
        // SAFETY: as in `halves`.
        Self(unsafe { _mm_unpacklo_epi64(low.0, high.0) })
    }

    /// From lowest to highest bit.
    #[inline(always)]
    pub(super) fn bits(self) -> u128 {
        // SAFETY: as in `new`.
        unsafe { std::mem::transmute::<__m128i, u128>(self.0) }
    }
}

impl Core {
    /// An XMM register.
    #[inline(always)]
    pub(super) fn xmm(&self, register: Register) -> u128 {
        self.xmm[register as usize & 15]
    }

    /// Writes an XMM register.
    #[inline(always)]
    pub(super) fn set_xmm(&mut self, register: Register, value: u128) {
        self.xmm[register as usize & 15] = value;
    }

    /// An XMM register, for the host's.
    #[inline(always)]
    pub(super) fn vector(&self, register: Register) -> Vector {
        let slot = &raw const self.xmm[register as usize & 15];
        // SAFETY: both are 16 bytes, aligned to 16, without invalid values.
        unsafe { slot.cast::<Vector>().read() }
    }

    /// Writes an XMM register. All at once: in two halves, as `set_xmm` does, the host could not forward the store to the next load.
    #[inline(always)]
    pub(super) fn set_vector(&mut self, register: Register, value: Vector) {
        let slot = &raw mut self.xmm[register as usize & 15];
        // SAFETY: as in `vector`.
        unsafe { slot.cast::<Vector>().write(value) };
    }

    /// Loads an operand, if that needs no more than a look into the translation cache.
    #[inline(always)]
    fn load_vector_quickly<T: Plain, const ALIGNED: bool>(&self, op: &Op) -> Option<T> {
        if ALIGNED && self.flat_linear(op) & 15 != 0 {
            return None;
        }
        self.load_quickly(op)
    }

    /// Stores an operand, if that needs no more than a look into the translation cache; returns whether it did.
    #[inline(always)]
    pub(super) fn store_vector_quickly<T: Plain, const ALIGNED: bool>(
        &self,
        op: &Op,
        value: T,
    ) -> bool {
        if ALIGNED && self.flat_linear(op) & 15 != 0 {
            return false;
        }
        self.store_quickly(op, value)
    }

    /// The linear address of a 16-byte operand, which must be aligned (SDM 3A 6.15, #GP).
    #[inline(always)]
    pub(super) fn aligned_linear(&mut self, op: &Op, access: Access) -> Result<u64, Halt> {
        let linear = self.linear(op, 16, access)?;
        if linear & 15 != 0 {
            return Err(self.misaligned(linear, op.segment));
        }
        Ok(linear)
    }

    #[cold]
    #[inline(never)]
    fn misaligned(&mut self, linear: u64, segment: SegmentName) -> Halt {
        if segment == SegmentName::Ss && !is_canonical(linear) {
            self.raise(Exception::stack_fault(0))
        } else {
            self.general_protection()
        }
    }

    /// #UD or #NM, unless SSE is available.
    #[inline(always)]
    pub(super) fn require_sse(&mut self) -> Step {
        if self.sse_unavailable {
            return Err(self.sse_fault());
        }
        Ok(())
    }
}

/// Where a vector operand comes from.
pub(super) trait Source {
    /// Reads it; what it is narrower than a register by is zero.
    fn read(core: &mut Core, op: &Op) -> Result<Vector, Halt>;
    /// Reads it, if that takes no more than a look into the translation cache. Handlers try this first, and leave all the rest
    /// to a second function: so the first needs no stack frame.
    fn read_quickly(core: &Core, op: &Op) -> Option<Vector>;
}

/// The second register.
pub(super) struct Second;
/// 16 bytes of memory, aligned.
pub(super) struct Aligned;
/// 16 bytes of memory.
pub(super) struct Unaligned;
/// 8 bytes of memory.
pub(super) struct Low64;
/// 4 bytes of memory.
pub(super) struct Low32;
/// 2 bytes of memory.
pub(super) struct Low16;
/// The immediate operand.
pub(super) struct Immediate;

impl Source for Second {
    #[inline(always)]
    fn read(core: &mut Core, op: &Op) -> Result<Vector, Halt> {
        Ok(core.vector(op.r2))
    }

    #[inline(always)]
    fn read_quickly(core: &Core, op: &Op) -> Option<Vector> {
        Some(core.vector(op.r2))
    }
}

impl Source for Aligned {
    #[inline(always)]
    fn read(core: &mut Core, op: &Op) -> Result<Vector, Halt> {
        let linear = core.aligned_linear(op, Access::Read)?;
        core.load_linear(linear, op.segment)
    }

    #[inline(always)]
    fn read_quickly(core: &Core, op: &Op) -> Option<Vector> {
        core.load_vector_quickly::<Vector, true>(op)
    }
}

impl Source for Unaligned {
    #[inline(always)]
    fn read(core: &mut Core, op: &Op) -> Result<Vector, Halt> {
        core.load(op)
    }

    #[inline(always)]
    fn read_quickly(core: &Core, op: &Op) -> Option<Vector> {
        core.load_vector_quickly::<Vector, false>(op)
    }
}

impl Source for Immediate {
    #[inline(always)]
    fn read(_core: &mut Core, op: &Op) -> Result<Vector, Halt> {
        Ok(Vector::halves(0, op.immediate & 0xFF))
    }

    #[inline(always)]
    fn read_quickly(_core: &Core, op: &Op) -> Option<Vector> {
        Some(Vector::halves(0, op.immediate & 0xFF))
    }
}

macro_rules! narrow_source {
    ($($name:ident $width:ident)*) => {$(
        impl Source for $name {
            #[inline(always)]
            fn read(core: &mut Core, op: &Op) -> Result<Vector, Halt> {
                let value: $width = core.load(op)?;
                Ok(Vector::halves(0, u64::from(value)))
            }

            #[inline(always)]
            fn read_quickly(core: &Core, op: &Op) -> Option<Vector> {
                let value: $width = core.load_vector_quickly::<$width, false>(op)?;
                Some(Vector::halves(0, u64::from(value)))
            }
        }
    )*};
}

narrow_source!(Low64 u64 Low32 u32 Low16 u16);
