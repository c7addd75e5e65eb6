//! The program that runs a batch of cases inside the guest, so that thousands of cases cost one exit.
//!
//! ```text
//!  user mode                                                     supervisor mode
//!  next: input to its place, memory fresh, code into place
//!        registers loaded, IRETQ ──► the case's code ──┐
//!                                                      └─ #xx ──► handler: notes vector and CR2, IRETQ
//!  record: registers and memory to the outcome ◄──────────────────────────────┘
//!        next, or a store to the doorbell
//! ```
//!
//! Nothing here depends on the processor: it also runs on the software CPU.

use iced_x86::{
    Code, IcedError, Instruction, MemoryOperand, Register,
    code_asm::{
        CodeAssembler, byte_ptr, cr2, dword_ptr, eax, ecx, ptr, qword_ptr, r8, r9, r10, r11, r12,
        r13, r14, r15, rax, rbp, rbx, rcx, rdi, rdx, rsi, rsp,
    },
};

use crate::{
    case::{
        CODE_AT, CODE_BLOCK, CODE_LIMIT, FAULT, FLOAT, FRAME, GENERAL, INPUT_BYTES, MEMORY, PATCH,
        PATCH_BYTES, PATCH_STRIDE, PATCHES, RSP, VECTOR,
    },
    layout::{
        CODE, CODE_PAGES, CONTROL, CURRENT_INPUT, CURRENT_OUTPUT, DATA, DATA_BYTES,
        DOORBELL_LINEAR, HLT, INPUTS, OUTPUTS, PRISTINE, PROGRAM, Piece, RFLAGS, STACK_TOP,
        STUB_BYTES, STUBS, USER_CODE, USER_DATA, VECTORS, harness,
    },
};

// Offsets in the control page.
/// The next input.
const INPUT_CURSOR: u64 = 0;
/// Where the inputs end.
const INPUTS_END: u64 = 8;
/// The next outcome.
const OUTPUT_CURSOR: u64 = 16;
/// Vector, then CR2.
const CAUSE: u64 = 32;
/// Room for a register.
const SPARE: u64 = 48;
/// The frame that leads from a handler to `record`.
const RECORD_FRAME: u64 = 64;

/// Where the harness writes code that is executed at `code_at`.
#[must_use]
pub fn code_alias(code_at: u64) -> u64 {
    harness(CODE_PAGES) + (code_at - CODE)
}

