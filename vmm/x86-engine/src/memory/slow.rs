//! Loads and stores that the translation cache does not know: walks, accesses that cross a page, devices, marked pages.

use super::{
    Access,
    ram::{HAS_CODE, HAS_TRANSLATIONS, PAGE_BYTES, Plain, from_bytes, to_bytes},
    tlb, walk,
};
use crate::{
    cpu::{CR4_SMAP, Core, Halt, SegmentName, Step},
    exception::Exception,
    exit::{Answer, Completion, Exit},
};

/// The widest access, bytes.
const WIDEST: usize = 16;

/// A part of an access that lies in one page.
#[derive(Clone, Copy)]
struct Piece {
    physical: u64,
    from: usize,
    to: usize,
}

impl Core {
    /// A load that missed.
    #[cold]
    #[inline(never)]
    pub(crate) fn load_slow<T: Plain>(
        &mut self,
        linear: u64,
        segment: SegmentName,
    ) -> Result<T, Halt> {
        self.check_alignment(linear, T::BYTES, T::ALIGNMENT, segment)?;
        let mut buffer = [0; WIDEST];
        for piece in self.pieces(linear, T::BYTES, segment, Access::Read)? {
            self.load_piece(piece, &mut buffer)?;
        }
        self.watch(linear, T::BYTES, false);
        Ok(from_bytes(&buffer))
    }

    /// A load that missed, of an operand that will be stored to.
    #[cold]
    #[inline(never)]
    pub(crate) fn load_to_modify_slow<T: Plain>(
        &mut self,
        linear: u64,
        segment: SegmentName,
    ) -> Result<T, Halt> {
        self.check_alignment(linear, T::BYTES, T::ALIGNMENT, segment)?;
        let mut buffer = [0; WIDEST];
        for piece in self.pieces(linear, T::BYTES, segment, Access::Write)? {
            self.load_piece(piece, &mut buffer)?;
        }
        Ok(from_bytes(&buffer))
    }

    /// A store that missed.
    #[cold]
    #[inline(never)]
    pub(crate) fn store_slow<T: Plain>(
        &mut self,
        linear: u64,
        segment: SegmentName,
        value: T,
    ) -> Step {
        self.check_alignment(linear, T::BYTES, T::ALIGNMENT, segment)?;
        let buffer: [u8; WIDEST] = to_bytes(value);
        for piece in self.pieces(linear, T::BYTES, segment, Access::Write)? {
            self.store_piece(piece, &buffer)?;
        }
        self.watch(linear, T::BYTES, true);
        Ok(())
    }

    /// Makes sure that `bytes` bytes (at most a page) at `linear` can be stored to: for instructions that store piece by piece.
    pub(crate) fn probe_write(&mut self, linear: u64, bytes: u64, segment: SegmentName) -> Step {
        self.probe(linear, bytes, segment, Access::Write)
    }

    /// Makes sure that `bytes` bytes (at most a page) at `linear` can be loaded.
    pub(crate) fn probe_read(&mut self, linear: u64, bytes: u64, segment: SegmentName) -> Step {
        self.probe(linear, bytes, segment, Access::Read)
    }

    fn probe(&mut self, linear: u64, bytes: u64, segment: SegmentName, access: Access) -> Step {
        self.check_both_ends(linear, bytes, segment)?;
        self.page_of(linear, segment, access)?;
        let last = linear.wrapping_add(bytes - 1);
        if last / PAGE_BYTES != linear / PAGE_BYTES {
            self.page_of(self.wrap(last & !(PAGE_BYTES - 1)), segment, access)?;
        }
        Ok(())
    }

    /// Outside of 64-bit mode linear addresses have 32 bits.
    pub(crate) fn wrap(&self, linear: u64) -> u64 {
        if self.long_mode() {
            linear
        } else {
            linear & 0xFFFF_FFFF
        }
    }

