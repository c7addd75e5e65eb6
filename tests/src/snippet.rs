//! Guest snippets: a few assembled instructions in long mode with flat, identity-mapped memory.
//!
//! In: code from an assembler closure. Out: an engine that is about to execute it.

use iced_x86::code_asm::CodeAssembler;
use vm_memory::{Bytes, GuestAddress};
use vmm::{
    engine::{Engine, Exit, Goal, Reply, Stop},
    machine::{
        GuestMemory,
        boot::{BootState, Segment},
    },
};

/// Where a snippet begins.
pub const CODE: u64 = 0x10_0000;
/// Top of its stack.
pub const STACK: u64 = 0x20_0000;
/// Handler stubs of the IDT, one every 16 bytes: each does `out 0xE9, al` with AL = vector, then `hlt`.
pub const HANDLERS: u64 = 0x8000;
/// The port the handlers write their vector to.
pub const HANDLER_PORT: u16 = 0xE9;
/// Selector of the user code segment; data is at `USER_DATA`.
pub const USER_CODE: u16 = 0x33;
/// Selector of the user data segment.
pub const USER_DATA: u16 = 0x2B;

const GDT: u64 = 0x500;
const IDT: u64 = 0x1000;
const TSS: u64 = 0x700;
const PML4: u64 = 0x4000;
const MEMORY_BYTES: usize = 8 << 20;
const KERNEL_CODE_SELECTOR: u16 = 0x10;
const KERNEL_DATA_SELECTOR: u16 = 0x18;
const TSS_SELECTOR: u16 = 0x40;

/// Where user code begins. The first 2 MiB belong to the kernel, the rest of memory to user mode.
pub const USER: u64 = 0x40_0000;

/// Memory with page tables, GDT, IDT, TSS, kernel code at [`CODE`] and user code at [`USER`].
pub fn memory(
    kernel: impl FnOnce(&mut CodeAssembler),
    user: impl FnOnce(&mut CodeAssembler),
) -> GuestMemory {
    let memory =
        GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).expect("8 MiB of memory");
    write_tables(&memory);
    write_handlers(&memory);
    write_code(&memory, CODE, kernel);
    write_code(&memory, USER, user);
    memory
}

fn write_code(memory: &GuestMemory, at: u64, assemble: impl FnOnce(&mut CodeAssembler)) {
    let mut assembler = CodeAssembler::new(64).expect("a 64-bit assembler");
    assemble(&mut assembler);
    let code = assembler.assemble(at).expect("the snippet assembles");
    memory
        .write_slice(&code, GuestAddress(at))
        .expect("code fits");
}

fn put(memory: &GuestMemory, address: u64, value: u64) {
    memory
        .write_obj(value, GuestAddress(address))
        .expect("tables fit");
}

/// Identity mapping of the first 8 MiB, and flat segments.
fn write_tables(memory: &GuestMemory) {
    const PRESENT_WRITABLE_USER: u64 = 7;
    const USER_BIT: u64 = 1 << 2;
    const LARGE: u64 = 1 << 7;
    put(memory, PML4, (PML4 + 0x1000) | PRESENT_WRITABLE_USER);
    put(
        memory,
        PML4 + 0x1000,
        (PML4 + 0x2000) | PRESENT_WRITABLE_USER,
    );
    for page in 0..4 {
        let access = if page == 0 {
            PRESENT_WRITABLE_USER & !USER_BIT
        } else {
            PRESENT_WRITABLE_USER
        };
        put(
            memory,
            PML4 + 0x2000 + page * 8,
            (page << 21) | access | LARGE,
        );
    }
    let descriptors = [
        (KERNEL_CODE_SELECTOR, 0x00AF_9B00_0000_FFFF_u64),
        (KERNEL_DATA_SELECTOR, 0x00CF_9300_0000_FFFF),
        (USER_DATA & !7, 0x00CF_F300_0000_FFFF),
        (USER_CODE & !7, 0x00AF_FB00_0000_FFFF),
        (TSS_SELECTOR, 0x0000_8B00_0700_0067),
    ];
    for (selector, descriptor) in descriptors {
        put(memory, GDT + u64::from(selector), descriptor);
    }
    // RSP0 of the 64-bit TSS (SDM 3A 8.7).
    memory
        .write_obj(STACK - 0x1000, GuestAddress(TSS + 4))
        .expect("the TSS fits");
}

/// An IDT of 256 gates to stubs that tell their vector.
fn write_handlers(memory: &GuestMemory) {
    for vector in 0..256_u64 {
        let handler = HANDLERS + vector * 16;
        let gate = (handler & 0xFFFF)
            | (u64::from(KERNEL_CODE_SELECTOR) << 16)
            | (0x8E00 << 32)
            | ((handler >> 16) << 48);
        put(memory, IDT + vector * 16, gate);
        put(memory, IDT + vector * 16 + 8, handler >> 32);
        // mov al, vector; out 0xE9, al; hlt
        memory
            .write_slice(
                &[0xB0, vector as u8, 0xE6, HANDLER_PORT as u8, 0xF4],
                GuestAddress(handler),
            )
            .expect("handlers fit");
    }
}

/// Registers to begin with: kernel mode, interrupts off.
#[must_use]
pub fn state() -> BootState {
    let code = Segment {
        selector: KERNEL_CODE_SELECTOR,
        limit: u32::MAX,
        type_: 0xB,
        present: true,
        code_or_data: true,
        long: true,
        granularity: true,
        base: 0,
        dpl: 0,
        default_32: false,
    };
    let data = Segment {
        selector: KERNEL_DATA_SELECTOR,
        type_: 0x3,
        long: false,
        default_32: true,
        ..code
    };
    let tss = Segment {
        selector: TSS_SELECTOR,
        base: TSS,
        limit: 0x67,
        code_or_data: false,
        long: false,
        granularity: false,
        ..code
    };
    BootState {
        rip: CODE,
        rsi: 0,
        rbx: 0,
        rsp: STACK,
        rflags: 2,
        cr0: 0x8005_0033,
        cr3: PML4,
        cr4: 0x620,
        efer: 0xD01,
        gdt_base: GDT,
        gdt_limit: 0x4F,
        idt_base: IDT,
        idt_limit: 0xFFF,
        code,
        data,
        tss,
    }
}

/// Runs to the next exit.
pub fn next_exit(engine: &mut dyn Engine) -> Exit {
    match engine.run(Goal::Exit).expect("the engine runs") {
        Stop::Exit(exit) => exit,
        Stop::Reached | Stop::Breakpoint | Stop::Kicked => {
            panic!("no goal was set, and nobody kicked")
        }
    }
}

/// Runs to the next exit that the guest asked for; a host's own injection points are passed over. Returns it with their number.
pub fn next_guest_exit(engine: &mut dyn Engine) -> (Exit, u32) {
    let mut injection_points = 0;
    loop {
        match next_exit(engine) {
            Exit::InjectionPoint => engine
                .reply(Reply::None)
                .expect("the engine takes the reply"),
            exit => return (exit, injection_points),
        }
        injection_points += 1;
    }
}

/// Runs to the next exit, which must be `expected`, and answers it.
pub fn expect(engine: &mut dyn Engine, expected: Exit, reply: Reply) {
    assert_eq!(next_exit(engine), expected);
    engine.reply(reply).expect("the engine takes the reply");
}
