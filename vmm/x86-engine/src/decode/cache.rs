//! The cache of decoded blocks, by physical address.
//!
//! All operations lie in one array; a block is a range of it. A block is found through its page ([`CodePage`], by offset), and, much
//! faster, through `recent`, by linear address, as long as nothing was invalidated since ([`crate::cpu::Core::epoch`]).
//! Pages whose code was written lose all of their blocks. The operations of lost blocks stay in the array until it is full; then
//! everything is dropped. None of this can be seen by the guest.

use super::op::Op;
use crate::{
    cpu::CodeSize,
    memory::ram::{PAGE_BYTES, Ram},
};

/// Operations that are kept at most: some 80 MB.
const LIMIT_OPS: usize = 2 << 20;
/// Instructions in a block at most.
pub(crate) const LIMIT_BLOCK: usize = 64;
/// Entries of the table of recent blocks; a power of two.
const RECENT_ENTRIES: usize = 8192;
const NO_BLOCK: u32 = 0;

/// A run of operations: what is needed to execute a block. Eight bytes, so that it travels in a register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Index of its first operation.
    pub(crate) first: u32,
    /// How many there are.
    pub(crate) count: u16,
    /// Its length in bytes.
    pub(crate) bytes: u16,
}

/// A decoded block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) run: Run,
    /// How it was decoded.
    code: CodeSize,
    /// Physical page of the second part, if its one instruction crosses into another page.
    pub(crate) second_page: Option<u64>,
}

/// A block that was executed lately, as it was found then.
#[derive(Clone, Copy)]
struct Recent {
    rip: u64,
    /// Epoch and mode; zero never matches.
    key: u64,
    run: Run,
}

/// The blocks that begin in one physical page: by offset, index into `blocks` plus one.
struct CodePage {
    starts: Box<[u32; PAGE_BYTES as usize]>,
    /// Blocks of other pages whose second part lies here make this page's owner drop those pages too.
    crossed_from: Vec<u64>,
}

/// The cache.
pub(crate) struct BlockCache {
    pub(crate) ops: Vec<Op>,
    blocks: Vec<Block>,
    pages: Vec<Option<CodePage>>,
    recent: Box<[Recent; RECENT_ENTRIES]>,
}

impl BlockCache {
    /// An empty cache for memory of `bytes` bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        let nothing = Recent {
            rip: 0,
            key: 0,
            run: Run {
                first: 0,
                count: 0,
                bytes: 0,
            },
        };
        Self {
            ops: Vec::new(),
            blocks: Vec::new(),
            pages: (0..bytes / PAGE_BYTES).map(|_| None).collect(),
            recent: Box::new([nothing; RECENT_ENTRIES]),
        }
    }

    #[inline(always)]
    fn slot(rip: u64) -> usize {
        (rip ^ (rip >> 13)) as usize & (RECENT_ENTRIES - 1)
    }

    /// The block at `rip`, if it was executed since the epoch in `key` began.
    #[inline(always)]
    pub(crate) fn recent(&self, rip: u64, key: u64) -> Option<Run> {
        let entry = &self.recent[Self::slot(rip)];
        (entry.rip == rip && entry.key == key).then_some(entry.run)
    }

    /// Remembers where the block at `rip` is.
    pub(crate) fn remember(&mut self, rip: u64, key: u64, run: Run) {
        self.recent[Self::slot(rip)] = Recent { rip, key, run };
    }

    /// The block that begins at a physical address.
    pub(crate) fn find(&self, physical: u64, code: CodeSize) -> Option<Block> {
        let page = self.pages[(physical / PAGE_BYTES) as usize].as_ref()?;
        let number = page.starts[(physical % PAGE_BYTES) as usize];
        if number == NO_BLOCK {
            return None;
        }
        let block = self.blocks[number as usize - 1];
        (block.code == code).then_some(block)
    }

    /// Adds a block that begins at `physical`.
    pub(crate) fn insert(
        &mut self,
        physical: u64,
        ops: &[Op],
        bytes: u16,
        code: CodeSize,
        second_page: Option<u64>,
    ) -> Block {
        let block = Block {
            run: Run {
                first: self.ops.len() as u32,
                count: ops.len() as u16,
                bytes,
            },
            code,
            second_page,
        };
        self.ops.extend_from_slice(ops);
        self.blocks.push(block);
        let number = self.blocks.len() as u32;
        self.page(physical).starts[(physical % PAGE_BYTES) as usize] = number;
        if let Some(second) = second_page {
            let first = physical & !(PAGE_BYTES - 1);
            let crossed = &mut self.page(second).crossed_from;
            if !crossed.contains(&first) {
                crossed.push(first);
            }
        }
        block
    }

    fn page(&mut self, physical: u64) -> &mut CodePage {
        self.pages[(physical / PAGE_BYTES) as usize].get_or_insert_with(|| CodePage {
            starts: Box::new([NO_BLOCK; PAGE_BYTES as usize]),
            crossed_from: Vec::new(),
        })
    }

    /// Drops the blocks of a physical page, and those that reach into it.
    pub(crate) fn drop_page(&mut self, physical: u64, ram: &mut Ram) {
        let Some(page) = self.pages[(physical / PAGE_BYTES) as usize].take() else {
            return;
        };
        ram.forget_code(physical);
        for other in page.crossed_from {
            self.drop_page(other, ram);
        }
    }

    /// Whether the next block could be one too many.
    pub(crate) fn is_full(&self) -> bool {
        self.ops.len() + LIMIT_BLOCK > LIMIT_OPS
    }

    /// Drops everything. The caller begins a new epoch.
    pub(crate) fn clear(&mut self, ram: &mut Ram) {
        self.ops.clear();
        self.blocks.clear();
        for (number, page) in self.pages.iter_mut().enumerate() {
            if page.take().is_some() {
                ram.forget_code(number as u64 * PAGE_BYTES);
            }
        }
    }
}
