//! Reading guest memory by linear address: a four-level page walk (SDM 3A 4.5).

use vm_memory::{Bytes, GuestAddress};

use crate::machine::{GuestMemory, linear};

/// The guest-physical address of `linear` under the page tables at `cr3`, if it is mapped.
#[must_use]
pub fn translate(memory: &GuestMemory, cr3: u64, linear: u64) -> Option<u64> {
    linear::four_level(memory, cr3, linear)
}

/// Reads `N` 64-bit words from `linear` on.
#[must_use]
pub fn read_words<const N: usize>(memory: &GuestMemory, cr3: u64, linear: u64) -> Option<[u64; N]> {
    let mut words = [0; N];
    for (index, word) in words.iter_mut().enumerate() {
        // Aligned words do not cross pages; each is translated by itself.
        let physical = translate(memory, cr3, linear.checked_add(index as u64 * 8)?)?;
        *word = memory.read_obj(GuestAddress(physical)).ok()?;
    }
    Some(words)
}
