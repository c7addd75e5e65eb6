//! KVM that steps and the software CPU, stop by stop: registers, counts and where interrupts are accepted.

use super::{
    user_mode::{enable_system_calls, go_to_user_mode},
    *,
};

/// More than any snippet here has.
const MOST_STOPS: usize = 400;

/// What an engine is at each stop, when it is run so many instructions at a time.
fn trace(
    engine: Counted,
    kernel: &dyn Fn(&mut CodeAssembler),
    user: &dyn Fn(&mut CodeAssembler),
    piece: u64,
    interrupt_at: Option<u64>,
) -> Vec<String> {
    let mut stops = Vec::new();
    on_engine(engine, kernel, user, |engine| {
        while stops.len() < MOST_STOPS {
            let retired = engine.retired().expect("it counts");
            let state = (engine.registers().unwrap(), engine.mode().unwrap());
            let accepts = engine.accepts_interrupts();
            let count = engine.instructions();
            stops.push(format!("{count} {retired} {accepts} {state:x?}"));
            if interrupt_at == Some(retired) && accepts {
                engine.interrupt(0x60).unwrap();
                let state = engine.registers().unwrap();
                let count = (engine.instructions(), engine.retired());
                stops.push(format!("interrupted {count:?} {state:x?}"));
            }
            let Stop::Exit(exit) = engine.run(Goal::Instructions(count + piece)).unwrap() else {
                continue;
            };
            stops.push(format!("{exit:x?} {:?}", engine.retired()));
            let reply = match exit {
                Exit::PortRead { .. } => Reply::Port(stops.len() as u32),
                Exit::MmioRead { .. } => Reply::Mmio([stops.len() as u8; 8]),
                _ => Reply::None,
            };
            engine.reply(reply).unwrap();
            if matches!(exit, Exit::Halt | Exit::Shutdown) {
                return;
            }
        }
        panic!("{MOST_STOPS} stops");
    });
    stops
}

fn same_with_user_code(
    kernel: impl Fn(&mut CodeAssembler),
    user: impl Fn(&mut CodeAssembler),
    interrupts_at: impl IntoIterator<Item = u64>,
) {
    let compare = |piece, interrupt_at| {
        let of = |engine| trace(engine, &kernel, &user, piece, interrupt_at);
        let soft = of((EngineKind::Soft, CountKind::Exits));
        let kvm = of((EngineKind::Kvm, CountKind::Step));
        for (index, (soft, kvm)) in soft.iter().zip(&kvm).enumerate() {
            assert_eq!(
                soft, kvm,
                "stop {index}, in pieces of {piece}, interrupt {interrupt_at:?}"
            );
        }
        assert_eq!(soft.len(), kvm.len());
    };
    for piece in [1, 2, 3, 7, 1000] {
        compare(piece, None);
    }
    for retired in interrupts_at {
        compare(1, Some(retired));
    }
}

fn same(kernel: impl Fn(&mut CodeAssembler)) {
    same_with_user_code(kernel, |a| a.nop().unwrap(), []);
}

#[test]
fn faults_stop_before_the_handlers_first_instruction() {
    same(|a| {
        a.nop().unwrap();
        a.ud2().unwrap();
    });
    same(|a| {
        a.xor(ecx, ecx).unwrap();
        a.div(ecx).unwrap();
    });
    same(|a| a.mov(al, byte_ptr(0x4000_0000)).unwrap());
    same(|a| {
        a.mov(rax, 0x8000_0000_0000_0000_u64).unwrap();
        a.mov(al, byte_ptr(rax)).unwrap();
    });
    same(|a| {
        a.mov(rsp, 0x8000_0000_0000_0000_u64).unwrap();
        a.mov(eax, 0x1230).unwrap();
        a.mov(ds, eax).unwrap();
    });
    same(|a| a.int3().unwrap());
    // Nothing is mapped there.
    same(|a| {
        a.mov(eax, 0x4000_0000).unwrap();
        a.jmp(rax).unwrap();
    });
}

#[test]
fn a_triple_fault_counts() {
    same(|a| {
        a.sub(rsp, 16).unwrap();
        a.mov(word_ptr(rsp), 0).unwrap();
        a.mov(qword_ptr(rsp + 2), 0).unwrap();
        a.lidt(ptr(rsp)).unwrap();
        a.ud2().unwrap();
    });
}

