//! The address space that both processors have, and the memory behind it.
//!
//! Out: page tables, GDT, IDT and TSS as bytes at guest-physical addresses. What always holds: the two processors get the same bytes, so
//! that a case sees the same memory on both.
//!
//! ```text
//!  linear                  physical
//!  CODE  (2 pages)         code pages           user, read and execute; what follows is not mapped
//!  DATA  (4 pages)         data pages           user, read and write (2); user, read (1); supervisor (1); not mapped around them
//!  HARNESS + physical      all of memory        the harness's own, out of reach for every address of 46 bits or less
//! ```

/// Bytes in a page.
pub const PAGE: u64 = 4096;
/// Guest-physical memory, bytes.
pub const MEMORY_BYTES: u64 = 8 << 20;
/// Cases that fit into one batch.
pub const BATCH: usize = 256;

/// Two pages of code, user, not writable.
pub const CODE: u64 = 0x1000_0000;
/// Bytes of executable code.
pub const CODE_BYTES: u64 = 2 * PAGE;
/// Data: two pages to read and write, one to read, one of the supervisor's.
pub const DATA: u64 = 0x2000_0000;
/// Bytes that a case can write.
pub const DATA_BYTES: u64 = 2 * PAGE;
/// The page that user mode may only read.
pub const READ_ONLY: u64 = DATA + DATA_BYTES;
/// The page that is the supervisor's.
pub const SUPERVISOR: u64 = READ_ONLY + PAGE;
/// FS's base.
pub const FS_BASE: u64 = DATA + 0x400;
/// GS's base.
pub const GS_BASE: u64 = DATA + 0x1200;
/// Where the harness sees memory.
pub const HARNESS: u64 = 0x7000_0000_0000;

// Guest-physical addresses.
const TABLES: u64 = 0x1000;
const TABLES_END: u64 = 0x2_0000;
const GDT: u64 = 0x2_0000;
const IDT: u64 = 0x2_1000;
const HALTING_IDT: u64 = 0x2_2000;
const TSS: u64 = 0x2_3000;
/// The exception handlers, 64 bytes each.
pub const STUBS: u64 = 0x2_4000;
/// Handlers that only halt.
pub const HALTS: u64 = 0x2_6000;
/// The loop over a batch.
pub const PROGRAM: u64 = 0x2_7000;
/// The loop's variables.
pub const CONTROL: u64 = 0x2_8000;
/// The current case's input.
pub const CURRENT_INPUT: u64 = 0x2_9000;
/// The current case's outcome.
pub const CURRENT_OUTPUT: u64 = 0x2_A000;
const STACK: u64 = 0x2_C000;
/// End of the stack of CPL 0: exception frames lie below.
pub const STACK_TOP: u64 = STACK + PAGE;
/// What data pages hold before a case.
pub const PRISTINE: u64 = 0x3_0000;
/// The data pages.
pub const DATA_PAGES: u64 = 0x3_2000;
/// The code pages, and one that catches the tail of code that is to run out of them.
pub const CODE_PAGES: u64 = 0x3_6000;
/// Inputs of a batch.
pub const INPUTS: u64 = 0x10_0000;
/// Outcomes of a batch.
pub const OUTPUTS: u64 = 0x20_0000;
/// No memory: a store here ends the batch.
pub const DOORBELL: u64 = 0x8000_0000;
/// Where the harness sees [`DOORBELL`].
pub const DOORBELL_LINEAR: u64 = HARNESS + DOORBELL;

/// Selectors as Linux has them: `kvm-pvm` shows the host's own to guest user mode.
pub const USER_CODE: u16 = 0x33;
/// User mode's data and stack segment.
pub const USER_DATA: u16 = 0x2B;
/// The code segment of the exception handlers.
pub const KERNEL_CODE: u16 = 0x10;
/// Their stack segment.
pub const KERNEL_DATA: u16 = 0x18;
/// The task state segment.
pub const TASK: u16 = 0x40;

/// Bytes of an exception handler.
pub const STUB_BYTES: u64 = 64;
/// Exceptions that have a handler.
pub const VECTORS: u64 = 32;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;

