//! Guest memory by linear address, for whoever looks from outside: a walk through the guest's page tables that leaves no trace.
//!
//! In: memory and the registers that paging depends on. Out: a guest-physical address. What always holds: nothing is written, no
//! accessed bit either: the guest must not see that somebody looked. Rights are not checked: who looks may.

use vm_memory::{Bytes, GuestAddress};

use super::GuestMemory;

const PRESENT: u64 = 1;
const PAGE_SIZE_BIT: u64 = 1 << 7;
const ADDRESS_MASK: u64 = 0x000F_FFFF_FFFF_F000;
const PAGE_BYTES: u64 = 4096;

const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const EFER_LMA: u64 = 1 << 10;

/// The registers that paging depends on (SDM 3A 4.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// Control register 0.
    pub cr0: u64,
    /// Control register 3.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
}

impl Paging {
    /// The guest-physical address of `linear`, if it is mapped.
    #[must_use]
    pub fn translate(&self, memory: &GuestMemory, linear: u64) -> Option<u64> {
        if self.cr0 & CR0_PG == 0 {
            Some(linear & 0xFFFF_FFFF)
        } else if self.efer & EFER_LMA != 0 {
            four_level(memory, self.cr3, linear)
        } else if self.cr4 & CR4_PAE != 0 {
            pae(memory, self.cr3, linear & 0xFFFF_FFFF)
        } else {
            self.two_level(memory, linear & 0xFFFF_FFFF)
        }
    }

    /// Reads from `linear` on, as far as it is mapped to memory; returns how much that is, bytes.
    pub fn read(&self, memory: &GuestMemory, linear: u64, data: &mut [u8]) -> usize {
        let mut done = 0;
        while done < data.len() {
            let from = linear.wrapping_add(done as u64);
            let in_page = (PAGE_BYTES - from % PAGE_BYTES) as usize;
            let until = data.len().min(done + in_page);
            let Some(physical) = self.translate(memory, from) else {
                break;
            };
            let part = &mut data[done..until];
            if memory.read_slice(part, GuestAddress(physical)).is_err() {
                break;
            }
            done = until;
        }
        done
    }

    /// 32-bit paging (SDM 3A 4.3).
    fn two_level(&self, memory: &GuestMemory, linear: u64) -> Option<u64> {
        let entry = |table: u64, index: u64| {
            let entry: u32 = memory.read_obj(GuestAddress(table + index * 4)).ok()?;
            let entry = u64::from(entry);
            (entry & PRESENT != 0).then_some(entry)
        };
        let directory = entry(self.cr3 & 0xFFFF_F000, linear >> 22)?;
        if directory & PAGE_SIZE_BIT != 0 && self.cr4 & CR4_PSE != 0 {
            // Bits 13 to 20 are address bits 32 to 39.
            let high = (directory >> 13 & 0xFF) << 32;
            return Some(high | (directory & 0xFFC0_0000) | (linear & 0x3F_FFFF));
        }
        let page = entry(directory & 0xFFFF_F000, linear >> 12 & 0x3FF)?;
        Some((page & 0xFFFF_F000) | (linear & 0xFFF))
    }
}

/// PAE paging (SDM 3A 4.4): a table of four above two levels. The processor keeps its entries since CR3 was loaded; these are memory's.
fn pae(memory: &GuestMemory, cr3: u64, linear: u64) -> Option<u64> {
    let address = (cr3 & 0xFFFF_FFE0) + (linear >> 30) * 8;
    let entry: u64 = memory.read_obj(GuestAddress(address)).ok()?;
    if entry & PRESENT == 0 {
        return None;
    }
    walk(memory, entry & ADDRESS_MASK, linear, 2)
}

/// 4-level paging (SDM 3A 4.5).
#[must_use]
pub fn four_level(memory: &GuestMemory, cr3: u64, linear: u64) -> Option<u64> {
    walk(memory, cr3 & ADDRESS_MASK, linear, 4)
}