#[test]
fn iterations_are_counted_one_by_one() {
    let fill = |count: u32, prefix: &dyn Fn(&mut CodeAssembler)| {
        same(|a| {
            a.mov(ecx, count).unwrap();
            a.mov(edi, 0x20_1000).unwrap();
            a.mov(esi, 0x20_0000).unwrap();
            prefix(a);
            a.nop().unwrap();
            a.hlt().unwrap();
        });
    };
    for count in [0, 1, 2, 5] {
        fill(count, &|a| a.rep().stosb().unwrap());
        fill(count, &|a| a.rep().movsq().unwrap());
        fill(count, &|a| a.rep().lodsw().unwrap());
        fill(count, &|a| a.repe().scasb().unwrap());
        fill(count, &|a| a.repne().scasb().unwrap());
        fill(count, &|a| a.repe().cmpsd().unwrap());
        fill(count, &|a| a.rep().insb().unwrap());
        fill(count, &|a| a.rep().outsb().unwrap());
    }
    fill(5, &|a| {
        a.mov(byte_ptr(0x20_1003), 9).unwrap();
        a.repe().scasb().unwrap();
    });
    fill(5, &|a| {
        a.mov(al, 9).unwrap();
        a.mov(byte_ptr(0x20_1002), 9).unwrap();
        a.repne().scasb().unwrap();
    });
    fill(1, &|a| {
        a.insb().unwrap();
        a.outsd().unwrap();
    });
}

#[test]
fn many_iterations_are_as_many_counts() {
    let pieces = [999, 1, 1024, 2900, 10];
    let of = |engine| {
        let mut states = Vec::new();
        on_engine(
            engine,
            |a| {
                a.mov(ecx, 5000).unwrap();
                a.mov(edi, 0x20_1000).unwrap();
                a.mov(al, 7).unwrap();
                a.rep().stosb().unwrap();
                a.hlt().unwrap();
            },
            |a| a.nop().unwrap(),
            |engine| {
                for piece in pieces {
                    let goal = Goal::Instructions(engine.instructions() + piece);
                    states.push((engine.run(goal).unwrap(), engine.registers().unwrap()));
                }
            },
        );
        states
    };
    assert_eq!(
        of((EngineKind::Kvm, CountKind::Step)),
        of((EngineKind::Soft, CountKind::Exits))
    );
}

/// The second iteration that leaves what is mapped faults; what was done before stays done.
#[test]
fn a_repeated_instruction_faults_in_the_middle() {
    same(|a| {
        a.mov(ecx, 10).unwrap();
        a.mov(edi, 0x7F_FFFE).unwrap();
        a.rep().stosb().unwrap();
    });
}

#[test]
fn shadows_delay_interrupts() {
    same(|a| {
        a.sti().unwrap();
        a.nop().unwrap();
        a.mov(eax, ss).unwrap();
        a.mov(ss, eax).unwrap();
        a.nop().unwrap();
        a.cli().unwrap();
        a.sti().unwrap();
        a.hlt().unwrap();
    });
}

#[test]
fn instructions_that_exit_are_over_when_they_are_answered() {
    same(|a| {
        a.in_(al, 0x70).unwrap();
        a.out(0x70, al).unwrap();
        a.in_(eax, 0x71).unwrap();
        // 256 MiB on are mapped to where there is no memory.
        a.mov(qword_ptr(0x6000 + 128 * 8), 0x1000_0083_i32).unwrap();
        a.mov(ebx, 0x1000_0000).unwrap();
        a.mov(eax, dword_ptr(rbx)).unwrap();
        a.mov(dword_ptr(rbx + 4), eax).unwrap();
        a.add(dword_ptr(rbx), eax).unwrap();
        a.mov(esi, 0x1000_0010).unwrap();
        a.mov(edi, 0x20_1000).unwrap();
        a.mov(ecx, 3).unwrap();
        a.rep().movsb().unwrap();
        a.mov(edi, 0x1000_0010).unwrap();
        a.mov(ecx, 3).unwrap();
        a.rep().stosd().unwrap();
        a.mov(esi, 0x1000_0010).unwrap();
        a.mov(edi, 0x1000_0020).unwrap();
        a.mov(ecx, 3).unwrap();
        a.rep().movsw().unwrap();
        a.hlt().unwrap();
    });
}