/// The control page for a batch of `count` cases.
#[must_use]
pub fn control(count: usize, record: u64) -> Vec<u8> {
    let mut words = [0_u64; 16];
    words[INPUT_CURSOR as usize / 8] = harness(INPUTS);
    words[INPUTS_END as usize / 8] = harness(INPUTS) + (count * INPUT_BYTES) as u64;
    words[OUTPUT_CURSOR as usize / 8] = harness(OUTPUTS);
    let frame = [
        record,
        u64::from(USER_CODE),
        RFLAGS,
        0,
        u64::from(USER_DATA),
    ];
    words[RECORD_FRAME as usize / 8..][..frame.len()].copy_from_slice(&frame);
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The program.
pub struct Program {
    /// The loop and the handlers.
    pub pieces: Vec<Piece>,
    /// Where the loop begins.
    pub entry: u64,
    /// Where it goes on after an exception.
    pub record: u64,
}

/// Assembles the program.
///
/// # Errors
/// If an instruction cannot be encoded, which would be a mistake here.
pub fn assemble() -> Result<Program, IcedError> {
    let entry = harness(PROGRAM);
    let mut code = CodeAssembler::new(64)?;
    next(&mut code)?;
    let loop_bytes = code.assemble(entry)?;
    let record = entry + loop_bytes.len() as u64;
    let mut code = CodeAssembler::new(64)?;
    recording(&mut code, entry)?;
    let mut program = loop_bytes;
    program.extend(code.assemble(record)?);
    let mut stubs = Vec::new();
    for vector in 0..VECTORS {
        let mut code = CodeAssembler::new(64)?;
        handler(&mut code, vector)?;
        let mut bytes = code.assemble(harness(STUBS) + vector * STUB_BYTES)?;
        assert!(
            bytes.len() <= STUB_BYTES as usize,
            "handlers do not overlap"
        );
        bytes.resize(STUB_BYTES as usize, HLT);
        stubs.extend(bytes);
    }
    let pieces = vec![
        Piece {
            at: PROGRAM,
            bytes: program,
        },
        Piece {
            at: STUBS,
            bytes: stubs,
        },
    ];
    Ok(Program {
        pieces,
        entry,
        record,
    })
}

/// From the batch's next input to the case's code.
fn next(code: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut again = code.create_label();
    let mut go = code.create_label();
    code.set_label(&mut again)?;
    code.cld()?;
    code.mov(rax, harness(CONTROL))?;
    code.mov(rsi, ptr(rax + INPUT_CURSOR))?;
    code.cmp(rsi, ptr(rax + INPUTS_END))?;
    code.jne(go)?;
    code.mov(rcx, DOORBELL_LINEAR)?;
    code.mov(dword_ptr(rcx), eax)?;
    code.jmp(again)?;
    code.set_label(&mut go)?;
    code.mov(rbx, harness(CURRENT_INPUT))?;
    code.mov(rdi, rbx)?;
    copy(code, INPUT_BYTES)?;
    code.mov(qword_ptr(rax + INPUT_CURSOR), rsi)?;
    code.mov(rsi, harness(PRISTINE))?;
    code.mov(rdi, DATA)?;
    copy(code, DATA_BYTES as usize)?;
    code.mov(rdi, ptr(rbx + CODE_AT))?;
    code.lea(rsi, ptr(rbx + CODE_BLOCK))?;
    copy(code, CODE_LIMIT)?;
    for index in 0..PATCHES {
        code.mov(rdi, ptr(rbx + PATCH + index * PATCH_STRIDE))?;
        code.lea(rsi, ptr(rbx + PATCH + index * PATCH_STRIDE + 8))?;
        copy(code, PATCH_BYTES)?;
    }
    code.fxrstor64(byte_ptr(rbx + FLOAT))?;
    load_registers(code)?;
    load(
        code,
        Code::Lea_r64_m,
        Register::RSP,
        harness(CURRENT_INPUT) + FRAME as u64,
    )?;
    code.iretq()
}

fn copy(code: &mut CodeAssembler, bytes: usize) -> Result<(), IcedError> {
    code.mov(ecx, (bytes / 8) as u32)?;
    code.rep().movsq()
}

/// Relative to RIP, so that no register is needed for the address.
fn load_registers(code: &mut CodeAssembler) -> Result<(), IcedError> {
    let registers = [
        rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15,
    ];
    for (index, register) in registers.into_iter().enumerate() {
        if index != RSP {
            let from = harness(CURRENT_INPUT) + (GENERAL + index * 8) as u64;
            load(code, Code::Mov_r64_rm64, register.into(), from)?;
        }
    }
    Ok(())
}

/// From the end of a case to the next.
fn recording(code: &mut CodeAssembler, entry: u64) -> Result<(), IcedError> {
    let registers = [
        rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15,
    ];
    let output = harness(CURRENT_OUTPUT);
    store_rax(code, output + GENERAL as u64)?;
    code.mov(rax, output)?;
    for (index, register) in registers.into_iter().enumerate() {
        code.mov(qword_ptr(rax + GENERAL + 8 + index * 8), register)?;
    }
    code.fxsave64(byte_ptr(rax + FLOAT))?;
    code.cld()?;
    code.mov(rsi, harness(STACK_TOP) - 48)?;
    code.lea(rdi, ptr(rax + FAULT))?;
    copy(code, 48)?;
    code.mov(rbx, harness(CONTROL))?;
    code.lea(rsi, ptr(rbx + CAUSE))?;
    code.lea(rdi, ptr(rax + VECTOR))?;
    copy(code, 16)?;
    // The outcome is to the batch's what the input was.
    code.mov(rdi, ptr(rbx + OUTPUT_CURSOR))?;
    code.mov(rsi, rax)?;
    copy(code, MEMORY)?;
    code.mov(rsi, DATA)?;
    copy(code, DATA_BYTES as usize)?;
    code.mov(qword_ptr(rbx + OUTPUT_CURSOR), rdi)?;
    // The place of the code becomes HLTs again.
    code.mov(rcx, harness(CURRENT_INPUT))?;
    code.mov(rdi, ptr(rcx + CODE_AT))?;
    code.mov(rax, u64::from_le_bytes([HLT; 8]))?;
    code.mov(ecx, (CODE_LIMIT / 8) as u32)?;
    code.rep().stosq()?;
    code.jmp(entry)
}

/// An exception handler: short, because some hosts emulate it.
fn handler(code: &mut CodeAssembler, vector: u64) -> Result<(), IcedError> {
    const PAGE_FAULT: u64 = 14;
    let cause = harness(CONTROL + CAUSE);
    if vector == PAGE_FAULT {
        store_rax(code, harness(CONTROL + SPARE))?;
        code.mov(rax, cr2)?;
        store_rax(code, cause + 8)?;
        load(
            code,
            Code::Mov_r64_rm64,
            Register::RAX,
            harness(CONTROL + SPARE),
        )?;
    }
    code.add_instruction(Instruction::with2(
        Code::Mov_rm32_imm32,
        here(cause),
        vector as u32,
    )?)?;
    load(
        code,
        Code::Lea_r64_m,
        Register::RSP,
        harness(CONTROL + RECORD_FRAME),
    )?;
    code.iretq()
}

/// An operand at `address`, relative to RIP.
fn here(address: u64) -> MemoryOperand {
    MemoryOperand::with_base_displ(Register::RIP, address as i64)
}

fn load(
    code: &mut CodeAssembler,
    instruction: Code,
    register: Register,
    from: u64,
) -> Result<(), IcedError> {
    code.add_instruction(Instruction::with2(instruction, register, here(from))?)
}

fn store_rax(code: &mut CodeAssembler, to: u64) -> Result<(), IcedError> {
    code.add_instruction(Instruction::with2(
        Code::Mov_rm64_r64,
        here(to),
        Register::RAX,
    )?)
}
