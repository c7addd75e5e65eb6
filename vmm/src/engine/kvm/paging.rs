//! Reading guest memory by linear address: a four-level page walk (SDM 3A 4.5).

use kvm_bindings::kvm_sregs;
use vm_memory::{Bytes, GuestAddress};

use crate::machine::{GuestMemory, linear};

/// CR0: paging.
const CR0_PG: u64 = 1 << 31;
/// EFER: long mode active.
const EFER_LMA: u64 = 1 << 10;

/// The guest-physical address of `linear` under the page tables at `cr3`, if it is mapped.
#[must_use]
pub fn translate(memory: &GuestMemory, cr3: u64, linear: u64) -> Option<u64> {
    linear::four_level(memory, cr3, linear)
}

/// The guest-physical address of `linear`, if it is mapped and a processor with these registers walks four-level tables, or none.
#[must_use]
pub fn physical(memory: &GuestMemory, sregs: &kvm_sregs, linear: u64) -> Option<u64> {
    if sregs.cr0 & CR0_PG == 0 {
        return Some(linear & u64::from(u32::MAX));
    }
    (sregs.efer & EFER_LMA != 0)
        .then(|| translate(memory, sregs.cr3, linear))
        .flatten()
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

/// The linear address of the handler of `vector`, from a present gate of the 64-bit IDT (SDM 3A 6.14.1).
#[must_use]
pub fn handler(memory: &GuestMemory, sregs: &kvm_sregs, vector: u8) -> Option<u64> {
    const GATE_PRESENT: u64 = 1 << 47;
    const GATE_BYTES: u64 = 16;
    let offset = u64::from(vector) * GATE_BYTES;
    if sregs.efer & EFER_LMA == 0 || u64::from(sregs.idt.limit) < offset + GATE_BYTES - 1 {
        return None;
    }
    let [low, high] = read_words::<2>(memory, sregs.cr3, sregs.idt.base.wrapping_add(offset))?;
    let present = low & GATE_PRESENT != 0;
    present.then_some((low & 0xFFFF) | ((low >> 32) & 0xFFFF_0000) | (high << 32))
}