#[test]
fn flags_that_are_pushed_have_no_trap_flag() {
    same(|a| {
        a.pushfq().unwrap();
        a.pop(rax).unwrap();
        a.push(rax).unwrap();
        a.popfq().unwrap();
        a.ud2().unwrap();
    });
}

fn same_in_user_mode(
    flags: i32,
    user: impl Fn(&mut CodeAssembler),
    interrupts_at: impl IntoIterator<Item = u64>,
) {
    same_with_user_code(
        |a| {
            let (mut system_call, mut handler) = (a.create_label(), a.create_label());
            a.lea(rax, ptr(handler)).unwrap();
            a.mov(word_ptr(0x1000 + 0x600), ax).unwrap();
            a.shr(rax, 16).unwrap();
            a.mov(word_ptr(0x1000 + 0x606), ax).unwrap();
            enable_system_calls(a, system_call);
            go_to_user_mode(a, flags);
            a.set_label(&mut handler).unwrap();
            a.out(0x82, al).unwrap();
            a.iretq().unwrap();
            a.set_label(&mut system_call).unwrap();
            a.out(0x81, al).unwrap();
            a.nop().unwrap();
            a.sysretq().unwrap();
        },
        user,
        interrupts_at,
    );
}

const INTERRUPTS_ON: i32 = 0x202;
const INTERRUPTS_OFF: i32 = 2;
const RESUME: i32 = 0x1_0202;

#[test]
fn user_mode_is_stepped_like_kernel_mode() {
    for flags in [INTERRUPTS_ON, INTERRUPTS_OFF, RESUME] {
        same_in_user_mode(
            flags,
            |a| {
                a.mov(eax, 0x55).unwrap();
                a.syscall().unwrap();
                a.pushfq().unwrap();
                a.pop(rbx).unwrap();
                a.push(rbx).unwrap();
                a.popfq().unwrap();
                a.mov(edi, 0x50_0000).unwrap();
                a.mov(byte_ptr(rdi), 1).unwrap();
                a.mov(ecx, 4).unwrap();
                a.rep().stosb().unwrap();
                a.syscall().unwrap();
                let mut again = a.create_label();
                a.mov(ecx, 3).unwrap();
                a.set_label(&mut again).unwrap();
                a.loop_(again).unwrap();
                a.xorps(xmm0, xmm0).unwrap();
                a.ud2().unwrap();
            },
            [],
        );
    }
}

#[test]
fn interrupts_land_between_any_two_instructions_of_user_mode() {
    same_in_user_mode(
        INTERRUPTS_ON,
        |a| {
            a.mov(edi, 0x50_0000).unwrap();
            a.mov(ecx, 3).unwrap();
            a.rep().stosb().unwrap();
            a.syscall().unwrap();
            a.mov(al, byte_ptr(rdi)).unwrap();
            a.mov(al, byte_ptr(0x4000_0000)).unwrap();
        },
        20..45,
    );
}

#[test]
fn user_mode_faults() {
    let faults = |user: &dyn Fn(&mut CodeAssembler)| same_in_user_mode(INTERRUPTS_ON, user, []);
    faults(&|a| a.mov(al, byte_ptr(0x4000_0000)).unwrap());
    faults(&|a| a.hlt().unwrap());
    faults(&|a| {
        a.xor(ecx, ecx).unwrap();
        a.idiv(ecx).unwrap();
    });
    faults(&|a| {
        a.mov(eax, 0x4000_0000).unwrap();
        a.jmp(rax).unwrap();
    });
    faults(&|a| {
        a.mov(ecx, 10).unwrap();
        a.mov(edi, 0x7F_FFFE).unwrap();
        a.rep().stosb().unwrap();
    });
    faults(&|a| a.in_(al, 0x80).unwrap());
}

#[test]
fn a_guest_that_steps_through_itself_is_refused() {
    on_engine(
        (EngineKind::Kvm, CountKind::Step),
        |a| {
            a.push(0x102).unwrap();
            a.popfq().unwrap();
            a.nop().unwrap();
        },
        |a| a.nop().unwrap(),
        |engine| {
            let error = engine.run(Goal::Exit).unwrap_err();
            assert!(error.to_string().contains("trap flag"), "{error}");
        },
    );
}
