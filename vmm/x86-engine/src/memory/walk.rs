//! Page walks: 32-bit, PAE and 4-level paging (SDM 3A chapter 4).
//!
//! In: a linear address and what is to be done there. Out: the physical address and what else may be done with the page, or #PF.
//! Accessed and dirty bits are set when the access is allowed, and only then. Every page that an entry was read from is
//! marked, so that a later store to it can be noticed.

use super::{
    Access,
    ram::{HAS_CODE, HAS_TRANSLATIONS, PAGE_BYTES},
    tlb,
};
use crate::{
    cpu::{CR0_PG, CR0_WP, CR4_PAE, CR4_PSE, CR4_SMEP, Core, EFER_NXE, Halt},
    exception::Exception,
};

/// Bits of a physical address: CPUID leaf 8000_0008.
pub(crate) const PHYSICAL_BITS: u32 = 40;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Where an entry of 8 bytes has its address.
const ADDRESS: u64 = ((1 << 52) - 1) & !(PAGE_BYTES - 1);
/// Address bits that do not exist.
const BEYOND: u64 = ((1 << 52) - 1) & !((1 << PHYSICAL_BITS) - 1);

// Page-fault error code: SDM 3A 4.7.
const CODE_PRESENT: u32 = 1 << 0;
const CODE_WRITE: u32 = 1 << 1;
const CODE_USER: u32 = 1 << 2;
const CODE_RESERVED: u32 = 1 << 3;
const CODE_FETCH: u32 = 1 << 4;

/// Where a linear address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translation {
    /// Physical address.
    pub(crate) physical: u64,
    /// Loads are allowed.
    pub(crate) readable: bool,
    /// Stores are allowed, and the dirty bit is set.
    pub(crate) writable: bool,
    /// Instruction fetches are allowed.
    pub(crate) executable: bool,
}

/// One entry on the way.
#[derive(Clone, Copy, Default)]
struct Visited {
    address: u64,
    value: u64,
    wide: bool,
}

/// What a walk gathered.
#[derive(Default)]
struct Walk {
    visited: [Visited; 4],
    depth: usize,
    writable: bool,
    user: bool,
    no_execute: bool,
    physical: u64,
}

/// Why a walk ended early.
enum Failure {
    NotPresent,
    Reserved,
}

impl Core {
    /// Translates at the privilege of the selected bank.
    ///
    /// # Errors
    /// #PF.
    pub(crate) fn translate(&mut self, linear: u64, access: Access) -> Result<Translation, Halt> {
        if self.cr0 & CR0_PG == 0 {
            return Ok(Translation {
                physical: linear & 0xFFFF_FFFF,
                readable: true,
                writable: true,
                executable: true,
            });
        }
        let mut walk = Walk {
            writable: true,
            user: true,
            ..Walk::default()
        };
        let found = if self.long_mode() {
            self.walk_four_levels(&mut walk, linear)
        } else if self.cr4 & CR4_PAE != 0 {
            self.walk_pae(&mut walk, linear)
        } else {
            self.walk_32_bit(&mut walk, linear)
        };
        match found {
            Err(Failure::NotPresent) => Err(self.page_fault(linear, access, 0)),
            Err(Failure::Reserved) => {
                Err(self.page_fault(linear, access, CODE_PRESENT | CODE_RESERVED))
            }
            Ok(()) => self.conclude(&walk, linear, access),
        }
    }

    fn walk_four_levels(&mut self, walk: &mut Walk, linear: u64) -> Result<(), Failure> {
        let mut table = self.cr3 & ADDRESS;
        for shift in [39, 30, 21, 12] {
            let entry = self.visit_wide(walk, table, linear >> shift & 0x1FF)?;
            let large = entry & LARGE != 0;
            if large && shift == 39 {
                return Err(Failure::Reserved);
            }
            if shift == 12 || large {
                return finish_wide(walk, entry, linear, shift);
            }
            table = entry & ADDRESS;
        }
        unreachable!("the last level always ends the walk")
    }

    fn walk_pae(&mut self, walk: &mut Walk, linear: u64) -> Result<(), Failure> {
        let pointer = self.pdpte[(linear >> 30 & 3) as usize];
        if pointer & PRESENT == 0 {
            return Err(Failure::NotPresent);
        }
        let directory = self.visit_wide(walk, pointer & ADDRESS, linear >> 21 & 0x1FF)?;
        if directory & LARGE != 0 {
            return finish_wide(walk, directory, linear, 21);
        }
        let page = self.visit_wide(walk, directory & ADDRESS, linear >> 12 & 0x1FF)?;
        finish_wide(walk, page, linear, 12)
    }

    fn walk_32_bit(&mut self, walk: &mut Walk, linear: u64) -> Result<(), Failure> {
        let directory = self.visit_narrow(walk, self.cr3 & 0xFFFF_F000, linear >> 22 & 0x3FF)?;
        if directory & LARGE != 0 && self.cr4 & CR4_PSE != 0 {
            // PSE-36: bits 13 to 20 are address bits 32 to 39.
            if directory & 1 << 21 != 0 {
                return Err(Failure::Reserved);
            }
            let high = (directory >> 13 & 0xFF) << 32;
            walk.physical = high | (directory & 0xFFC0_0000) | (linear & 0x3F_FFFF);
            return Ok(());
        }
        let page = self.visit_narrow(walk, directory & 0xFFFF_F000, linear >> 12 & 0x3FF)?;
        walk.physical = (page & 0xFFFF_F000) | (linear & 0xFFF);
        Ok(())
    }

