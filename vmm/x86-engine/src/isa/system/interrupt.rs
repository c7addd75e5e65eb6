//! Delivery of interrupts and exceptions.

use crate::{
    cpu::{Core, Halt, Step},
    exception::Exception,
};

/// What a second exception makes of a first one that could not be delivered (SDM 3A 6.15, "Interrupt 8"); `None`: shutdown.
pub(crate) fn combine(first: Exception, second: Exception) -> Option<Exception> {
    let contributory = |vector| matches!(vector, 0 | 10..=13);
    match (first.vector, second.vector) {
        (8, _) => None,
        (14, 14) => Some(Exception::DOUBLE_FAULT),
        (14, next) if contributory(next) => Some(Exception::DOUBLE_FAULT),
        (before, next) if contributory(before) && contributory(next) => {
            Some(Exception::DOUBLE_FAULT)
        }
        _ => Some(second),
    }
}

impl Core {
    /// Delivers an exception.
    pub(crate) fn deliver_exception(&mut self, exception: Exception) -> Step {
        let _ = exception;
        Err(Halt::Exit)
    }

    /// Delivers an external interrupt.
    pub(crate) fn deliver_interrupt(&mut self, vector: u8) -> Step {
        let _ = vector;
        Err(Halt::Exit)
    }
}