/// Down from a table that has so many `levels` to go.
fn walk(memory: &GuestMemory, mut table: u64, linear: u64, levels: u32) -> Option<u64> {
    for level in (0..levels).rev() {
        let shift = 12 + 9 * level;
        let address = GuestAddress(table + ((linear >> shift) & 0x1FF) * 8);
        let entry: u64 = memory.read_obj(address).ok()?;
        if entry & PRESENT == 0 {
            return None;
        }
        if level == 0 || (level < 3 && entry & PAGE_SIZE_BIT != 0) {
            let offset_mask = (1 << shift) - 1;
            return Some((entry & ADDRESS_MASK & !offset_mask) | (linear & offset_mask));
        }
        table = entry & ADDRESS_MASK;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{MIN_MEMORY_BYTES, allocate_memory};

    const CR0: u64 = CR0_PG | 1;

    fn memory(entries: &[(u64, u64)]) -> GuestMemory {
        let memory = allocate_memory(MIN_MEMORY_BYTES).expect("4 MiB");
        for (address, entry) in entries {
            memory
                .write_obj(*entry, GuestAddress(*address))
                .expect("it lies within");
        }
        memory
    }

    #[test]
    fn without_paging_linear_is_physical() {
        let paging = Paging::default();
        assert_eq!(
            paging.translate(&memory(&[]), 0x1234_5678),
            Some(0x1234_5678)
        );
    }

    #[test]
    fn four_levels_lead_to_pages_of_three_sizes() {
        let memory = memory(&[
            (0x1000 + 8 * 511, 0x2000 | 1),
            (0x2000 + 8 * 510, 0x3000 | 1),
            (0x3000 + 8, 0x4000 | 1),
            (0x4000 + 8 * 5, 0x7000 | 1 | 1 << 63),
            (0x3000 + 16, 0x20_0000 | 0x81),
            (0x2000 + 8 * 511, 0x4000_0000 | 0x81),
        ]);
        let paging = Paging {
            cr0: CR0,
            cr3: 0x1000,
            cr4: CR4_PAE,
            efer: EFER_LMA,
        };
        let at = |linear| paging.translate(&memory, linear);
        assert_eq!(at(0xFFFF_FFFF_8020_5678), Some(0x7678));
        assert_eq!(at(0xFFFF_FFFF_8040_0123), Some(0x20_0123));
        assert_eq!(at(0xFFFF_FFFF_C123_4567), Some(0x4123_4567));
        assert_eq!(at(0xFFFF_FFFF_8020_6678), None);
        assert_eq!(at(0), None);
    }

    #[test]
    fn pae_and_32_bit_paging_are_walked_too() {
        let pae = memory(&[
            (0x1020 + 8 * 3, 0x2000 | 1),
            (0x2000 + 8 * 2, 0x3000 | 1),
            (0x3000 + 8, 0x7000 | 1),
        ]);
        let paging = Paging {
            cr0: CR0,
            cr3: 0x1020,
            cr4: CR4_PAE,
            efer: 0,
        };
        assert_eq!(paging.translate(&pae, 0xC040_1ABC), Some(0x7ABC));
        assert_eq!(paging.translate(&pae, 0x4040_1ABC), None);

        let two = memory(&[]);
        for (address, entry) in [
            (0x1000 + 4 * 3, 0x2003_u32),
            (0x2000 + 4 * 9, 0x7003),
            (0x1000 + 4, 0x0040_0083),
        ] {
            two.write_obj(entry, GuestAddress(address)).expect("fits");
        }
        let paging = Paging {
            cr0: CR0,
            cr3: 0x1000,
            cr4: CR4_PSE,
            efer: 0,
        };
        assert_eq!(paging.translate(&two, 0x00C0_9ABC), Some(0x7ABC));
        assert_eq!(paging.translate(&two, 0x0040_1234), Some(0x40_1234));
        assert_eq!(paging.translate(&two, 0x0080_0000), None);
    }

    #[test]
    fn what_is_read_ends_where_the_mapping_does() {
        let memory = memory(&[
            (0x1000, 0x2000 | 1),
            (0x2000, 0x3000 | 1),
            (0x3000, 0x4000 | 1),
            (0x4000, 0x7000 | 1),
            (0x4008, 0x5000 | 1),
            (0x7FF8, 0x1122_3344_5566_7788),
            (0x5000, 0x99AA),
        ]);
        let paging = Paging {
            cr0: CR0,
            cr3: 0x1000,
            cr4: CR4_PAE,
            efer: EFER_LMA,
        };
        let mut data = [0; 16];
        assert_eq!(paging.read(&memory, 0xFF8, &mut data), 16, "two pages");
        assert_eq!(data[..8], 0x1122_3344_5566_7788_u64.to_le_bytes());
        assert_eq!(data[8..10], [0xAA, 0x99]);
        assert_eq!(paging.read(&memory, 0x1FFC, &mut data), 4);
        assert_eq!(paging.read(&memory, 0x2000, &mut data), 0);
    }
}
