//! Global and interrupt descriptor tables and the task state segment (Intel SDM 3A §3.4.5, §6.14, §7.7).

use core::arch::asm;
use core::mem::size_of;

use super::Global;

/// Kernel code segment.
pub const KERNEL_CODE: u16 = 0x08;
/// Kernel data segment.
pub const KERNEL_DATA: u16 = 0x10;
/// User data segment, privilege level 3.
pub const USER_DATA: u16 = 0x18 | 3;
/// User code segment, privilege level 3.
pub const USER_CODE: u16 = 0x20 | 3;
const TASK: u16 = 0x28;

/// Gates: 32 exceptions and 16 interrupt lines.
const VECTORS: usize = 48;
/// Present, interrupt gate (interrupts off), privilege level 0.
const INTERRUPT_GATE: u64 = 0x8E00;
/// Bytes of stack for entries from privilege level 3.
const ENTRY_STACK_SIZE: usize = 8 * 1024;

#[repr(C, packed)]
struct TaskState {
    reserved: u32,
    stack: u64,
    unused: [u32; 22],
    io_map: u32,
}

#[repr(C)]
struct Tables {
    gates: [[u64; 2]; VECTORS],
    segments: [u64; 7],
    task: TaskState,
    entry_stack: [u8; ENTRY_STACK_SIZE],
}

static TABLES: Global<Tables> = Global::new(Tables {
    gates: [[0; 2]; VECTORS],
    segments: [
        0,
        0x00AF_9B00_0000_FFFF,
        0x00CF_9300_0000_FFFF,
        0x00CF_F300_0000_FFFF,
        0x00AF_FB00_0000_FFFF,
        0,
        0,
    ],
    task: TaskState {
        reserved: 0,
        stack: 0,
        unused: [0; 22],
        io_map: 0x0068_0000,
    },
    entry_stack: [0; ENTRY_STACK_SIZE],
});

/// What LGDT and LIDT take.
#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

impl Pointer {
    fn to<T>(table: &T) -> Self {
        Self {
            limit: (size_of::<T>() - 1) as u16,
            base: &raw const *table as u64,
        }
    }
}

unsafe extern "C" {
    /// Addresses of the entry points, by vector (interrupts.rs).
    static entry_points: [u64; VECTORS];
}

/// Fills and loads all tables.
pub fn load() {
    let tables = TABLES.take();
    // SAFETY: the array lies in read-only data and is never written.
    let entries = unsafe { &entry_points };
    for (gate, &entry) in tables.gates.iter_mut().zip(entries) {
        *gate = interrupt_gate(entry);
    }
    tables.task.stack = tables.entry_stack.as_ptr_range().end as u64 & !15;
    let [low, high] = task_descriptor(&tables.task);
    tables.segments[5] = low;
    tables.segments[6] = high;

    let (segments, gates) = (Pointer::to(&tables.segments), Pointer::to(&tables.gates));
    // SAFETY: both tables are static and complete; the code segment selector loaded by the far
    // return is flat 64-bit code like the one in use.
    unsafe {
        asm!(
            "lgdt [{segments}]",
            "lidt [{gates}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {data:x}",
            "mov es, {data:x}",
            "mov ss, {data:x}",
            "ltr {task:x}",
            segments = in(reg) &raw const segments,
            gates = in(reg) &raw const gates,
            code = const KERNEL_CODE,
            data = in(reg) KERNEL_DATA,
            task = in(reg) TASK,
            scratch = out(reg) _,
        );
    }
}

fn interrupt_gate(entry: u64) -> [u64; 2] {
    let low = entry & 0xFFFF | u64::from(KERNEL_CODE) << 16 | INTERRUPT_GATE << 32;
    [low | (entry & 0xFFFF_0000) << 32, entry >> 32]
}

fn task_descriptor(task: &TaskState) -> [u64; 2] {
    let base = &raw const *task as u64;
    let limit = size_of::<TaskState>() as u64 - 1;
    let low = limit | (base & 0xFF_FFFF) << 16 | 0x89 << 40 | (base >> 24 & 0xFF) << 56;
    [low, base >> 32]
}
