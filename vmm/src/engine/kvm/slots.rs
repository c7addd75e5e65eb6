//! Guest memory as KVM has it: one slot for each region, and KVM's account of the pages that the guest dirties.
//!
//! ```text
//!            map            track_dirty
//!  (nothing) ───► mapped ───────────────► mapped, logging ──┐ take_dirty: the pages since the last
//!                  ▲ │ remap                 ▲ │ remap,     │ call of any of the three
//!                  └─┘                       └─┘ track_dirty┘
//! ```
//!
//! What always holds: the slots cover all of memory; after [`Slots::remap`] KVM remembers nothing of what page tables in guest memory said before.

use std::ops::Range;

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{
    Address, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress, mmap::GuestRegionMmap,
};

use super::vcpu::failed;
use crate::{
    engine::EngineError,
    machine::{GuestMemory, memory::WrittenPages},
};

const PAGE_BYTES: u64 = 4096;

/// The slots of one virtual machine.
pub struct Slots {
    memory: GuestMemory,
    logging: bool,
}

impl Slots {
    /// Gives this memory to the virtual machine.
    pub fn map(vm: &VmFd, memory: &GuestMemory) -> Result<Self, EngineError> {
        let slots = Self {
            memory: memory.clone(),
            logging: false,
        };
        slots.add(vm)?;
        Ok(slots)
    }

    /// The memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Whether KVM keeps account of dirty pages.
    pub fn is_tracking(&self) -> bool {
        self.logging
    }

    fn add(&self, vm: &VmFd) -> Result<(), EngineError> {
        for (slot, region) in self.memory.iter().enumerate() {
            set_slot(vm, slot as u32, region, region.len(), self.flags())?;
        }
        Ok(())
    }

    fn flags(&self) -> u32 {
        if self.logging {
            KVM_MEM_LOG_DIRTY_PAGES
        } else {
            0
        }
    }

    /// Makes KVM forget what it derived from guest memory, page tables above all: the VMM has written to memory, and where KVM
    /// shadows page tables it does not notice that. Pages count as clean afterwards.
    pub fn remap(&self, vm: &VmFd) -> Result<(), EngineError> {
        for (slot, region) in self.memory.iter().enumerate() {
            // A size of 0 deletes a slot (KVM API, 4.35); all that was derived from it goes with it.
            set_slot(vm, slot as u32, region, 0, 0)?;
        }
        self.add(vm)
    }

    /// From here on KVM keeps account of the pages that the guest dirties; if it did already, it begins anew.
    pub fn track_dirty(&mut self, vm: &VmFd) -> Result<(), EngineError> {
        if self.logging {
            return self.take_dirty(vm).map(drop);
        }
        self.logging = true;
        self.add(vm)
    }

    /// Guest-physical ranges, whole pages, that the guest has dirtied since the last call, in ascending order. What the VMM wrote is not among them.
    ///
    /// # Panics
    /// If KVM keeps no account.
    pub fn take_dirty(&self, vm: &VmFd) -> Result<Vec<Range<u64>>, EngineError> {
        assert!(self.logging, "nobody asked for an account of dirty pages");
        let mut dirty = Vec::new();
        for (slot, region) in self.memory.iter().enumerate() {
            let bitmap = vm
                .get_dirty_log(slot as u32, region.len() as usize)
                .map_err(failed("read the dirty log"))?;
            collect(&bitmap, region.start_addr().0, &mut dirty);
        }
        Ok(dirty)
    }
}

/// The pages of a bitmap that begins at `start`, neighbours joined.
fn collect(bitmap: &[u64], start: u64, dirty: &mut Vec<Range<u64>>) {
    for (index, word) in bitmap.iter().enumerate() {
        let mut bits = *word;
        while bits != 0 {
            let page = index as u64 * u64::from(u64::BITS) + u64::from(bits.trailing_zeros());
            bits &= bits - 1;
            let from = start + page * PAGE_BYTES;
            match dirty.last_mut() {
                Some(last) if last.end == from => last.end += PAGE_BYTES,
                _ => dirty.push(from..from + PAGE_BYTES),
            }
        }
    }
}

fn set_slot(
    vm: &VmFd,
    slot: u32,
    region: &GuestRegionMmap<WrittenPages>,
    memory_size: u64,
    flags: u32,
) -> Result<(), EngineError> {
    let host = region
        .get_host_address(MemoryRegionAddress(0))
        .expect("guest memory is mapped");
    let region = kvm_userspace_memory_region {
        slot,
        guest_phys_addr: region.start_addr().raw_value(),
        memory_size,
        userspace_addr: host as u64,
        flags,
    };
    // SAFETY: the engine holds a clone of the memory, so that the mapping outlives the virtual machine.
    unsafe { vm.set_user_memory_region(region) }.map_err(failed("map guest memory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_bitmap_are_joined_across_its_words() {
        let mut dirty = Vec::new();
        collect(&[1 << 63 | 0b1011, 1], 0x10_0000, &mut dirty);
        assert_eq!(
            dirty,
            [
                0x10_0000..0x10_2000,
                0x10_3000..0x10_4000,
                0x13_F000..0x14_1000
            ]
        );
        dirty.clear();
        collect(&[0, 0], 0, &mut dirty);
        assert_eq!(dirty, []);
    }
}
