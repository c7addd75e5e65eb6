//! User mode: system calls, page faults, and interrupts between them.

use super::*;
use lockstep_tests::snippet::{USER_CODE, USER_DATA, next_guest_exit};

/// Enables SYSCALL, with its handler at `system_call`.
pub fn enable_system_calls(a: &mut CodeAssembler, system_call: CodeLabel) {
    let write_msr = |a: &mut CodeAssembler, msr: u32| {
        a.mov(ecx, msr).unwrap();
        a.mov(rdx, rax).unwrap();
        a.shr(rdx, 32).unwrap();
        a.wrmsr().unwrap();
    };
    // STAR: SYSCALL loads CS 0x10 and SS 0x18, SYSRET loads CS 0x33 and SS 0x2B. FMASK: IF.
    a.mov(rax, 0x0023_0010_0000_0000_u64).unwrap();
    write_msr(a, 0xC000_0081);
    a.lea(rax, ptr(system_call)).unwrap();
    write_msr(a, 0xC000_0082);
    a.mov(rax, 0x200_u64).unwrap();
    write_msr(a, 0xC000_0084);
}

/// Goes to user mode, with these flags and RSP = 0x30_0000.
pub fn go_to_user_mode(a: &mut CodeAssembler, flags: i32) {
    a.push(i32::from(USER_DATA)).unwrap();
    a.push(0x30_0000).unwrap();
    a.push(flags).unwrap();
    a.push(i32::from(USER_CODE)).unwrap();
    a.push(snippet::USER as i32).unwrap();
    a.iretq().unwrap();
}

/// Enables SYSCALL, then goes to user mode with interrupts on.
fn enter_user_mode(a: &mut CodeAssembler, system_call: CodeLabel) {
    enable_system_calls(a, system_call);
    // An exit: whoever must look at the guest's tables before it enters user mode can do so here.
    a.out(0x80, al).unwrap();
    go_to_user_mode(a, 0x202);
}

#[test]
fn system_calls_enter_the_kernel_and_return() {
    with_user_code(
        |a| {
            let mut system_call = a.create_label();
            enter_user_mode(a, system_call);
            a.set_label(&mut system_call).unwrap();
            a.mov(rbx, cs).unwrap();
            a.mov(rbp, ss).unwrap();
            a.out(0x81, al).unwrap();
            a.sysretq().unwrap();
        },
        |a| {
            a.mov(eax, 0x55).unwrap();
            a.syscall().unwrap();
            a.mov(rsi, cs).unwrap();
            a.inc(rdi).unwrap();
            a.mov(eax, 0x66).unwrap();
            a.syscall().unwrap();
            a.ud2().unwrap();
        },
        |engine| {
            let (exit, _) = next_guest_exit(engine);
            assert!(
                matches!(exit, Exit::PortWrite { port: 0x80, .. }),
                "{exit:?}"
            );
            engine.reply(Reply::None).unwrap();
            for value in [0x55, 0x66] {
                let (exit, _) = next_guest_exit(engine);
                assert_eq!(
                    exit,
                    Exit::PortWrite {
                        port: 0x81,
                        width: 1,
                        value
                    }
                );
                let registers = engine.registers().unwrap();
                assert_eq!(
                    (registers.general[RBX], registers.general[7]),
                    (0x10, 0x18),
                    "CS and SS from STAR"
                );
                assert_eq!(registers.general[6], 0x30_0000, "SYSCALL leaves RSP alone");
                assert_eq!(
                    registers.general[11] & 0x200,
                    0x200,
                    "R11 has the caller's RFLAGS"
                );
                assert_eq!(registers.rflags & 0x200, 0, "FMASK clears IF");
                assert!(!engine.accepts_interrupts());
                engine.reply(Reply::None).unwrap();
            }
            let (exit, _) = next_guest_exit(engine);
            assert_eq!(
                exit,
                Exit::PortWrite {
                    port: HANDLER_PORT,
                    width: 1,
                    value: 6
                }
            );
            let registers = engine.registers().unwrap();
            assert_eq!(
                (registers.general[4], registers.general[5]),
                (0x33, 1),
                "user mode went on between the calls"
            );
        },
    );
}

#[test]
fn page_faults_from_user_mode_reach_the_handler_with_their_error_code() {
    with_user_code(
        |a| {
            let mut system_call = a.create_label();
            enter_user_mode(a, system_call);
            a.set_label(&mut system_call).unwrap();
            a.hlt().unwrap();
        },
        |a| {
            a.mov(eax, dword_ptr(0x4000_0000)).unwrap();
        },
        |engine| {
            let (exit, _) = next_guest_exit(engine);
            assert!(
                matches!(exit, Exit::PortWrite { port: 0x80, .. }),
                "{exit:?}"
            );
            engine.reply(Reply::None).unwrap();
            let (exit, _) = next_guest_exit(engine);
            assert_eq!(
                exit,
                Exit::PortWrite {
                    port: HANDLER_PORT,
                    width: 1,
                    value: 14
                }
            );
            assert_eq!(engine.registers().unwrap().control[1], 0x4000_0000, "CR2");
        },
    );
}

/// On hosts whose clock counts user faults: an interrupt there comes before the system call, which is then executed again.
#[test]
fn an_interrupt_at_an_injection_point_comes_before_the_faulting_instruction() {
    with_user_code(
        |a| {
            let (mut system_call, mut handler) = (a.create_label(), a.create_label());
            // Vector 0x60 goes to a handler that returns.
            a.lea(rax, ptr(handler)).unwrap();
            a.mov(word_ptr(0x1000 + 0x600), ax).unwrap();
            a.shr(rax, 16).unwrap();
            a.mov(word_ptr(0x1000 + 0x606), ax).unwrap();
            enter_user_mode(a, system_call);
            a.set_label(&mut handler).unwrap();
            a.out(0x82, al).unwrap();
            a.iretq().unwrap();
            a.set_label(&mut system_call).unwrap();
            a.out(0x81, al).unwrap();
            a.hlt().unwrap();
        },
        |a| {
            a.mov(eax, 0x77).unwrap();
            a.syscall().unwrap();
        },
        |engine| {
            expect(
                engine,
                Exit::PortWrite {
                    port: 0x80,
                    width: 1,
                    value: 0,
                },
                Reply::None,
            );
            let exit = next_exit(engine);
            engine.reply(Reply::None).unwrap();
            if exit != Exit::InjectionPoint {
                assert!(!engine.clock().contains("user-faults"), "{exit:?}");
                return;
            }
            assert!(engine.accepts_interrupts());
            engine.interrupt(0x60).unwrap();
            expect(
                engine,
                Exit::PortWrite {
                    port: 0x82,
                    width: 1,
                    value: 0x77,
                },
                Reply::None,
            );
            expect(engine, Exit::InjectionPoint, Reply::None);
            expect(
                engine,
                Exit::PortWrite {
                    port: 0x81,
                    width: 1,
                    value: 0x77,
                },
                Reply::None,
            );
            assert_eq!(engine.registers().unwrap().general[6], 0x30_0000);
        },
    );
}
