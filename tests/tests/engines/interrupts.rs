//! Where interrupts are accepted, and how far goals run.

use super::*;

#[test]
fn an_interrupt_wakes_hlt() {
    on_every_engine(
        |a| {
            a.sti().unwrap();
            a.hlt().unwrap();
            a.hlt().unwrap();
        },
        |engine| {
            expect(engine, Exit::Halt, Reply::None);
            assert!(engine.accepts_interrupts());
            engine.interrupt(0x31).unwrap();
            assert!(!engine.accepts_interrupts());
            expect(
                engine,
                Exit::PortWrite {
                    port: HANDLER_PORT,
                    width: 1,
                    value: 0x31,
                },
                Reply::None,
            );
            assert!(
                !engine.accepts_interrupts(),
                "handlers begin with interrupts off"
            );
        },
    );
}

#[test]
fn an_interrupt_at_an_exit_comes_after_the_exits_instruction() {
    on_every_engine(
        |a| {
            a.sti().unwrap();
            a.nop().unwrap();
            a.in_(al, 0x70).unwrap();
            a.mov(bl, 1).unwrap();
            a.hlt().unwrap();
        },
        |engine| {
            expect(
                engine,
                Exit::PortRead {
                    port: 0x70,
                    width: 1,
                },
                Reply::Port(0x5A),
            );
            assert!(engine.accepts_interrupts());
            engine.interrupt(0x40).unwrap();
            expect(
                engine,
                Exit::PortWrite {
                    port: HANDLER_PORT,
                    width: 1,
                    value: 0x40,
                },
                Reply::None,
            );
            let registers = engine.registers().unwrap();
            assert_eq!(
                registers.general[RBX] & 0xFF,
                0,
                "the instruction after `in` has not run"
            );
        },
    );
}

#[test]
fn single_steps_are_counted_from_the_last_exit() {
    on_every_engine(
        |a| {
            a.out(0x80, al).unwrap();
            for _ in 0..10 {
                a.inc(ebx).unwrap();
            }
            a.out(0x80, al).unwrap();
            a.hlt().unwrap();
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
            for steps in [0, 1, 4, 4, 9] {
                assert_eq!(
                    engine.run(Goal::Instructions(steps)).unwrap(),
                    Stop::Reached
                );
                assert_eq!(engine.instructions(), steps);
                assert_eq!(engine.registers().unwrap().general[RBX], steps);
            }
            let stop = engine.run(Goal::Instructions(1000)).unwrap();
            assert_eq!(
                stop,
                Stop::Exit(Exit::PortWrite {
                    port: 0x80,
                    width: 1,
                    value: 0
                })
            );
            assert_eq!(engine.instructions(), 0);
            assert_eq!(engine.registers().unwrap().general[RBX], 10);
            engine.reply(Reply::None).unwrap();
            expect(engine, Exit::Halt, Reply::None);
        },
    );
}

#[test]
fn stepping_finds_the_first_place_that_takes_an_interrupt() {
    on_every_engine(
        |a| {
            a.out(0x80, al).unwrap();
            a.inc(ebx).unwrap();
            a.sti().unwrap();
            a.inc(ebx).unwrap();
            a.inc(ebx).unwrap();
            a.hlt().unwrap();
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
            assert_eq!(
                engine.run(Goal::Interruptible { limit: 100 }).unwrap(),
                Stop::Reached
            );
            assert_eq!(
                engine.instructions(),
                3,
                "STI delays by one instruction (SDM 2B, STI)"
            );
            engine.interrupt(0x50).unwrap();
            expect(
                engine,
                Exit::PortWrite {
                    port: HANDLER_PORT,
                    width: 1,
                    value: 0x50,
                },
                Reply::None,
            );
            assert_eq!(engine.registers().unwrap().general[RBX], 2);
        },
    );
}

#[test]
fn an_interrupt_wakes_hlt_also_after_a_stepped_sti() {
    on_every_engine(
        |a| {
            a.out(0x80, al).unwrap();
            a.sti().unwrap();
            a.hlt().unwrap();
            a.hlt().unwrap();
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
            assert_eq!(
                engine.run(Goal::Interruptible { limit: 1 }).unwrap(),
                Stop::Reached
            );
            assert!(
                !engine.accepts_interrupts(),
                "STI delays interrupts past the next instruction"
            );
            expect(engine, Exit::Halt, Reply::None);
            assert!(engine.accepts_interrupts());
            engine.interrupt(0x31).unwrap();
            expect(
                engine,
                Exit::PortWrite {
                    port: HANDLER_PORT,
                    width: 1,
                    value: 0x31,
                },
                Reply::None,
            );
        },
    );
}

#[test]
fn a_step_into_hlt_is_a_halt_and_nothing_of_it_is_left() {
    on_every_engine(
        |a| {
            a.out(0x80, al).unwrap();
            a.sti().unwrap();
            a.hlt().unwrap();
            a.inc(ebx).unwrap();
            a.out(0x81, al).unwrap();
            a.hlt().unwrap();
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
            let stop = engine.run(Goal::Interruptible { limit: 100 }).unwrap();
            assert_eq!(
                stop,
                Stop::Exit(Exit::Halt),
                "STI delays interrupts past the HLT"
            );
            engine.reply(Reply::None).unwrap();
            assert!(engine.accepts_interrupts());
            engine.interrupt(0x31).unwrap();
            expect(
                engine,
                Exit::PortWrite {
                    port: HANDLER_PORT,
                    width: 1,
                    value: 0x31,
                },
                Reply::None,
            );
        },
    );
}

#[test]
fn stepping_gives_up_at_its_limit_and_the_guest_goes_on() {
    on_every_engine(
        |a| {
            a.out(0x80, al).unwrap();
            for _ in 0..20 {
                a.inc(ebx).unwrap();
            }
            a.hlt().unwrap();
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
            assert_eq!(
                engine.run(Goal::Interruptible { limit: 7 }).unwrap(),
                Stop::Reached
            );
            assert_eq!(
                (engine.instructions(), engine.accepts_interrupts()),
                (7, false)
            );
            expect(engine, Exit::Halt, Reply::None);
            assert_eq!(engine.registers().unwrap().general[RBX], 20);
        },
    );
}
