//! One conformance suite for every engine: guest snippets, expected exits and registers.

mod interrupts;
mod stepping;
mod user_mode;

use iced_x86::code_asm::*;
use lockstep_tests::snippet::{self, HANDLER_PORT, expect, next_exit};
use vm_memory::{Bytes, GuestAddress};
use vmm::engine::{AnyEngine, Engine, EngineKind, Exit, Goal, Reply, Stop, kvm::CountKind};

/// Every engine, and KVM with each of its clocks.
const ENGINES: [Counted; 3] = [
    (EngineKind::Kvm, CountKind::Exits),
    (EngineKind::Kvm, CountKind::Step),
    (EngineKind::Soft, CountKind::Exits),
];

/// An engine, and what it counts if it is KVM.
type Counted = (EngineKind, CountKind);

/// Runs `check` on every engine.
fn on_every_engine(kernel: impl Fn(&mut CodeAssembler), check: impl Fn(&mut dyn Engine)) {
    with_user_code(kernel, |a| a.nop().unwrap(), check);
}

fn with_user_code(
    kernel: impl Fn(&mut CodeAssembler),
    user: impl Fn(&mut CodeAssembler),
    check: impl Fn(&mut dyn Engine),
) {
    for kind in ENGINES {
        on_engine(kind, &kernel, &user, &check);
    }
}

fn on_engine(
    (kind, count): Counted,
    kernel: impl FnOnce(&mut CodeAssembler),
    user: impl FnOnce(&mut CodeAssembler),
    check: impl FnOnce(&mut dyn Engine),
) {
    // Shown if the test fails.
    eprintln!("on {kind}, counting {}:", count.name());
    let memory = snippet::memory(kernel, user);
    let mut engine = AnyEngine::counting(kind, count, &memory).expect("these tests need /dev/kvm");
    engine
        .boot(&snippet::state())
        .expect("the initial state is legal");
    check(&mut engine);
}

const RAX: usize = 0;
const RBX: usize = 1;
const RCX: usize = 2;
const RDX: usize = 3;

#[test]
fn port_writes_carry_width_and_value() {
    on_every_engine(
        |a| {
            a.mov(eax, 0x1122_3344).unwrap();
            a.mov(dx, 0x3F8).unwrap();
            a.out(dx, al).unwrap();
            a.out(dx, ax).unwrap();
            a.out(dx, eax).unwrap();
            a.hlt().unwrap();
        },
        |engine| {
            expect(
                engine,
                Exit::PortWrite {
                    port: 0x3F8,
                    width: 1,
                    value: 0x44,
                },
                Reply::None,
            );
            expect(
                engine,
                Exit::PortWrite {
                    port: 0x3F8,
                    width: 2,
                    value: 0x3344,
                },
                Reply::None,
            );
            expect(
                engine,
                Exit::PortWrite {
                    port: 0x3F8,
                    width: 4,
                    value: 0x1122_3344,
                },
                Reply::None,
            );
            expect(engine, Exit::Halt, Reply::None);
            assert!(!engine.accepts_interrupts(), "HLT with interrupts off");
        },
    );
}

#[test]
fn port_reads_fill_the_accumulator_only_as_wide_as_they_are() {
    on_every_engine(
        |a| {
            a.mov(rax, 0x1111_1111_1111_1111_u64).unwrap();
            a.in_(al, 0x40).unwrap();
            a.mov(rbx, rax).unwrap();
            a.mov(rax, 0x1111_1111_1111_1111_u64).unwrap();
            a.in_(eax, 0x41).unwrap();
            a.hlt().unwrap();
        },
        |engine| {
            expect(
                engine,
                Exit::PortRead {
                    port: 0x40,
                    width: 1,
                },
                Reply::Port(0xAB),
            );
            expect(
                engine,
                Exit::PortRead {
                    port: 0x41,
                    width: 4,
                },
                Reply::Port(0x8765_4321),
            );
            expect(engine, Exit::Halt, Reply::None);
            let registers = engine.registers().unwrap();
            assert_eq!(registers.general[RBX], 0x1111_1111_1111_11AB);
            assert_eq!(registers.general[RAX], 0x8765_4321);
        },
    );
}