    /// Runs `work` with the privilege of the processor's own accesses to descriptor tables and the TSS: supervisor, and never
    /// to user pages where SMAP is on (SDM 3A 4.6.1, "implicit supervisor-mode accesses").
    pub(crate) fn as_system<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let bank = if self.cr4 & CR4_SMAP != 0 {
            tlb::SUPERVISOR
        } else {
            tlb::SUPERVISOR_ALL
        };
        self.tlb.select(bank);
        let result = work(self);
        self.select_bank();
        result
    }

    /// Loads from a descriptor table or the TSS.
    pub(crate) fn load_system<T: Plain>(&mut self, linear: u64) -> Result<T, Halt> {
        let linear = self.wrap(linear);
        self.as_system(|core| core.load_linear(linear, SegmentName::Ds))
    }

    /// Stores to a descriptor table or the TSS.
    pub(crate) fn store_system<T: Plain>(&mut self, linear: u64, value: T) -> Step {
        let linear = self.wrap(linear);
        self.as_system(|core| core.store_linear(linear, SegmentName::Ds, value))
    }

    /// #AC, for programs at CPL 3 that asked for it (SDM 3A 6.15, "Interrupt 17"). An address that is not canonical comes first, a page
    /// fault later.
    pub(crate) fn check_alignment(
        &mut self,
        linear: u64,
        bytes: u64,
        alignment: u64,
        segment: SegmentName,
    ) -> Step {
        if !self.tlb.checks_alignment() || linear.is_multiple_of(alignment) {
            return Ok(());
        }
        self.check_both_ends(linear, bytes, segment)?;
        Err(self.raise(Exception::ALIGNMENT_CHECK))
    }

    fn check_canonical(&mut self, linear: u64, segment: SegmentName) -> Step {
        if is_canonical(linear) {
            return Ok(());
        }
        let exception = if segment == SegmentName::Ss {
            Exception::stack_fault(0)
        } else {
            Exception::general_protection(0)
        };
        Err(self.raise(exception))
    }

    /// Cuts an access at a page boundary. Both pages are translated before anything is done.
    fn pieces(
        &mut self,
        linear: u64,
        bytes: u64,
        segment: SegmentName,
        access: Access,
    ) -> Result<impl Iterator<Item = Piece> + use<>, Halt> {
        self.check_both_ends(linear, bytes, segment)?;
        let length = bytes as usize;
        let first_length = length.min((PAGE_BYTES - linear % PAGE_BYTES) as usize);
        let first = Piece {
            physical: self.page_of(linear, segment, access)?,
            from: 0,
            to: first_length,
        };
        let second = if first_length < length {
            let next = self.wrap(linear.wrapping_add(first_length as u64));
            Some(Piece {
                physical: self.page_of(next, segment, access)?,
                from: first_length,
                to: length,
            })
        } else {
            None
        };
        Ok(std::iter::once(first).chain(second))
    }

    /// That an address does not exist comes before any page fault.
    pub(crate) fn check_both_ends(
        &mut self,
        linear: u64,
        bytes: u64,
        segment: SegmentName,
    ) -> Step {
        self.check_canonical(linear, segment)?;
        self.check_canonical(self.wrap(linear.wrapping_add(bytes - 1)), segment)
    }

    /// The physical address behind `linear`, now in the translation cache if it is memory.
    pub(crate) fn page_of(
        &mut self,
        linear: u64,
        segment: SegmentName,
        access: Access,
    ) -> Result<u64, Halt> {
        self.check_canonical(linear, segment)?;
        // What may be fetched is known to `Tlb::fetchable` alone.
        if access != Access::Fetch
            && let Some(page) = self.tlb.physical(linear, access == Access::Write)
        {
            return Ok(page | (linear % PAGE_BYTES));
        }
        let found = self.translate(linear, access)?;
        let page = found.physical & !(PAGE_BYTES - 1);
        if self.ram.has_page(page) {
            let plain = self.ram.marks(page) == 0;
            let host = self.ram.host_page(page);
            // With a data breakpoint armed, or alignment to be checked, every access comes here.
            let fast = !self.watching && !self.tlb.checks_alignment();
            self.tlb.fill(
                linear,
                page,
                host,
                found.readable && fast,
                found.writable && plain && fast,
                found.executable,
            );
        }
        Ok(found.physical)
    }

    fn load_piece(&mut self, piece: Piece, buffer: &mut [u8; WIDEST]) -> Step {
        if self.ram.has_page(piece.physical) {
            self.ram
                .read(piece.physical, &mut buffer[piece.from..piece.to]);
            return Ok(());
        }
        for from in (piece.from..piece.to).step_by(8) {
            let to = piece.to.min(from + 8);
            let address = piece.physical + (from - piece.from) as u64;
            let width = (to - from) as u8;
            match self.next_answer() {
                Some(Answer::Read(data)) => {
                    buffer[from..to].copy_from_slice(&data[..to - from]);
                }
                _ => return Err(self.exit(Exit::MmioRead { address, width }, Completion::Again)),
            }
        }
        Ok(())
    }

    fn store_piece(&mut self, piece: Piece, buffer: &[u8; WIDEST]) -> Step {
        if self.ram.has_page(piece.physical) {
            self.store_to_memory(piece.physical, &buffer[piece.from..piece.to]);
            return Ok(());
        }
        for from in (piece.from..piece.to).step_by(8) {
            let to = piece.to.min(from + 8);
            if self.next_answer().is_some() {
                continue;
            }
            let mut data = [0; 8];
            data[..to - from].copy_from_slice(&buffer[from..to]);
            let exit = Exit::MmioWrite {
                address: piece.physical + (from - piece.from) as u64,
                width: (to - from) as u8,
                data,
            };
            return Err(self.exit(exit, Completion::Again));
        }
        Ok(())
    }

    /// Stores to memory within one page, and minds the page's marks.
    pub(crate) fn store_to_memory(&mut self, physical: u64, data: &[u8]) {
        let marks = self.ram.marks(physical);
        if marks & HAS_TRANSLATIONS != 0 {
            self.table_written(physical, data.len() as u64);
        }
        self.ram.write(physical, data);
        if marks & HAS_CODE != 0 {
            self.code_written(physical, data.len() as u64);
        }
    }

    /// A page table is about to be written: if an entry that may be cached is among the bytes, no translation is valid any more.
    fn table_written(&mut self, physical: u64, bytes: u64) {
        let first = physical & !7;
        let last = (physical + bytes - 1) & !7;
        let wide = self.long_mode() || self.cr4 & crate::cpu::CR4_PAE != 0;
        let used = (first..=last).step_by(8).any(|address| {
            let entry: u64 = self.ram.load(address);
            walk::was_used(entry) || (!wide && walk::was_used(entry >> 32))
        });
        if used {
            self.flush_translations();
            self.end_block();
        }
    }

    /// Memory with decoded code in it was written.
    pub(crate) fn code_written(&mut self, physical: u64, bytes: u64) {
        if self.ram.is_code(physical, bytes) {
            self.stale_code.push(physical & !(PAGE_BYTES - 1));
            self.epoch += crate::cpu::EPOCH;
            self.end_block();
        }
    }

    /// Memory was written from outside, within one page.
    pub(crate) fn written_from_outside(&mut self, physical: u64, bytes: u64) {
        let marks = self.ram.marks(physical);
        if marks & HAS_TRANSLATIONS != 0 {
            // The old entries are gone: assume the worst.
            self.flush_translations();
        }
        if marks & HAS_CODE != 0 {
            self.code_written(physical, bytes);
        }
    }

    /// Data breakpoints (SDM 3B 17.2.4): traps, delivered after the instruction.
    fn watch(&mut self, linear: u64, bytes: u64, write: bool) {
        if self.watching {
            self.pending_debug |= self.matching_watchpoints(linear, bytes, write);
            if self.pending_debug != 0 {
                self.end_block();
            }
        }
    }

    fn matching_watchpoints(&self, linear: u64, bytes: u64, write: bool) -> u64 {
        let dr7 = self.debug[7];
        let mut matching = 0;
        for index in 0..4 {
            let kind = dr7 >> (16 + index * 4) & 3;
            // 1: writes. 3: reads and writes. 2: I/O, which CR4.DE would allow.
            if dr7 >> (index * 2) & 3 == 0 || !(kind == 3 || (kind == 1 && write)) {
                continue;
            }
            let length = [1, 2, 8, 4][(dr7 >> (18 + index * 4) & 3) as usize];
            let start = self.debug[index] & !(length - 1);
            if linear < start.wrapping_add(length) && start < linear.wrapping_add(bytes) {
                matching |= 1 << index;
            }
        }
        matching
    }
}

/// Whether bits 47 to 63 are all the same.
#[inline(always)]
pub(crate) fn is_canonical(linear: u64) -> bool {
    ((linear << 16) as i64 >> 16) as u64 == linear
}
