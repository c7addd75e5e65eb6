//! Operands: XMM registers, and memory in the widths that vector instructions read.

use std::arch::x86_64::__m128i;

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

    /// An XMM register.
    #[inline(always)]
    pub(super) fn vector(&self, register: Register) -> Vector {
        Vector::new(self.xmm(register))
    }

    /// Writes an XMM register.
    #[inline(always)]
    pub(super) fn set_vector(&mut self, register: Register, value: Vector) {
        self.set_xmm(register, value.bits());
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
}

impl Source for Aligned {
    #[inline(always)]
    fn read(core: &mut Core, op: &Op) -> Result<Vector, Halt> {
        let linear = core.aligned_linear(op, Access::Read)?;
        core.load_linear(linear, op.segment)
    }
}

impl Source for Unaligned {
    #[inline(always)]
    fn read(core: &mut Core, op: &Op) -> Result<Vector, Halt> {
        core.load(op)
    }
}

impl Source for Immediate {
    #[inline(always)]
    fn read(_core: &mut Core, op: &Op) -> Result<Vector, Halt> {
        Ok(Vector::new(u128::from(op.immediate & 0xFF)))
    }
}

macro_rules! narrow_source {
    ($($name:ident $width:ident)*) => {$(
        impl Source for $name {
            #[inline(always)]
            fn read(core: &mut Core, op: &Op) -> Result<Vector, Halt> {
                let value: $width = core.load(op)?;
                Ok(Vector::new(u128::from(value)))
            }
        }
    )*};
}

narrow_source!(Low64 u64 Low32 u32 Low16 u16);
