//! What the instructions raise, and that they have changed nothing then.

use crate::{
    cpu::{CR0_EM, CR0_MP, CR0_TS, CR4_OSXSAVE, Halt, Register, Step},
    decode::translate::{Decoded, decode},
    exception::Exception,
    exit::{Exit, Goal, Reply, Stop},
    run::Cpu,
    test_support::{DATA, long_mode_cpu},
};

const FADD: &[u8] = &[0xD8, 0xC1];
const FNOP: &[u8] = &[0xD9, 0xD0];
const FWAIT: &[u8] = &[0x9B];
const FNINIT: &[u8] = &[0xDB, 0xE3];
const FNCLEX: &[u8] = &[0xDB, 0xE2];
const FNSTSW_AX: &[u8] = &[0xDF, 0xE0];
/// [RDI] from here on.
const FLDCW: &[u8] = &[0xD9, 0x2F];
const FNSTCW: &[u8] = &[0xD9, 0x3F];
const FNSAVE: &[u8] = &[0xDD, 0x37];
const FRSTOR: &[u8] = &[0xDD, 0x27];
const FSTP_M32: &[u8] = &[0xD9, 0x1F];
const FSTP_M80: &[u8] = &[0xDB, 0x3F];
const FLD_M64: &[u8] = &[0xDD, 0x07];
const FXSAVE: &[u8] = &[0x0F, 0xAE, 0x07];
const FXRSTOR: &[u8] = &[0x0F, 0xAE, 0x0F];
const XSAVE: &[u8] = &[0x0F, 0xAE, 0x27];
const XRSTOR: &[u8] = &[0x0F, 0xAE, 0x2F];
/// Nothing is mapped from here on.
const UNMAPPED: u64 = 1 << 30;
/// A device.
const DEVICE: u64 = 1 << 29;
/// IE, ES and B.
const PENDING: u16 = 0x8081;

/// A processor with RDI at [`DATA`], XSAVE enabled, and every register of the x87 in use.
fn cpu(code: &[u8]) -> Cpu {
    let mut cpu = long_mode_cpu(code);
    cpu.core.cr4 |= CR4_OSXSAVE;
    cpu.core.xcr0 = 3;
    cpu.core.put(Register::Rdi, DATA);
    cpu.core.put(Register::Rax, 3_u64);
    cpu.core.x87.in_use = 0xFF;
    cpu
}

/// An unmasked invalid operation is pending.
fn with_pending_error(cpu: &mut Cpu) {
    cpu.core.x87.control = 0x37E;
    cpu.core.x87.status = PENDING;
}

fn execute(cpu: &mut Cpu, code: &[u8]) -> Step {
    let Decoded::Op(op, _) = decode(code, 0, 0, cpu.core.code_size) else {
        panic!("{code:x?} is a whole instruction");
    };
    (op.run)(&mut cpu.core, &op)
}

/// What `code` raises; nothing may have changed then.
fn raised(mut cpu: Cpu, code: &[u8]) -> Option<Exception> {
    let before = cpu.save();
    match execute(&mut cpu, code) {
        Ok(()) => None,
        Err(halt) => {
            assert_eq!(halt, Halt::Exception, "{code:x?}");
            assert_eq!(cpu.save(), before, "{code:x?}");
            cpu.core.pending.take()
        }
    }
}

/// The exception of `code` on a processor that `prepare` changed.
fn after(prepare: impl FnOnce(&mut Cpu), code: &[u8]) -> Option<Exception> {
    let mut cpu = cpu(&[]);
    prepare(&mut cpu);
    raised(cpu, code)
}

#[test]
fn without_an_x87_for_the_task_there_is_a_device_not_available_exception() {
    const NOT_AVAILABLE: Option<Exception> = Some(Exception::DEVICE_NOT_AVAILABLE);
    let control_0 = |bits: u64| move |cpu: &mut Cpu| cpu.core.cr0 |= bits;
    for code in [
        FADD, FNOP, FNINIT, FNCLEX, FNSTSW_AX, FLDCW, FNSTCW, FNSAVE, FRSTOR, FSTP_M80,
    ] {
        assert_eq!(after(control_0(CR0_TS), code), NOT_AVAILABLE, "{code:x?}");
        assert_eq!(after(control_0(CR0_EM), code), NOT_AVAILABLE, "{code:x?}");
        assert_eq!(after(control_0(CR0_MP), code), None, "{code:x?}");
    }
    let undefined = Some(Exception::INVALID_OPCODE);
    for code in [FXSAVE, FXRSTOR] {
        assert_eq!(after(control_0(CR0_TS), code), NOT_AVAILABLE, "{code:x?}");
        assert_eq!(after(control_0(CR0_EM), code), undefined, "{code:x?}");
    }
    for code in [XSAVE, XRSTOR] {
        assert_eq!(after(control_0(CR0_TS), code), NOT_AVAILABLE, "{code:x?}");
        assert_eq!(after(control_0(CR0_EM), code), None, "{code:x?}");
    }
    assert_eq!(after(control_0(CR0_TS), FWAIT), None);
    assert_eq!(after(control_0(CR0_EM), FWAIT), None);
    assert_eq!(after(control_0(CR0_TS | CR0_MP), FWAIT), NOT_AVAILABLE);
}

