//! From RIP to a block that is ready to be executed.
//!
//! ```text
//!  RIP ──recent──────────────────────────────────────► Run
//!   └─► fetch_address (may fault) ─► BlockCache::find ──► Run
//!                                      └─ miss: decode ─► BlockCache::insert
//! ```
//!
//! What always holds: whatever a block's bytes and their translation depended on moves the epoch when it changes, so that a block
//! that was executed in this epoch can be executed again without a look at either.

use super::{
    cache::{Block, LIMIT_BLOCK, Run},
    op::{Op, Place},
    translate::{Decoded, LONGEST, decode},
};
use crate::{
    cpu::{Core, EPOCH, Halt, SegmentName},
    memory::{
        Access,
        ram::{HAS_CODE, PAGE_BYTES},
    },
    run::Cpu,
};

impl Cpu {
    /// The block at RIP.
    #[inline(always)]
    pub(crate) fn block(&mut self) -> Result<Run, Halt> {
        let (rip, key) = (self.core.rip, self.core.block_key());
        match self.cache.recent(rip, key) {
            Some(block) => Ok(block),
            None => self.find_block(rip),
        }
    }

    #[cold]
    #[inline(never)]
    fn find_block(&mut self, rip: u64) -> Result<Run, Halt> {
        let core = &mut self.core;
        let physical = core.fetch_address(rip)?;
        let mut block = self.cache.find(physical, core.code_size);
        if let Some(Block {
            second_page: Some(second),
            ..
        }) = block
        {
            let next_page = core.advanced(rip, PAGE_BYTES - rip % PAGE_BYTES);
            if core.fetch_address(next_page)? & !(PAGE_BYTES - 1) != second {
                block = None;
            }
        }
        let block = match block {
            Some(block) => block,
            None => self.decode_block(rip, physical)?,
        };
        // Only now: decoding may have moved the epoch.
        let key = self.core.block_key();
        self.cache.remember(rip, key, block.run);
        Ok(block.run)
    }

    fn decode_block(&mut self, rip: u64, physical: u64) -> Result<Block, Halt> {
        if self.cache.is_full() {
            self.cache.clear(&mut self.core.ram);
            self.core.epoch += EPOCH;
        }
        let code = self.core.code_size;
        // As much of the page as a block can need.
        let mut bytes = [0; LIMIT_BLOCK * LONGEST];
        let in_page = (PAGE_BYTES - physical % PAGE_BYTES) as usize;
        let rest = &mut bytes[..in_page.min(LIMIT_BLOCK * LONGEST)];
        self.core.ram.read(physical, rest);
        let mut ops: Vec<Op> = Vec::with_capacity(LIMIT_BLOCK);
        let mut offset = 0_usize;
        while ops.len() < LIMIT_BLOCK && offset < rest.len() {
            let Decoded::Op(op, place) = decode(&rest[offset..], rip, offset as u16, code) else {
                break;
            };
            if place == Place::Alone && !ops.is_empty() {
                break;
            }
            offset += usize::from(op.length);
            ops.push(op);
            if place != Place::Anywhere {
                break;
            }
        }
        if ops.is_empty() {
            return self.decode_crossing(rip, physical);
        }
        self.note_code(physical, offset as u64);
        Ok(self.cache.insert(physical, &ops, offset as u16, code, None))
    }

    /// The one instruction of a block that crosses into the next page.
    fn decode_crossing(&mut self, rip: u64, physical: u64) -> Result<Block, Halt> {
        let code = self.core.code_size;
        let here = (PAGE_BYTES - physical % PAGE_BYTES) as usize;
        let next = self.core.advanced(rip, here as u64);
        let second = self.core.fetch_address(next)?;
        let mut bytes = [0; LONGEST];
        self.core.ram.read(physical, &mut bytes[..here]);
        self.core.ram.read(second, &mut bytes[here..]);
        let Decoded::Op(op, _) = decode(&bytes, rip, 0, code) else {
            unreachable!("the longest instruction is no longer than what was given");
        };
        self.note_code(physical, here as u64);
        self.note_code(second, (usize::from(op.length) - here) as u64);
        Ok(self
            .cache
            .insert(physical, &[op], u16::from(op.length), code, Some(second)))
    }

    /// From now on, stores to these bytes are noticed.
    fn note_code(&mut self, physical: u64, bytes: u64) {
        let core = &mut self.core;
        core.ram.note_code(physical, bytes);
        if core.ram.mark(physical, HAS_CODE) {
            core.tlb.forbid_writes_to(physical & !(PAGE_BYTES - 1));
        }
    }
}

impl Core {
    /// `rip` moved on, within the code segment's width.
    #[inline(always)]
    pub(crate) fn advanced(&self, rip: u64, bytes: u64) -> u64 {
        let next = rip.wrapping_add(bytes);
        if self.is_64_bit() {
            next
        } else {
            next & 0xFFFF_FFFF
        }
    }

    /// Code segments have bases outside of 64-bit mode.
    pub(crate) fn linear_rip(&self, rip: u64) -> u64 {
        if self.is_64_bit() {
            rip
        } else {
            rip.wrapping_add(self.segment(SegmentName::Cs).base) & 0xFFFF_FFFF
        }
    }

    /// What a remembered block depends on besides its address.
    #[inline(always)]
    pub(crate) fn block_key(&self) -> u64 {
        self.epoch | self.fetch_mode
    }

    /// The physical address that the instruction at offset `rip` is fetched from.
    fn fetch_address(&mut self, rip: u64) -> Result<u64, Halt> {
        if !self.is_64_bit() && rip > u64::from(self.segment(SegmentName::Cs).limit) {
            return Err(self.general_protection());
        }
        let linear = self.linear_rip(rip);
        if let Some(page) = self.tlb.fetchable(linear) {
            return Ok(page | (linear % PAGE_BYTES));
        }
        let physical = self.page_of(linear, SegmentName::Cs, Access::Fetch)?;
        if !self.ram.has_page(physical) {
            // Code in a device: no machine of ours has any.
            return Err(self.invalid_opcode());
        }
        Ok(physical)
    }
}