/// Where the harness sees a guest-physical address.
#[must_use]
pub const fn harness(physical: u64) -> u64 {
    HARNESS + physical
}

/// One piece of memory to write before anything runs.
pub struct Piece {
    /// Guest-physical address.
    pub at: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What the registers for tables are to hold.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    /// CR3.
    pub cr3: u64,
    /// Base and limit of the GDT.
    pub gdt: (u64, u16),
    /// Base and limit of the IDT whose handlers record and go on.
    pub idt: (u64, u16),
    /// The IDT whose handlers halt.
    pub halting_idt: (u64, u16),
    /// Base and limit of the task state segment.
    pub tss: (u64, u16),
}

/// Where the tables are.
pub const REGISTERS: Tables = Tables {
    cr3: TABLES,
    gdt: (harness(GDT), 0x4F),
    idt: (harness(IDT), 0xFFF),
    halting_idt: (harness(HALTING_IDT), 0xFFF),
    tss: (harness(TSS), 0x67),
};

/// Everything that is not the program: tables, handlers that halt, the contents of data pages.
#[must_use]
pub fn pieces() -> Vec<Piece> {
    let (gate, halt): (Vec<u8>, Vec<u8>) = (
        idt(harness(STUBS), STUB_BYTES),
        idt(harness(HALTS), HALT_BYTES),
    );
    vec![
        Piece {
            at: TABLES,
            bytes: page_tables(),
        },
        Piece {
            at: GDT,
            bytes: gdt(),
        },
        Piece {
            at: IDT,
            bytes: gate,
        },
        Piece {
            at: HALTING_IDT,
            bytes: halt,
        },
        Piece {
            at: TSS,
            bytes: tss(),
        },
        Piece {
            at: HALTS,
            bytes: vec![HLT; PAGE as usize],
        },
        Piece {
            at: CODE_PAGES,
            bytes: vec![HLT; 3 * PAGE as usize],
        },
        Piece {
            at: PRISTINE,
            bytes: pristine(),
        },
        Piece {
            at: DATA_PAGES,
            bytes: data_pages(),
        },
    ]
}

/// HLT raises #GP in user mode: it ends every case, and lies wherever code could go astray.
pub const HLT: u8 = 0xF4;
/// Distance of the handlers that halt.
const HALT_BYTES: u64 = 16;

/// The vector whose halting handler `rip` has left.
#[must_use]
pub fn halted_vector(rip: u64) -> Option<u8> {
    let offset = rip.checked_sub(harness(HALTS) + 1)?;
    let vector = offset / HALT_BYTES;
    (offset % HALT_BYTES == 0 && vector < VECTORS).then_some(vector as u8)
}

/// What the two writable data pages hold before a case (apart from its patches).
#[must_use]
pub fn pristine() -> Vec<u8> {
    filled(0x1234_5678, DATA_BYTES)
}

/// All four data pages before the first case.
fn data_pages() -> Vec<u8> {
    let mut bytes = pristine();
    bytes.extend(filled(0x9876_5432, 2 * PAGE));
    bytes
}

fn filled(seed: u64, bytes: u64) -> Vec<u8> {
    let mut random = crate::random::Random::new(seed);
    (0..bytes / 8)
        .flat_map(|_| random.next().to_le_bytes())
        .collect()
}

/// Maps page by page; tables are taken from one pool.
struct Mapper {
    pool: Vec<u64>,
}

impl Mapper {
    const ENTRIES: usize = 512;

    fn map(&mut self, linear: u64, physical: u64, flags: u64) {
        let mut table = 0;
        for level in [3, 2, 1] {
            let entry = table + ((linear >> (12 + 9 * level)) & 0x1FF) as usize;
            if self.pool[entry] == 0 {
                let next = self.pool.len();
                self.pool.resize(next + Self::ENTRIES, 0);
                self.pool[entry] =
                    (TABLES + next as u64 * 8) | PRESENT | WRITABLE | USER | ACCESSED;
            }
            table = ((self.pool[entry] & 0xF_FFFF_F000) - TABLES) as usize / 8;
        }
        self.pool[table + ((linear >> 12) & 0x1FF) as usize] =
            physical | flags | PRESENT | ACCESSED | DIRTY;
    }
}