#[test]
fn a_pending_error_is_raised_by_the_next_instruction_that_waits() {
    for code in [FADD, FNOP, FWAIT, FLDCW, FRSTOR, FSTP_M80, FLD_M64] {
        let exception = after(with_pending_error, code);
        assert_eq!(exception, Some(Exception::X87_FLOATING_POINT), "{code:x?}");
    }
    for code in [
        FNINIT, FNCLEX, FNSTSW_AX, FNSTCW, FNSAVE, FXSAVE, FXRSTOR, XSAVE, XRSTOR,
    ] {
        assert_eq!(after(with_pending_error, code), None, "{code:x?}");
    }
}

/// Masking an exception or clearing it ends its being pending; unmasking one that is flagged makes it so.
#[test]
fn an_error_is_pending_while_it_is_both_flagged_and_unmasked() {
    let mut cpu = cpu(&[]);
    with_pending_error(&mut cpu);
    execute(&mut cpu, FNCLEX).expect("it does not wait");
    assert_eq!(cpu.core.x87.status, 0);
    assert_eq!(execute(&mut cpu, FADD), Ok(()));

    cpu.core.x87.status = 0x01;
    cpu.core.x87.control = 0x37F;
    cpu.ram_mut().write(DATA, &0x37E_u16.to_le_bytes());
    execute(&mut cpu, FLDCW).expect("nothing is pending");
    assert_eq!(cpu.core.x87.status, PENDING);
    assert_eq!(raised(cpu, FWAIT), Some(Exception::X87_FLOATING_POINT));
}

#[test]
fn areas_must_be_aligned() {
    for (code, alignment) in [(FXSAVE, 16), (FXRSTOR, 16), (XSAVE, 64), (XRSTOR, 64)] {
        let at = |offset: u64| move |cpu: &mut Cpu| cpu.core.put(Register::Rdi, DATA + offset);
        let wrong = after(at(alignment / 2), code);
        assert_eq!(wrong, Some(Exception::general_protection(0)), "{code:x?}");
        assert_eq!(after(at(alignment), code), None, "{code:x?}");
    }
    let odd = after(|cpu| cpu.core.put(Register::Rdi, DATA + 1), FNSAVE);
    assert_eq!(odd, None);
}

#[test]
fn xsave_needs_the_operating_systems_consent() {
    for code in [XSAVE, XRSTOR] {
        let exception = after(|cpu| cpu.core.cr4 &= !CR4_OSXSAVE, code);
        assert_eq!(exception, Some(Exception::INVALID_OPCODE), "{code:x?}");
    }
}

#[test]
fn what_cannot_be_restored_is_a_general_protection_exception() {
    const REFUSED: Option<Exception> = Some(Exception::general_protection(0));
    let byte = |at: u64, value: u8| move |cpu: &mut Cpu| cpu.ram_mut().write(DATA + at, &[value]);
    // MXCSR's reserved bits.
    assert_eq!(after(byte(26, 1), FXRSTOR), REFUSED);
    assert_eq!(after(byte(26, 1), XRSTOR), REFUSED);
    assert_eq!(after(byte(25, 0xFF), FXRSTOR), None);
    // XSTATE_BV: a component that XCR0 does not have.
    assert_eq!(after(byte(512, 4), XRSTOR), REFUSED);
    assert_eq!(after(byte(512, 3), XRSTOR), None);
    // XCOMP_BV, and what is reserved after it.
    assert_eq!(after(byte(527, 0x80), XRSTOR), REFUSED);
    assert_eq!(after(byte(528, 1), XRSTOR), REFUSED);
    assert_eq!(after(byte(536, 1), XRSTOR), None);
    // MXCSR does not matter to whoever does not ask for it.
    let x87_alone = |cpu: &mut Cpu| {
        cpu.ram_mut().write(DATA + 26, &[1]);
        cpu.core.put(Register::Rax, 1_u64);
    };
    assert_eq!(after(x87_alone, XRSTOR), None);
}