#[test]
fn repeated_port_accesses_are_one_exit_an_element() {
    on_every_engine(
        |a| {
            a.mov(rdi, 0x20_0000_u64).unwrap();
            a.mov(ecx, 3).unwrap();
            a.mov(dx, 0x60).unwrap();
            a.rep().insb().unwrap();
            a.mov(rsi, 0x20_0000_u64).unwrap();
            a.mov(ecx, 3).unwrap();
            a.rep().outsb().unwrap();
            a.hlt().unwrap();
        },
        |engine| {
            for value in [7, 8, 9] {
                expect(
                    engine,
                    Exit::PortRead {
                        port: 0x60,
                        width: 1,
                    },
                    Reply::Port(value),
                );
            }
            for value in [7, 8, 9] {
                expect(
                    engine,
                    Exit::PortWrite {
                        port: 0x60,
                        width: 1,
                        value,
                    },
                    Reply::None,
                );
            }
            expect(engine, Exit::Halt, Reply::None);
            assert_eq!(engine.registers().unwrap().general[RCX], 0);
        },
    );
}

#[test]
fn accesses_outside_of_memory_are_mmio() {
    on_every_engine(
        |a| {
            a.mov(rbx, 0x1000_0000_u64).unwrap();
            // Beyond the identity mapping of 8 MiB nothing is mapped: map 256 MiB to itself first.
            a.mov(qword_ptr(0x6000 + 128 * 8), 0x1000_0083_i32).unwrap();
            a.mov(eax, 0x55AA_33CC_u32 as i32).unwrap();
            a.mov(dword_ptr(rbx), eax).unwrap();
            a.movzx(ecx, byte_ptr(rbx + 5)).unwrap();
            a.hlt().unwrap();
        },
        |engine| {
            let data = [0xCC, 0x33, 0xAA, 0x55, 0, 0, 0, 0];
            match next_exit(engine) {
                Exit::MmioWrite {
                    address: 0x1000_0000,
                    width: 4,
                    data: written,
                } => assert_eq!(written[..4], data[..4]),
                other => panic!("{other:?}"),
            }
            engine.reply(Reply::None).unwrap();
            expect(
                engine,
                Exit::MmioRead {
                    address: 0x1000_0005,
                    width: 1,
                },
                Reply::Mmio([0x99, 0, 0, 0, 0, 0, 0, 0]),
            );
            expect(engine, Exit::Halt, Reply::None);
            assert_eq!(engine.registers().unwrap().general[RCX], 0x99);
        },
    );
}

#[test]
fn the_trapped_time_stamp_counter_fills_edx_and_eax() {
    for engine @ (kind, _) in ENGINES {
        on_engine(
            engine,
            |a| {
                a.mov(rdx, u64::MAX).unwrap();
                match kind {
                    // What the loader makes of the instruction.
                    EngineKind::Kvm => a.in_(eax, 0xEE).unwrap(),
                    EngineKind::Soft => a.rdtsc().unwrap(),
                }
                a.mov(rbx, rax).unwrap();
                a.mov(rsi, rdx).unwrap();
                match kind {
                    EngineKind::Kvm => {
                        a.in_(eax, 0xEF).unwrap();
                        a.nop().unwrap();
                    }
                    EngineKind::Soft => a.rdtscp().unwrap(),
                }
                a.hlt().unwrap();
            },
            |a| a.nop().unwrap(),
            |engine| {
                expect(
                    engine,
                    Exit::TscRead { with_aux: false },
                    Reply::Tsc {
                        value: 0x1234_5678_9ABC_DEF0,
                    },
                );
                expect(
                    engine,
                    Exit::TscRead { with_aux: true },
                    Reply::Tsc {
                        value: 0x1_0000_0002,
                    },
                );
                expect(engine, Exit::Halt, Reply::None);
                let registers = engine.registers().unwrap();
                assert_eq!(registers.general[RBX], 0x9ABC_DEF0);
                assert_eq!(registers.general[4], 0x1234_5678);
                assert_eq!(
                    (
                        registers.general[RAX],
                        registers.general[RDX],
                        registers.general[RCX]
                    ),
                    (2, 1, 0)
                );
            },
        );
    }
}

