//! Small loops on the software CPU, in guest instructions a second: `cargo bench --package x86-engine`.
//!
//! Each loop stresses one part of the interpreter. What whole guests come to is in `docs/performance.md`.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iced_x86::{IcedError, code_asm::*};
use x86_engine::{Cpu, Goal, Ram, State, Stop};

const MEMORY_BYTES: u64 = 8 << 20;
/// Page tables: four levels, one page each but the last.
const TABLES: u64 = 0x1000;
const CODE: u64 = 0x10_0000;
/// What the loops load from and store to.
const DATA: u64 = 0x40_0000;
const STACK: u64 = 0x3F_0000;
/// Instructions (and iterations of repeated string instructions) in a measured run.
const RUN: u64 = 1_000_000;
/// Blocks of the loop that is too large for the table of recent ones.
const MANY_BLOCKS: usize = 20_000;

type Body = fn(&mut CodeAssembler) -> Result<(), IcedError>;

const LOOPS: [(&str, Body); 12] = [
    ("alu", alu),
    ("memory", memory),
    ("branches", branches),
    ("calls", calls),
    ("indirect", indirect),
    ("system_calls", system_calls),
    ("sse", sse),
    ("x87", x87),
    ("rep_movsq", rep_movsq),
    ("many_blocks", many_blocks),
    ("pages", pages),
    ("self_modifying", self_modifying),
];

fn loops(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("loops");
    group.throughput(Throughput::Elements(RUN));
    group.sample_size(20);
    group.measurement_time(Duration::from_secs(3));
    for (name, body) in LOOPS {
        // Made only if this one is asked for, and then once.
        let mut made = None;
        group.bench_function(name, |bencher| {
            let run = made.get_or_insert_with(|| endless(body));
            bencher.iter_custom(|times| {
                let begun = processor_time();
                (0..times).for_each(|_| run());
                processor_time() - begun
            });
        });
    }
    group.finish();
}

/// The loop as something that runs a measured run more of it each time. The first is over: everything is decoded.
fn endless(body: Body) -> impl FnMut() {
    let mut cpu = cpu(body);
    let mut limit = 0;
    let mut run = move || {
        limit += RUN;
        assert_eq!(cpu.run(Goal::Instructions(limit)), Stop::Reached);
    };
    run();
    run
}

/// Of this thread: what else the host does hardly counts.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

criterion_group!(benches, loops);
criterion_main!(benches);

/// A processor in 64-bit mode, with all of memory mapped one to one in pages of 4 KB, at the beginning of `body`.
fn cpu(body: Body) -> Cpu {
    let mut assembler = CodeAssembler::new(64).expect("64 bits");
    body(&mut assembler).expect("the loop assembles");
    let code = assembler.assemble(CODE).expect("the loop assembles");
    let mut ram = Ram::owned(MEMORY_BYTES);
    ram.write(CODE, &code);
    // Present, writable, for user mode.
    const ENTRY: u64 = 0b111;
    let mut entry = |table: u64, index: u64, address: u64| {
        ram.write(table + index * 8, &(address | ENTRY).to_le_bytes());
    };
    let (directory, pages) = (TABLES + 0x2000, TABLES + 0x3000);
    entry(TABLES, 0, TABLES + 0x1000);
    entry(TABLES + 0x1000, 0, directory);
    for page in 0..MEMORY_BYTES / 4096 {
        entry(directory, page / 512, pages + page / 512 * 4096);
        entry(pages, page, page * 4096);
    }
    let mut cpu = Cpu::new(ram);
    let mut state = State {
        rip: CODE,
        cr3: TABLES,
        // PAE, OSFXSR, OSXMMEXCPT; SYSCALL and long mode.
        cr4: 1 << 5 | 1 << 9 | 1 << 10,
        efer: 1 << 0 | 1 << 8 | 1 << 10,
        ..State::default()
    };
    state.cr0 |= 1 << 31;
    // CS: 64-bit code, present.
    state.segments[1].access = 0xA09B;
    state.general[4] = STACK;
    cpu.restore(&state).expect("a state of this version");
    cpu
}

fn alu(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    for _ in 0..4 {
        a.add(rax, rbx)?;
        a.xor(rbx, rax)?;
        a.lea(rdx, qword_ptr(rax + rbx * 4 + 12))?;
        a.shr(edx, 3)?;
        a.imul_2(rcx, rdx)?;
        a.sub(rsi, rcx)?;
        a.and(esi, 0xFFFF)?;
    }
    a.jmp(again)
}

/// Eight-byte loads and stores in 64 KiB.
fn memory(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut again = a.create_label();
    a.mov(rsi, DATA)?;
    a.set_label(&mut again)?;
    a.mov(rax, qword_ptr(rsi + rcx * 8))?;
    a.add(rax, 1)?;
    a.mov(qword_ptr(rsi + rcx * 8 + 0x1_0000), rax)?;
    a.add(qword_ptr(rsi + rcx * 8), rax)?;
    a.inc(ecx)?;
    a.and(ecx, 0x1FFF)?;
    a.jmp(again)
}

