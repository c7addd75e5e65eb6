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
/// The task state segment.
pub const TASK: u16 = 0x28;
/// The first of [`SPARE_SEGMENTS`] empty descriptors that a guest may fill in.
pub const SPARE: u16 = 0x38;
const SPARE_SEGMENTS: usize = 9;

/// Gates: 32 exceptions and 16 interrupt lines.
const VECTORS: usize = 48;
/// Present, interrupt gate (interrupts off), privilege level 0.
const INTERRUPT_GATE: u64 = 0x8E00;
/// Privilege level 3 may come through by INT n.
pub const GATE_FOR_USER: u64 = 0x6000 << 32;
/// The gate's present bit.
pub const GATE_PRESENT: u64 = 0x8000 << 32;
/// Where a gate's number of its stack, 1 to 7, begins; 0: the current one.
pub const GATE_STACK_SHIFT: u32 = 32;
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
    segments: [u64; 7 + SPARE_SEGMENTS],
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
        0,
        0,
        0,
        0,
        0,
        0,
        0,
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

/// The first half of a vector's gate.
#[must_use]
pub fn gate(vector: u8) -> u64 {
    // SAFETY: the table that `load` has loaded is static; the vector is checked.
    unsafe { gate_address(vector).read_volatile() }
}

/// Changes the first half of a vector's gate.
pub fn set_gate(vector: u8, gate: u64) {
    // SAFETY: as in `gate`; the processor reads it at the next event, and no reference to it is alive.
    unsafe { gate_address(vector).write_volatile(gate) };
}

/// Fills in a descriptor.
pub fn set_segment(selector: u16, descriptor: u64) {
    let index = usize::from(selector / 8);
    assert!((5..7 + SPARE_SEGMENTS).contains(&index));
    // SAFETY: the table that `load` has loaded is static, and the index is in it; no reference to it is alive.
    unsafe { table("sgdt").add(index).write_volatile(descriptor) };
}

/// Sets the stack number `number`, 1 to 7, of the task state segment (Intel SDM 3A figure 7-11).
pub fn set_interrupt_stack(number: usize, top: u64) {
    assert!((1..8).contains(&number));
    // SAFETY: the segment is static, and its first half holds these fields; no reference to it is alive.
    unsafe {
        task_state()
            .add(0x1C + 8 * number)
            .cast::<u64>()
            .write_unaligned(top);
    }
}

/// The address of the task state segment.
#[must_use]
pub fn task_state() -> *mut u8 {
    // SAFETY: as in `gate`.
    let (low, high) = unsafe {
        let entry = table("sgdt").add(usize::from(TASK / 8));
        (entry.read_volatile(), entry.add(1).read_volatile())
    };
    let base = low >> 16 & 0xFF_FFFF | low >> 32 & 0xFF00_0000 | high << 32;
    core::ptr::with_exposed_provenance_mut(base as usize)
}

fn gate_address(vector: u8) -> *mut u64 {
    assert!(usize::from(vector) < VECTORS);
    // SAFETY: stays in the table.
    unsafe { table("sidt").add(usize::from(vector) * 2) }
}

/// Where the table is that `sgdt` or `sidt` tells.
fn table(instruction: &str) -> *mut u64 {
    let mut pointer = Pointer { limit: 0, base: 0 };
    // SAFETY: each writes ten bytes, which is what a pointer has.
    unsafe {
        if instruction == "sgdt" {
            asm!("sgdt [{}]", in(reg) &raw mut pointer, options(nostack, preserves_flags));
        } else {
            asm!("sidt [{}]", in(reg) &raw mut pointer, options(nostack, preserves_flags));
        }
    }
    core::ptr::with_exposed_provenance_mut(pointer.base as usize)
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
