//! The registers as a stack, the status word, and what an instruction leaves in them.
//!
//! In: an [`Effect`], made of what [`crate::float80`] computed or of a stack fault. Out: registers, tags, TOP and status. What always holds:
//! ES and B say whether an exception is both flagged and unmasked, after every change of the status or control word.

use crate::{
    cpu::X87,
    float80::{Environment, Exceptions, Float80, Outcome},
};

/// Stack fault.
const SF: u16 = 1 << 6;
/// ES, an unmasked exception is pending, and B, its copy (SDM 1, 8.1.3).
const ES_AND_B: u16 = 1 << 7 | 1 << 15;
/// Condition code 1: rounded up, or which stack fault.
pub(super) const C1: u16 = 1 << 9;
/// Condition code 2: FPREM is not done, or an operand is out of range.
pub(super) const C2: u16 = 1 << 10;
/// C0 to C3.
pub(super) const CODES: u16 = 1 << 14 | C2 | C1 | 1 << 8;
const TOP_SHIFT: u32 = 11;
const TOP: u16 = 7 << TOP_SHIFT;
/// The bits of the control word that can be written; bit 6 is always set.
const CONTROL_WRITABLE: u16 = 0x1F3F;
const CONTROL_SET: u16 = 1 << 6;

/// What an instruction is about to do: everything but the place of its result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effect<T = Float80> {
    /// The result; nothing if an unmasked exception keeps the destination and the stack as they are.
    pub(super) value: Option<T>,
    /// What it adds to the status word.
    raised: u16,
    c1: bool,
}

impl<T> From<Outcome<T>> for Effect<T> {
    fn from(outcome: Outcome<T>) -> Self {
        Self {
            value: outcome.value,
            raised: outcome.exceptions.bits(),
            c1: outcome.rounded_up,
        }
    }
}

impl<T> Effect<T> {
    /// A result that raises nothing.
    pub(super) fn exact(value: T) -> Self {
        Self {
            value: Some(value),
            raised: 0,
            c1: false,
        }
    }

    /// The same with another value made of its value.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Effect<U> {
        Effect {
            value: self.value.map(change),
            raised: self.raised,
            c1: self.c1,
        }
    }
}

impl X87 {
    fn top(&self) -> u16 {
        (self.status & TOP) >> TOP_SHIFT
    }

    /// The physical register that is ST(`index`).
    pub(super) fn physical(&self, index: usize) -> usize {
        (usize::from(self.top()) + index) & 7
    }

    /// ST(`index`), empty or not.
    pub(super) fn register(&self, index: usize) -> Float80 {
        let physical = self.physical(index);
        Float80::new(self.sign_exponent[physical], self.mantissa[physical])
    }

    /// ST(`index`) unless it is empty.
    pub(super) fn operand(&self, index: usize) -> Option<Float80> {
        self.is_in_use(index).then(|| self.register(index))
    }

    /// Whether ST(`index`) is not empty.
    pub(super) fn is_in_use(&self, index: usize) -> bool {
        self.in_use >> self.physical(index) & 1 != 0
    }

    /// Writes ST(`index`), which is no longer empty.
    pub(super) fn set_register(&mut self, index: usize, value: Float80) {
        let physical = self.physical(index);
        self.mantissa[physical] = value.mantissa;
        self.sign_exponent[physical] = value.sign_exponent;
        self.in_use |= 1 << physical;
    }

    /// Empties ST(`index`).
    pub(super) fn free(&mut self, index: usize) {
        self.in_use &= !(1 << self.physical(index));
    }

    /// TOP + 1: what was ST(1) becomes ST(0).
    pub(super) fn rotate_up(&mut self) {
        self.status = self.status & !TOP | (self.top() + 1) << TOP_SHIFT & TOP;
    }

    /// TOP - 1: what was ST(0) becomes ST(1).
    pub(super) fn rotate_down(&mut self) {
        self.status = self.status & !TOP | (self.top() + 7) << TOP_SHIFT & TOP;
    }

    /// Empties ST(0) and takes it off the stack.
    pub(super) fn pop(&mut self) {
        self.free(0);
        self.rotate_up();
    }

    /// Puts a value on the stack.
    pub(super) fn push(&mut self, value: Float80) {
        self.rotate_down();
        self.set_register(0, value);
    }

    /// What operations need to know of the control word.
    pub(super) fn environment(&self) -> Environment {
        Environment::from_control_word(self.control)
    }

    fn masks_invalid(&self) -> bool {
        Exceptions::from_bits(self.control).contains(Exceptions::INVALID)
    }

    /// An operand is empty: `indefinite` is the masked response (SDM 1, 8.5.1.1).
    pub(super) fn underflow<T>(&self, indefinite: T) -> Effect<T> {
        Effect {
            value: self.masks_invalid().then_some(indefinite),
            raised: Exceptions::INVALID.bits() | SF,
            c1: false,
        }
    }

    /// There is no room for a push.
    pub(super) fn overflow<T>(&self, indefinite: T) -> Effect<T> {
        Effect {
            c1: true,
            ..self.underflow(indefinite)
        }
    }

    /// Adds an effect's exceptions to the status word and sets C1.
    pub(super) fn report<T>(&mut self, effect: &Effect<T>) {
        let c1 = if effect.c1 { C1 } else { 0 };
        self.set_status(self.status & !C1 | effect.raised | c1);
    }

    /// Reports an effect and puts its value into ST(`index`). Whether there was one.
    pub(super) fn write(&mut self, index: usize, effect: &Effect) -> bool {
        self.report(effect);
        if let Some(value) = effect.value {
            self.set_register(index, value);
        }
        effect.value.is_some()
    }

    /// Reports an effect and pushes its value, if there is room for it.
    pub(super) fn write_pushing(&mut self, effect: Effect) {
        let effect = if self.is_in_use(7) {
            self.overflow(Float80::INDEFINITE)
        } else {
            effect
        };
        self.report(&effect);
        if let Some(value) = effect.value {
            self.push(value);
        }
    }

    /// Writes condition codes among `mask`.
    pub(super) fn set_codes(&mut self, mask: u16, codes: u16) {
        self.status = self.status & !mask | codes & mask;
    }

    /// Writes the status word; ES and B follow from it.
    pub(super) fn set_status(&mut self, value: u16) {
        let pending = !Exceptions::from_bits(value)
            .without(Exceptions::from_bits(self.control))
            .is_empty();
        self.status = value & !ES_AND_B | if pending { ES_AND_B } else { 0 };
    }

    /// Writes the control word, which may unmask or mask what is pending.
    pub(super) fn set_control(&mut self, value: u16) {
        self.control = value & CONTROL_WRITABLE | CONTROL_SET;
        self.set_status(self.status);
    }

    /// Masks every exception, as FNSTENV does.
    pub(super) fn mask_all(&mut self) {
        self.set_control(self.control | Exceptions::ALL.bits());
    }

    /// Whether an unmasked exception is pending.
    pub(super) fn is_error_pending(&self) -> bool {
        self.status & ES_AND_B != 0
    }

    /// FNCLEX: the exceptions, SF, ES and B.
    pub(super) fn clear_exceptions(&mut self) {
        self.status &= !(ES_AND_B | SF | Exceptions::ALL.bits());
    }

    /// FNINIT, which leaves the registers' contents (SDM 2A, FINIT).
    pub(super) fn initialise(&mut self) {
        *self = Self {
            mantissa: self.mantissa,
            sign_exponent: self.sign_exponent,
            ..Self::INITIAL
        };
    }
}
