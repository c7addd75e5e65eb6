//! Statics that are handed out once.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A static value with one owner: the first to take it.
#[repr(C, align(4096))]
pub struct Global<T> {
    value: UnsafeCell<T>,
    taken: AtomicBool,
}

// SAFETY: `take` gives out one reference in the life of the machine, so nothing is ever shared.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// A value that nobody has taken.
    pub const fn new(value: T) -> Self {
        Self {
            value: UnsafeCell::new(value),
            taken: AtomicBool::new(false),
        }
    }

    /// The value, for good.
    ///
    /// # Panics
    /// If it was taken before.
    #[allow(clippy::mut_from_ref, reason = "given out once only")]
    pub fn take(&'static self) -> &'static mut T {
        // A load and a store do: there is one processor and no handler takes anything.
        assert!(!self.taken.load(Ordering::Relaxed));
        self.taken.store(true, Ordering::Relaxed);
        // SAFETY: the flag makes this the only reference there will ever be.
        unsafe { &mut *self.value.get() }
    }
}
