//! MXCSR (SDM 1 10.2.3), and floating point under it.
//!
//! In: the guest's control bits and an instruction. Out: its result, the sticky flags, or #XM. Results and flags are the host's: it executes
//! the same instruction under the same control bits.
//!
//! ```text
//!  control bits 0x1F80, as nearly always: the host runs under them anyway
//!      move_to_host: flags clear in the host's MXCSR ─► any number of instructions ─► collect: the host's flags join the guest's
//!  other control bits: each instruction loads them, with every exception masked, executes, takes the flags and puts 0x1F80 back
//! ```
//!
//! What always holds: outside of an `asm!` block the host's control bits are those Rust expects, and whoever may look at the guest's
//! MXCSR, or run other floating-point code in this thread, comes after [`Mxcsr::collect`]: LDMXCSR, STMXCSR, the FXSAVE family, a change of
//! mode, the end of [`crate::run::Cpu::run`]. Between these points no code of this crate computes in floating point, so the host's sticky flags
//! are the guest's alone. (To Rust they are a register that assembly may change freely.)

use std::arch::asm;

use iced_x86::Code;

use crate::{
    cpu::{CR4_OSXMMEXCPT, Core, Halt, Step},
    decode::op::{Handler, Op},
    exception::Exception,
};

/// Masks and rounding as after reset: all exceptions masked, to nearest. Rust's own, too.
const DEFAULT: u32 = 0x1F80;
/// The sticky flags.
const FLAGS: u32 = 0x3F;
/// Invalid operation, denormal operand, division by zero: known before there is a result.
const BEFORE_COMPUTING: u32 = 0b00_0111;
/// Overflow.
pub(super) const OVERFLOW: u32 = 1 << 3;
/// Underflow.
pub(super) const UNDERFLOW: u32 = 1 << 4;
/// Precision: the result was rounded.
pub(super) const PRECISION: u32 = 1 << 5;
/// Where the masks begin, in the order of the flags.
const MASKS: u32 = 7;
/// Flush to zero.
const FLUSH_TO_ZERO: u32 = 1 << 15;
/// Bits that exist: denormals are zeros (bit 6) among them.
pub(crate) const WRITABLE: u32 = 0xFFFF;

/// The register.
#[derive(Debug)]
pub(crate) struct Mxcsr {
    value: u32,
    /// SSE is available, the control bits are the default, and flags raised since `move_to_host` are in the host's MXCSR.
    in_host: bool,
}

impl Default for Mxcsr {
    fn default() -> Self {
        Self {
            value: DEFAULT,
            in_host: false,
        }
    }
}

impl Mxcsr {
    /// Its value now.
    pub(crate) fn get(&mut self) -> u32 {
        self.collect();
        self.value
    }

    /// Its value between two calls of [`crate::run::Cpu::run`].
    pub(crate) fn settled(&self) -> u32 {
        assert!(!self.in_host, "the processor is not running");
        self.value
    }

    /// Sets it. Bits that do not exist are the caller's to refuse.
    pub(crate) fn set(&mut self, value: u32) {
        self.in_host = false;
        self.value = value & WRITABLE;
    }

    /// Whether instructions can simply be executed.
    #[inline(always)]
    pub(super) fn in_host(&self) -> bool {
        self.in_host
    }

    /// The exceptions that are not masked, as flags.
    pub(super) fn unmasked(&self) -> u32 {
        unmasked(self.value)
    }

    /// Takes the flags that instructions left in the host's MXCSR.
    pub(crate) fn collect(&mut self) {
        if self.in_host {
            self.in_host = false;
            let mut host = 0_u32;
            // SAFETY: stores four bytes into `host`.
            unsafe {
                asm!("stmxcsr [{0}]", in(reg) &raw mut host, options(nostack, preserves_flags));
            }
            self.value |= host & FLAGS;
        }
    }

    /// From now on the host gathers flags, if the control bits allow.
    fn move_to_host(&mut self) -> bool {
        self.in_host = self.value & !FLAGS == DEFAULT;
        if self.in_host {
            // SAFETY: the control bits stay what Rust expects; the sticky flags mean nothing to it.
            unsafe { asm!("ldmxcsr [{0}]", in(reg) &DEFAULT, options(readonly, nostack)) };
        }
        self.in_host
    }
}

/// A floating-point instruction.
pub(super) trait Arithmetic {
    /// What it computes from: the destination's old value, often.
    type Left: Copy;
    /// And its source.
    type Right: Copy;
    /// Its result.
    type Output;
    /// Executes it under the host's MXCSR, which gathers its flags.
    fn native(left: Self::Left, right: Self::Right) -> Self::Output;
    /// Executes it under `mxcsr`, in which all exceptions are masked, and adds the flags that it raises.
    fn controlled(left: Self::Left, right: Self::Right, mxcsr: &mut u32) -> Self::Output;
}