    fn visit_wide(&mut self, walk: &mut Walk, table: u64, index: u64) -> Result<u64, Failure> {
        let address = table + index * 8;
        let value = self.read_entry::<u64>(address);
        if value & PRESENT == 0 {
            return Err(Failure::NotPresent);
        }
        if value & BEYOND != 0 || (value & NO_EXECUTE != 0 && self.efer & EFER_NXE == 0) {
            return Err(Failure::Reserved);
        }
        walk.add(address, value, true);
        Ok(value)
    }

    fn visit_narrow(&mut self, walk: &mut Walk, table: u64, index: u64) -> Result<u64, Failure> {
        let address = table + index * 4;
        let value = u64::from(self.read_entry::<u32>(address));
        if value & PRESENT == 0 {
            return Err(Failure::NotPresent);
        }
        walk.add(address, value, false);
        Ok(value)
    }

    /// Tables outside of memory read as all ones, which is reserved or leads outside of memory again.
    fn read_entry<T: super::ram::Plain + From<u8> + std::ops::Not<Output = T>>(
        &self,
        address: u64,
    ) -> T {
        if self.ram.has_page(address) {
            self.ram.load(address)
        } else {
            !T::from(0_u8)
        }
    }

    /// Checks permissions (SDM 3A 4.6.1), then sets accessed and dirty bits and the marks.
    fn conclude(&mut self, walk: &Walk, linear: u64, access: Access) -> Result<Translation, Halt> {
        let bank = self.tlb.selected();
        let as_user = self.tlb.is_user();
        let reachable = if as_user {
            walk.user
        } else {
            !(walk.user && bank == tlb::SUPERVISOR)
        };
        let write_allowed = walk.writable || (!as_user && self.cr0 & CR0_WP == 0);
        let fetch_allowed = !walk.no_execute
            && if as_user {
                walk.user
            } else {
                !(walk.user && self.cr4 & CR4_SMEP != 0)
            };
        let allowed = match access {
            Access::Read => reachable,
            Access::Write => reachable && write_allowed,
            Access::Fetch => fetch_allowed,
        };
        if !allowed {
            return Err(self.page_fault(linear, access, CODE_PRESENT));
        }
        let mut dirty = false;
        for (level, visited) in walk.visited[..walk.depth].iter().enumerate() {
            let is_leaf = level + 1 == walk.depth;
            let mut bits = ACCESSED;
            if is_leaf && access == Access::Write {
                bits |= DIRTY;
            }
            dirty = (visited.value | bits) & DIRTY != 0;
            self.set_entry_bits(visited, bits);
            self.mark_translations(visited.address);
        }
        Ok(Translation {
            physical: walk.physical,
            readable: reachable,
            writable: reachable && write_allowed && dirty,
            executable: fetch_allowed,
        })
    }

    fn set_entry_bits(&mut self, visited: &Visited, bits: u64) {
        if visited.value & bits == bits || !self.ram.has_page(visited.address) {
            return;
        }
        let value = visited.value | bits;
        if visited.wide {
            self.ram.store(visited.address, value);
        } else {
            self.ram.store(visited.address, value as u32);
        }
        if self.ram.marks(visited.address) & HAS_CODE != 0 {
            self.code_written(visited.address, 8);
        }
    }

    /// From now on, stores to this page take the slow path.
    fn mark_translations(&mut self, address: u64) {
        let page = address & !(PAGE_BYTES - 1);
        if !self.ram.has_page(page) || self.ram.marks(page) & HAS_TRANSLATIONS != 0 {
            return;
        }
        self.translation_pages.push(page);
        if self.ram.mark(page, HAS_TRANSLATIONS) {
            self.tlb.forbid_writes_to(page);
        }
    }

    #[cold]
    fn page_fault(&mut self, linear: u64, access: Access, cause: u32) -> Halt {
        let mut code = cause;
        if access == Access::Write {
            code |= CODE_WRITE;
        }
        if self.tlb.is_user() {
            code |= CODE_USER;
        }
        let tells_fetches =
            self.cr4 & CR4_SMEP != 0 || (self.cr4 & CR4_PAE != 0 && self.efer & EFER_NXE != 0);
        if access == Access::Fetch && tells_fetches {
            code |= CODE_FETCH;
        }
        self.raise(Exception::page_fault(code, linear))
    }
}

impl Walk {
    fn add(&mut self, address: u64, value: u64, wide: bool) {
        self.visited[self.depth] = Visited {
            address,
            value,
            wide,
        };
        self.depth += 1;
        self.writable &= value & WRITABLE != 0;
        self.user &= value & USER != 0;
        self.no_execute |= wide && value & NO_EXECUTE != 0;
    }
}

/// Ends a walk at an entry of 8 bytes that maps a page of 2^`shift` bytes.
fn finish_wide(walk: &mut Walk, entry: u64, linear: u64, shift: u32) -> Result<(), Failure> {
    let within = (1_u64 << shift) - 1;
    // In a large page's entry, bit 12 is PAT and the other low address bits are reserved.
    if shift > 12 && entry & ADDRESS & within & !(1 << 12) != 0 {
        return Err(Failure::Reserved);
    }
    walk.physical = (entry & ADDRESS & !within) | (linear & within);
    Ok(())
}

/// Whether overwriting these bytes of a table can invalidate a cached translation: only entries that are present and accessed
/// were ever used for one.
pub(crate) fn was_used(entry: u64) -> bool {
    entry & (PRESENT | ACCESSED) == PRESENT | ACCESSED
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
