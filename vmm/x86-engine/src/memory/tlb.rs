//! The translation cache.
//!
//! It cannot be seen by the guest. A cached translation always equals what a fresh walk would give: pages from which
//! translations were read are marked ([`super::ram::HAS_TRANSLATIONS`]), and a store to a present and accessed entry in one of them empties the cache. So
//! INVLPG has nothing to do, a warm CPU and a freshly restored one never differ, and the cache is no part of the saved state.
//!
//! An entry holds one tag for each kind of access, so that permission and presence are one comparison; a tag that cannot match
//! stands for "ask the slow path". Writes hit only where the dirty bit is set and the page has no marks.
//!
//! Banks keep apart what differs by privilege: supervisor, user, and supervisor that may touch user pages (SMAP off or EFLAGS.AC set). A
//! fourth is the user's while alignment is checked: its tags for loads and stores never match, so that every access takes the slow path.

use super::ram::{HostPage, PAGE_BYTES};

/// Pages in a bank.
const BANK_ENTRIES: usize = 512;
/// Supervisor, kept from user pages by SMAP.
pub(crate) const SUPERVISOR: usize = 0;
/// CPL 3.
pub(crate) const USER: usize = 1;
/// Supervisor that may touch user pages.
pub(crate) const SUPERVISOR_ALL: usize = 2;
/// CPL 3 with alignment checks (CR0.AM and EFLAGS.AC).
pub(crate) const USER_ALIGNED: usize = 3;
/// A power of two, so that an index can be masked.
const ENTRIES: usize = BANK_ENTRIES * 4;
/// Up to this many used entries are emptied one by one.
const FEW: usize = 64;

/// Matches no page address: those have their low bits clear.
const NEVER: u64 = 1;

/// The translation of one page, as data accesses need it: 32 bytes, half a cache line.
#[derive(Clone, Copy, Debug)]
struct Entry {
    read: u64,
    write: u64,
    /// Of the page.
    host: HostPage,
    /// Guest-physical address of the page.
    physical: u64,
}

const EMPTY: Entry = Entry {
    read: NEVER,
    write: NEVER,
    host: HostPage::NOWHERE,
    physical: 0,
};

/// The cache.
pub(crate) struct Tlb {
    entries: Box<[Entry; ENTRIES]>,
    /// Tags of the same pages for instruction fetches.
    fetch: Box<[u64; ENTRIES]>,
    /// Indices that were filled since the cache was last empty; incomplete once there are more than a few.
    filled: Vec<u32>,
    /// Offset of the bank in force.
    bank: usize,
}

impl Tlb {
    pub(crate) fn new() -> Self {
        Self {
            entries: Box::new([EMPTY; ENTRIES]),
            fetch: Box::new([NEVER; ENTRIES]),
            filled: Vec::with_capacity(FEW + 1),
            bank: 0,
        }
    }

    /// Chooses the bank for the accesses to come.
    pub(crate) fn select(&mut self, bank: usize) {
        self.bank = bank * BANK_ENTRIES;
    }

    /// The bank in force.
    pub(crate) fn selected(&self) -> usize {
        self.bank / BANK_ENTRIES
    }

    /// Whether accesses are the user's.
    pub(crate) fn is_user(&self) -> bool {
        matches!(self.selected(), USER | USER_ALIGNED)
    }

    /// Whether accesses must be aligned.
    pub(crate) fn checks_alignment(&self) -> bool {
        self.selected() == USER_ALIGNED
    }

    #[inline(always)]
    fn entry(&self, linear: u64) -> &Entry {
        &self.entries[self.index(linear)]
    }

    #[inline(always)]
    fn index(&self, linear: u64) -> usize {
        (((linear / PAGE_BYTES) as usize & (BANK_ENTRIES - 1)) | self.bank) & (ENTRIES - 1)
    }

    /// Where `bytes` bytes at `linear` can be loaded from, if that is known and they lie within one page.
    #[inline(always)]
    pub(crate) fn readable(&self, linear: u64, bytes: u64) -> Option<HostPage> {
        let entry = self.entry(linear);
        (entry.read == page_of_last(linear, bytes)).then_some(entry.host)
    }

    /// Where `bytes` bytes at `linear` can be stored to.
    #[inline(always)]
    pub(crate) fn writable(&self, linear: u64, bytes: u64) -> Option<HostPage> {
        let entry = self.entry(linear);
        (entry.write == page_of_last(linear, bytes)).then_some(entry.host)
    }

    /// The guest-physical page that instructions at `linear` are fetched from, if it is known.
    pub(crate) fn fetchable(&self, linear: u64) -> Option<u64> {
        let index = self.index(linear);
        (self.fetch[index] == linear & !(PAGE_BYTES - 1)).then_some(self.entries[index].physical)
    }

    /// The guest-physical page behind `linear` for loads (or stores), if it is known.
    pub(crate) fn physical(&self, linear: u64, write: bool) -> Option<u64> {
        let entry = self.entry(linear);
        let tag = if write { entry.write } else { entry.read };
        (tag == linear & !(PAGE_BYTES - 1)).then_some(entry.physical)
    }

    /// Adds a translation to the bank in force. Tags of the same page that are there already stay.
    pub(crate) fn fill(
        &mut self,
        linear: u64,
        physical: u64,
        host: HostPage,
        read: bool,
        write: bool,
        fetch: bool,
    ) {
        let index = self.index(linear);
        let page = linear & !(PAGE_BYTES - 1);
        let entry = &mut self.entries[index];
        let fetch_tag = &mut self.fetch[index];
        if ![entry.read, entry.write, *fetch_tag].contains(&page) {
            *entry = EMPTY;
            *fetch_tag = NEVER;
            if self.filled.len() <= FEW {
                self.filled.push(index as u32);
            }
        }
        entry.host = host;
        entry.physical = physical;
        for (tag, allowed) in [
            (&mut entry.read, read),
            (&mut entry.write, write),
            (fetch_tag, fetch),
        ] {
            if allowed {
                *tag = page;
            }
        }
    }

    /// Empties the cache.
    pub(crate) fn clear(&mut self) {
        if self.filled.len() <= FEW {
            for &index in &self.filled {
                self.entries[index as usize] = EMPTY;
                self.fetch[index as usize] = NEVER;
            }
        } else {
            self.entries.fill(EMPTY);
            self.fetch.fill(NEVER);
        }
        self.filled.clear();
    }

    /// Makes stores to the guest-physical page take the slow path, because it was marked.
    pub(crate) fn forbid_writes_to(&mut self, physical: u64) {
        let forbid = |entry: &mut Entry| {
            if entry.physical == physical {
                entry.write = NEVER;
            }
        };
        if self.filled.len() <= FEW {
            for &index in &self.filled {
                forbid(&mut self.entries[index as usize]);
            }
        } else {
            self.entries.iter_mut().for_each(forbid);
        }
    }
}

/// The page that the last of `bytes` bytes at `linear` lies in: equal to the first one's page unless the access crosses.
#[inline(always)]
fn page_of_last(linear: u64, bytes: u64) -> u64 {
    linear.wrapping_add(bytes - 1) & !(PAGE_BYTES - 1)
}