/// The first part of the operand is a device: nothing may be stored to it before the page fault of the second part.
#[test]
fn a_page_fault_comes_before_the_first_store() {
    for code in [FNSAVE, FRSTOR, FXSAVE, FXRSTOR, XSAVE, XRSTOR, FSTP_M80] {
        let before_end = if code == FSTP_M80 { 8 } else { 64 };
        let at = UNMAPPED - before_end;
        let exception = after(|cpu| cpu.core.put(Register::Rdi, at), code);
        let exception = exception.expect("a page fault");
        assert_eq!(exception.vector, 14, "{code:x?}");
        assert_eq!(exception.fault_address, Some(UNMAPPED), "{code:x?}");
    }
}

/// The operand of a store that an unmasked exception suppresses must be writable all the same; a device sees nothing.
#[test]
fn a_suppressed_store_faults_like_any() {
    let prepare = |address| {
        move |cpu: &mut Cpu| {
            cpu.core.x87.in_use = 0;
            cpu.core.x87.control = 0x37E;
            cpu.core.put(Register::Rdi, address);
        }
    };
    assert_eq!(after(prepare(DEVICE), FSTP_M32), None);
    let exception = after(prepare(UNMAPPED), FSTP_M32).expect("a page fault");
    assert_eq!((exception.vector, exception.error_code), (14, Some(2)));
}

#[test]
fn an_area_can_be_saved_to_a_device_and_restored_from_it() {
    let mut device = [0; 512];
    let mut saving = cpu(&[FXSAVE, FNINIT].concat());
    saving.core.x87.mantissa = [1, 2, 3, 4, 5, 6, 7, 8];
    saving.core.x87.status = 5 << 11;
    saving.core.xmm[15] = 0x1234;
    saving.core.put(Register::Rdi, DEVICE);
    let mut exits = 0;
    while let Stop::Exit(exit) = saving.run(Goal::Instructions(1)) {
        let Exit::MmioWrite {
            address,
            width,
            data,
        } = exit
        else {
            panic!("{exit:?} is not a store");
        };
        let (at, width) = ((address - DEVICE) as usize, usize::from(width));
        device[at..at + width].copy_from_slice(&data[..width]);
        exits += 1;
        saving.reply(Reply::None);
        if exits == 416 / 8 {
            break;
        }
    }
    assert_eq!(exits, 416 / 8);

    let mut restoring = cpu(&[FXRSTOR, FNOP].concat());
    restoring.core.put(Register::Rdi, DEVICE);
    for exit in 0..512 / 8 {
        let stop = restoring.run(Goal::Exit);
        let address = DEVICE + 8 * exit;
        assert_eq!(stop, Stop::Exit(Exit::MmioRead { address, width: 8 }));
        let data = device[8 * exit as usize..].first_chunk().expect("inside");
        restoring.reply(Reply::Mmio(*data));
    }
    assert_eq!(restoring.core.x87, saving.core.x87);
    assert_eq!(restoring.core.xmm, saving.core.xmm);
    assert_eq!(restoring.retired(), 1);
}

/// Outside of 64-bit mode XMM8 to XMM15 are neither stored nor loaded.
#[test]
fn half_of_the_registers_are_saved_in_32_bit_code() {
    let mut cpu = Cpu::new(crate::Ram::owned(1 << 22));
    cpu.core.cr4 |= CR4_OSXSAVE;
    cpu.core.xcr0 = 3;
    cpu.core.put(Register::Rdi, DATA);
    cpu.core.put(Register::Rax, 3_u64);
    for (save, restore) in [(FXSAVE, FXRSTOR), (XSAVE, XRSTOR)] {
        cpu.core.xmm = [0x77; 16];
        cpu.ram_mut().write(DATA, &[0xEE; 512]);
        cpu.ram_mut().write(DATA + 512, &[0; 64]);
        execute(&mut cpu, save).expect("it can be saved");
        let mut region = [0; 512];
        cpu.ram().read(DATA, &mut region);
        assert_eq!(region[160 + 7 * 16], 0x77);
        assert!(region[160 + 8 * 16..].iter().all(|byte| *byte == 0xEE));
        cpu.core.xmm = [0x55; 16];
        execute(&mut cpu, restore).expect("it can be restored");
        assert_eq!(
            cpu.core.xmm,
            std::array::from_fn(|index| if index < 8 { 0x77 } else { 0x55 })
        );
    }
}