fn page_tables() -> Vec<u8> {
    let mut mapper = Mapper {
        pool: vec![0; Mapper::ENTRIES],
    };
    for page in (0..MEMORY_BYTES).step_by(PAGE as usize) {
        let flags = match page {
            PROGRAM => USER,
            STUBS..PROGRAM => 0,
            GDT..STUBS => WRITABLE | NO_EXECUTE,
            _ => WRITABLE | USER | NO_EXECUTE,
        };
        mapper.map(harness(page), page, flags);
    }
    mapper.map(DOORBELL_LINEAR, DOORBELL, WRITABLE | USER | NO_EXECUTE);
    for page in 0..2 {
        mapper.map(CODE + page * PAGE, CODE_PAGES + page * PAGE, USER);
        mapper.map(
            DATA + page * PAGE,
            DATA_PAGES + page * PAGE,
            USER | WRITABLE | NO_EXECUTE,
        );
    }
    mapper.map(READ_ONLY, DATA_PAGES + 2 * PAGE, USER | NO_EXECUTE);
    mapper.map(SUPERVISOR, DATA_PAGES + 3 * PAGE, WRITABLE | NO_EXECUTE);
    let bytes: Vec<u8> = mapper
        .pool
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect();
    assert!(TABLES + bytes.len() as u64 <= TABLES_END);
    bytes
}

/// Descriptors by index: 2 and 3 of CPL 0, 5 and 6 of CPL 3, 8 and 9 the task's (SDM 3A 3.4.5).
fn gdt() -> Vec<u8> {
    const ACCESSED_PRESENT: u64 = 0x91 << 40;
    const FLAT: u64 = 0xF_0000_0000_FFFF | 1 << 55;
    const LEVEL_3: u64 = 3 << 45;
    let code = FLAT | ACCESSED_PRESENT | 0xA << 40 | 1 << 53;
    let data = FLAT | ACCESSED_PRESENT | 0x2 << 40 | 1 << 54;
    let base = harness(TSS);
    let tss = 0x67 | (base & 0xFF_FFFF) << 16 | 0x8B << 40 | (base >> 24 & 0xFF) << 56;
    let entries = [
        0,
        0,
        code,
        data,
        0,
        data | LEVEL_3,
        code | LEVEL_3,
        0,
        tss,
        base >> 32,
    ];
    entries
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect()
}

/// Gates for the exceptions, and none for other vectors. User mode may use those of INT3 and INTO.
fn idt(first: u64, distance: u64) -> Vec<u8> {
    const BREAKPOINT: u64 = 3;
    const OVERFLOW: u64 = 4;
    let mut bytes = Vec::new();
    for vector in 0..256 {
        let handler = first + vector * distance;
        let level = if matches!(vector, BREAKPOINT | OVERFLOW) {
            3
        } else {
            0
        };
        let low = (handler & 0xFFFF)
            | u64::from(KERNEL_CODE) << 16
            | 0x8E << 40
            | level << 45
            | (handler >> 16 & 0xFFFF) << 48;
        let (low, high) = if vector < VECTORS {
            (low, handler >> 32)
        } else {
            (0, 0)
        };
        bytes.extend(low.to_le_bytes());
        bytes.extend(high.to_le_bytes());
    }
    bytes
}

/// RSP0, and an I/O map beyond the limit: no port is allowed.
fn tss() -> Vec<u8> {
    let mut bytes = vec![0; 0x68];
    bytes[4..12].copy_from_slice(&harness(STACK_TOP).to_le_bytes());
    bytes[0x66..0x68].copy_from_slice(&0x68_u16.to_le_bytes());
    bytes
}

/// RFLAGS of the harness: interrupts are enabled, though none arrives, because some hosts show user mode the processor's own IF.
pub const RFLAGS: u64 = 0x202;
/// CR0: PE, MP, ET, NE, WP, AM, PG.
pub const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18 | 1 << 31;
/// CR4: PAE, PGE, OSFXSR, OSXMMEXCPT.
pub const CR4: u64 = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 10;
/// EFER: SCE, LME, LMA, NXE.
pub const EFER: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11;