/// Blocks of two or three instructions, with conditions that go either way.
fn branches(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    for bit in 0..8 {
        let mut skip = a.create_label();
        a.test(eax, 1 << bit)?;
        a.je(skip)?;
        a.add(edx, eax)?;
        a.set_label(&mut skip)?;
    }
    a.inc(eax)?;
    a.cmp(eax, edx)?;
    a.jne(again)?;
    a.jmp(again)
}

fn calls(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut again, mut function) = (a.create_label(), a.create_label());
    a.set_label(&mut again)?;
    a.push(rbx)?;
    a.call(function)?;
    a.pop(rbx)?;
    a.jmp(again)?;
    a.set_label(&mut function)?;
    a.lea(rax, qword_ptr(rax + rbx + 1))?;
    a.ret()
}

/// A jump through a table.
fn indirect(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut again = a.create_label();
    let mut targets: [CodeLabel; 4] = std::array::from_fn(|_| a.create_label());
    for (index, target) in targets.iter().enumerate() {
        a.lea(rax, ptr(*target))?;
        a.mov(qword_ptr(DATA + index as u64 * 8), rax)?;
    }
    a.set_label(&mut again)?;
    a.inc(ecx)?;
    a.mov(edx, ecx)?;
    a.and(edx, 3)?;
    a.jmp(qword_ptr(rdx * 8 + DATA))?;
    for target in &mut targets {
        a.set_label(target)?;
        a.add(ebx, edx)?;
        a.jmp(again)?;
    }
    Ok(())
}

/// SYSCALL and SYSRET, with nothing between them.
fn system_calls(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut user, mut entry) = (a.create_label(), a.create_label());
    // IA32_STAR: the kernel's selector, and 16 less than the user's; IA32_LSTAR; IA32_FMASK (SDM 3A 5.8.8).
    for (register, high) in [(0xC000_0081_u32, 0x0013_0008_u32), (0xC000_0084, 0)] {
        a.mov(ecx, register)?;
        a.xor(eax, eax)?;
        a.mov(edx, high)?;
        a.wrmsr()?;
    }
    a.lea(rax, ptr(entry))?;
    a.mov(rdx, rax)?;
    a.shr(rdx, 32)?;
    a.mov(ecx, 0xC000_0082_u32)?;
    a.wrmsr()?;
    a.lea(rcx, ptr(user))?;
    a.mov(r11d, 2)?;
    a.set_label(&mut entry)?;
    a.sysretq()?;
    a.set_label(&mut user)?;
    a.syscall()?;
    a.jmp(user)
}

/// Four single and two double precision operations at a time.
fn sse(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut again = a.create_label();
    a.mov(rsi, DATA)?;
    a.set_label(&mut again)?;
    a.movups(xmm0, xmmword_ptr(rsi))?;
    a.mulps(xmm0, xmm1)?;
    a.addps(xmm1, xmm0)?;
    a.movaps(xmm2, xmm1)?;
    a.mulsd(xmm3, xmm4)?;
    a.addsd(xmm4, xmm3)?;
    a.sqrtsd(xmm5, xmm4)?;
    a.pxor(xmm6, xmm2)?;
    a.paddd(xmm6, xmm0)?;
    a.movups(xmmword_ptr(rsi), xmm6)?;
    a.jmp(again)
}

fn x87(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut again = a.create_label();
    a.mov(rsi, DATA)?;
    a.fninit()?;
    a.set_label(&mut again)?;
    a.fld1()?;
    a.fldpi()?;
    a.fmul_2(st0, st1)?;
    a.fadd_2(st0, st1)?;
    a.fxch(st0, st1)?;
    a.fstp(qword_ptr(rsi))?;
    a.fstp(tbyte_ptr(rsi + 16))?;
    a.jmp(again)
}

/// Copies 4 KiB at a time; an iteration counts one.
fn rep_movsq(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.mov(rsi, DATA)?;
    a.mov(rdi, DATA + 0x1_0000)?;
    a.mov(ecx, 512)?;
    a.rep().movsq()?;
    a.jmp(again)
}

/// More blocks in turn than the table of recent ones holds: each is looked up by its physical address.
fn many_blocks(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut first = a.create_label();
    a.set_label(&mut first)?;
    for _ in 0..MANY_BLOCKS {
        let mut next = a.create_label();
        a.add(rax, rbx)?;
        a.jmp(next)?;
        a.set_label(&mut next)?;
    }
    a.jmp(first)
}

/// A load from each of 1,024 pages in turn: twice as many as the translation cache holds, so that each load walks the tables.
fn pages(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut again = a.create_label();
    a.mov(rsi, DATA)?;
    a.set_label(&mut again)?;
    a.mov(rax, qword_ptr(rsi + rcx))?;
    a.add(ecx, 4096)?;
    a.and(ecx, 0x3F_FFFF)?;
    a.jmp(again)
}

/// Each time round, an instruction of the loop is written anew.
fn self_modifying(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut again, mut written) = (a.create_label(), a.create_label());
    a.lea(rsi, ptr(written))?;
    a.set_label(&mut again)?;
    a.inc(eax)?;
    // The immediate operand.
    a.mov(dword_ptr(rsi + 1), eax)?;
    a.set_label(&mut written)?;
    a.mov(ebx, 0x1234_5678)?;
    a.jmp(again)
}