/// Makes an [`Arithmetic`] of assembly: its templates, its operands, and what its result is.
macro_rules! arithmetic {
    ($name:ident $(<$number:ident>)? ($left:ident: $l:ty, $right:ident: $r:ty) -> $output:ty {
        $(let $($variable:ident)+ $(: $kind:ty)? $(= $value:expr)?;)*
        asm [$($template:expr),+] ($($operands:tt)*)
        $result:expr
    }) => {
        pub(super) struct $name $(<const $number: u8>)?;

        impl $(<const $number: u8>)? $crate::isa::simd::mxcsr::Arithmetic for $name $(<$number>)? {
            type Left = $l;
            type Right = $r;
            type Output = $output;

            #[inline(always)]
            fn native($left: $l, $right: $r) -> $output {
                $(let $($variable)+ $(: $kind)? $(= $value)?;)*
                // SAFETY: computes in registers; see `require_host` for the instruction's being there, and this module's head for MXCSR.
                unsafe { std::arch::asm!($($template,)+ $($operands)* options(nomem, nostack)) };
                $result
            }

            fn controlled($left: $l, $right: $r, mxcsr: &mut u32) -> $output {
                $(let $($variable)+ $(: $kind)? $(= $value)?;)*
                // SAFETY: as in `native`; MXCSR is loaded from and stored to `mxcsr`, and its control bits are restored.
                unsafe {
                    std::arch::asm!(
                        "ldmxcsr [{mxcsr}]",
                        $($template,)+
                        "stmxcsr [{mxcsr}]",
                        "ldmxcsr [{host}]",
                        $($operands)*
                        mxcsr = in(reg) &raw mut *mxcsr,
                        host = in(reg) &raw const $crate::isa::simd::mxcsr::HOST,
                        options(nostack)
                    );
                }
                $result
            }
        }
    };
}
pub(super) use arithmetic;

/// What Rust expects in MXCSR, where assembly can find it.
pub(super) static HOST: u32 = DEFAULT;

/// Before an instruction reads its operands: whether [`compute`] may run it natively.
#[inline(always)]
pub(super) fn begin(core: &mut Core) -> Result<bool, Halt> {
    if core.mxcsr.in_host() {
        Ok(true)
    } else {
        begin_slow(core)
    }
}

#[cold]
#[inline(never)]
fn begin_slow(core: &mut Core) -> Result<bool, Halt> {
    core.require_sse()?;
    Ok(core.mxcsr.move_to_host())
}

/// Executes a floating-point instruction.
#[inline(always)]
pub(super) fn compute<A: Arithmetic>(
    core: &mut Core,
    native: bool,
    left: A::Left,
    right: A::Right,
) -> Result<A::Output, Halt> {
    if native {
        return Ok(A::native(left, right));
    }
    controlled::<A>(core, left, right)
}

#[cold]
#[inline(never)]
fn controlled<A: Arithmetic>(
    core: &mut Core,
    left: A::Left,
    right: A::Right,
) -> Result<A::Output, Halt> {
    let guest = core.mxcsr.value;
    let (result, flags) = raised::<A>(guest, left, right);
    raise(core, flags, unmasked(guest))?;
    Ok(result)
}

/// The exceptions that `mxcsr` does not mask, as flags.
pub(super) fn unmasked(mxcsr: u32) -> u32 {
    !(mxcsr >> MASKS) & FLAGS
}

/// Executes an instruction under `guest` with all exceptions masked: the result, and the flags that it raises.
pub(super) fn raised<A: Arithmetic>(
    guest: u32,
    left: A::Left,
    right: A::Right,
) -> (A::Output, u32) {
    let unmasked = unmasked(guest);
    let mut control = (guest | FLAGS << MASKS) & !FLAGS;
    if unmasked & UNDERFLOW != 0 {
        // Flushing is for masked underflow only (SDM 1 10.2.3.3).
        control &= !FLUSH_TO_ZERO;
    }
    let mut status = control;
    let result = A::controlled(left, right, &mut status);
    let mut flags = status & FLAGS;
    if unmasked & UNDERFLOW & !flags != 0 {
        // Unmasked, a tiny result is an underflow even if it is exact (SDM 1 4.9.1.5). Flushing finds these.
        let mut flushing = control | FLUSH_TO_ZERO;
        let _ = A::controlled(left, right, &mut flushing);
        flags |= flushing & UNDERFLOW;
    }
    (result, flags)
}

/// Sets flags; #XM if one of them is not masked (SDM 1 11.5.3).
pub(super) fn raise(core: &mut Core, flags: u32, unmasked: u32) -> Step {
    let early = flags & BEFORE_COMPUTING;
    let seen = if early & unmasked != 0 { early } else { flags };
    core.mxcsr.value |= seen;
    if seen & unmasked == 0 {
        return Ok(());
    }
    Err(if core.cr4 & CR4_OSXMMEXCPT != 0 {
        core.raise(Exception::SIMD_FLOATING_POINT)
    } else {
        core.invalid_opcode()
    })
}

/// Finds the handlers of MXCSR itself.
pub(super) fn find(code: Code) -> Option<Handler> {
    Some(match code {
        Code::Ldmxcsr_m32 => load,
        Code::Stmxcsr_m32 => store,
        _ => return None,
    })
}

/// LDMXCSR.
fn load(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let value: u32 = core.load(op)?;
    if value & !WRITABLE != 0 {
        return Err(core.general_protection());
    }
    // Flags in the host are older than the value.
    core.mxcsr.set(value);
    Ok(())
}

/// STMXCSR.
fn store(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let value = core.mxcsr.get();
    core.store(op, value)
}