#[test]
fn byte_registers_are_parts_of_their_own_registers() {
    on_every_engine(
        |a| {
            a.mov(rsp, 0x20_0000_u64).unwrap();
            for (low, value) in [al, cl, dl, bl, bpl, sil, dil].into_iter().zip(1..) {
                a.mov(low, value).unwrap();
            }
            for (low, value) in [r8b, r9b, r10b, r11b, r12b, r13b, r14b, r15b]
                .into_iter()
                .zip(8..)
            {
                a.mov(low, value).unwrap();
                a.or(low, 0x40).unwrap();
            }
            a.or(bpl, 0x30).unwrap();
            a.mov(byte_ptr(rsp - 8), bpl).unwrap();
            a.mov(spl, byte_ptr(rsp - 8)).unwrap();
            a.mov(bh, 0x77).unwrap();
            a.hlt().unwrap();
        },
        |engine| {
            expect(engine, Exit::Halt, Reply::None);
            // RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP, R8 to R15.
            let expected = [
                1, 0x7704, 2, 3, 6, 7, 0x20_0035, 0x35, 0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D, 0x4E,
                0x4F,
            ];
            assert_eq!(engine.registers().unwrap().general, expected);
        },
    );
}

/// Devices write to memory behind the engine's back, into code too.
#[test]
fn code_that_the_vmm_writes_is_executed() {
    for (kind, count) in ENGINES {
        let memory = snippet::memory(
            |a| {
                let (mut again, mut code) = (a.create_label(), a.create_label());
                a.set_label(&mut again).unwrap();
                a.call(code).unwrap();
                a.lea(rbx, ptr(code)).unwrap();
                a.out(0x80, al).unwrap();
                a.jmp(again).unwrap();
                a.set_label(&mut code).unwrap();
                a.mov(al, 1).unwrap();
                a.ret().unwrap();
            },
            |a| a.nop().unwrap(),
        );
        let mut engine =
            AnyEngine::counting(kind, count, &memory).expect("these tests need /dev/kvm");
        engine
            .boot(&snippet::state())
            .expect("the initial state is legal");
        let told = |value| Exit::PortWrite {
            port: 0x80,
            width: 1,
            value,
        };
        for value in 1..20_u8 {
            expect(&mut engine, told(value.into()), Reply::None);
            // The immediate of `mov al, 1`.
            let address = GuestAddress(engine.registers().unwrap().general[RBX] + 1);
            memory.write_obj(value + 1, address).expect("it is memory");
        }
    }
}

#[test]
fn a_triple_fault_is_a_shutdown() {
    on_every_engine(
        |a| {
            a.sub(rsp, 16).unwrap();
            a.mov(word_ptr(rsp), 0).unwrap();
            a.mov(qword_ptr(rsp + 2), 0).unwrap();
            a.lidt(ptr(rsp)).unwrap();
            a.ud2().unwrap();
        },
        |engine| expect(engine, Exit::Shutdown, Reply::None),
    );
}

#[test]
fn exceptions_reach_the_guests_handlers() {
    let raises = |vector: u32, code: &dyn Fn(&mut CodeAssembler)| {
        on_every_engine(code, |engine| {
            let told = Exit::PortWrite {
                port: HANDLER_PORT,
                width: 1,
                value: vector,
            };
            expect(engine, told, Reply::None);
        });
    };
    raises(6, &|a| a.ud2().unwrap());
    raises(0, &|a| {
        a.xor(ecx, ecx).unwrap();
        a.div(ecx).unwrap();
    });
    raises(14, &|a| a.mov(al, byte_ptr(0x4000_0000)).unwrap());
    raises(3, &|a| a.int3().unwrap());
}
