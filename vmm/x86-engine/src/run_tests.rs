use iced_x86::code_asm::*;

use crate::{
    exit::{Exit, Goal, Stop},
    flags,
    test_support::{CODE, DATA, STACK, assemble, long_mode_cpu},
};

#[test]
fn a_loop_counts_every_instruction_and_can_be_stopped_anywhere() {
    let code = assemble(|a| {
        let mut again = a.create_label();
        a.mov(rcx, 1000_u64)?;
        a.xor(eax, eax)?;
        a.set_label(&mut again)?;
        a.add(rax, rcx)?;
        a.mov(qword_ptr(DATA as i32), rax)?;
        a.dec(rcx)?;
        a.jne(again)?;
        a.nop()
    });
    let mut whole = long_mode_cpu(&code);
    assert_eq!(whole.run(Goal::Instructions(4002)), Stop::Reached);
    let end = whole.save();
    assert_eq!(end.general[0], 500_500);
    assert_eq!(end.general[1], 0);
    let mut sum = [0; 8];
    whole.ram().read(DATA, &mut sum);
    assert_eq!(u64::from_le_bytes(sum), 500_500);

    let mut stepped = long_mode_cpu(&code);
    for count in 1..=4002 {
        assert_eq!(stepped.run(Goal::Instructions(count)), Stop::Reached);
        assert_eq!(stepped.instructions(), count);
        if count % 97 == 0 {
            let state = stepped.save();
            stepped.restore(&state).expect("this version's state");
        }
    }
    assert_eq!(stepped.save(), end);
}

#[test]
fn calls_and_returns_balance_and_addresses_are_relative_to_the_instruction() {
    let code = assemble(|a| {
        let mut function = a.create_label();
        let mut table = a.create_label();
        a.call(function)?;
        a.lea(rdx, qword_ptr(table))?;
        a.mov(rbx, qword_ptr(table))?;
        a.push(rbx)?;
        a.pop(rsi)?;
        let mut end = a.create_label();
        a.jmp(end)?;
        a.set_label(&mut function)?;
        a.mov(eax, -1_i32)?;
        a.movsx(rcx, ax)?;
        a.movzx(edi, al)?;
        a.ret()?;
        a.set_label(&mut table)?;
        a.dq(&[0x1122_3344_5566_7788])?;
        a.set_label(&mut end)?;
        a.mov(ah, bl)?;
        a.add(ah, al)
    });
    let mut cpu = long_mode_cpu(&code);
    assert_eq!(cpu.run(Goal::Instructions(12)), Stop::Reached);
    let state = cpu.save();
    assert_eq!(state.general[3], 0x1122_3344_5566_7788);
    assert_eq!(state.general[6], state.general[3]);
    assert_eq!(state.general[1], u64::MAX);
    assert_eq!(state.general[7], 0xFF);
    assert_eq!(state.general[4], STACK);
    assert_eq!(state.general[0], 0xFFFF_87FF);
    assert_eq!(state.rip, CODE + code.len() as u64);
}

#[test]
fn a_store_into_the_block_that_executes_it_takes_effect_at_once() {
    // mov byte [next + 1], 7; mov eax, 1 (its immediate is patched).
    let code = assemble(|a| {
        let patched = CODE + 8 + 1;
        a.mov(byte_ptr(patched as i32), 7)?;
        a.mov(eax, 1)
    });
    assert_eq!(code.len(), 8 + 5);
    let mut cpu = long_mode_cpu(&code);
    cpu.run(Goal::Instructions(2));
    assert_eq!(cpu.save().general[0], 7);
}

#[test]
fn immediates_are_pushed_whole() {
    let code = assemble(|a| {
        a.push(6)?;
        a.push(-2)?;
        a.push(0x1234_5678)?;
        a.pop(rax)?;
        a.pop(rbx)?;
        a.pop(rcx)
    });
    let mut cpu = long_mode_cpu(&code);
    cpu.run(Goal::Instructions(6));
    let state = cpu.save();
    assert_eq!(state.general[0], 0x1234_5678);
    assert_eq!(state.general[3], -2_i64 as u64);
    assert_eq!(state.general[1], 6);
}

#[test]
fn every_byte_register_is_itself() {
    let code = assemble(|a| {
        a.mov(spl, 1)?;
        a.mov(bpl, 2)?;
        a.mov(sil, 3)?;
        a.mov(dil, 4)?;
        a.mov(r8b, 5)?;
        a.mov(r15b, 6)?;
        a.mov(ah, 7)?;
        a.mov(bh, 8)?;
        a.mov(cl, 9)
    });
    let mut cpu = long_mode_cpu(&code);
    cpu.run(Goal::Instructions(9));
    let state = cpu.save();
    let mut expected = [0; 16];
    expected[4] = STACK | 1;
    (expected[5], expected[6], expected[7]) = (2, 3, 4);
    (expected[8], expected[15]) = (5, 6);
    (expected[0], expected[3], expected[1]) = (0x700, 0x800, 9);
    assert_eq!(state.general, expected);
}

#[test]
fn a_pause_prefix_before_an_exchange_means_nothing() {
    // pause; rep xchg r8, rax; rep xchg r8d, eax
    let mut cpu = long_mode_cpu(&[0xF3, 0x90, 0xF3, 0x49, 0x90, 0xF3, 0x41, 0x90]);
    let mut state = cpu.save();
    (state.general[0], state.general[8]) = (0x1_0000_0001, 0x2_0000_0002);
    cpu.restore(&state).expect("this version's state");
    cpu.run(Goal::Instructions(2));
    let swapped = cpu.save();
    assert_eq!(
        (swapped.general[0], swapped.general[8]),
        (0x2_0000_0002, 0x1_0000_0001)
    );
    cpu.run(Goal::Instructions(3));
    let narrow = cpu.save();
    assert_eq!((narrow.general[0], narrow.general[8]), (1, 2));
}

#[test]
fn a_trap_wakes_a_halted_processor() {
    let mut cpu = long_mode_cpu(&[0xF4, 0x90]);
    let mut state = cpu.save();
    state.rflags |= flags::TF;
    cpu.restore(&state).expect("this version's state");
    assert_eq!(cpu.run(Goal::Instructions(1)), Stop::Reached);
    let halted = cpu.save();
    assert_eq!((halted.rip, halted.pending_debug), (CODE + 1, 1 << 14));
    // There is no descriptor table to deliver it through.
    assert_eq!(cpu.run(Goal::Exit), Stop::Exit(Exit::Shutdown));
}
