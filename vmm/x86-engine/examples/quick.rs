//! scratch
use iced_x86::code_asm::*;
use x86_engine::*;
fn main() {
    let mut a = CodeAssembler::new(64).unwrap();
    let mut again = a.create_label();
    let mut f = a.create_label();
    let mut skip = a.create_label();
    a.mov(rsi, 0x200000_u64).unwrap();
    a.set_label(&mut again).unwrap();
    a.mov(rax, qword_ptr(rsi + rcx * 8)).unwrap();
    a.add(rax, rbx).unwrap();
    a.xor(rbx, rax).unwrap();
    a.lea(rdx, qword_ptr(rax + rbx * 4 + 12)).unwrap();
    a.mov(qword_ptr(rsi + rcx * 8), rdx).unwrap();
    a.test(al, 1).unwrap();
    a.je(skip).unwrap();
    a.add(rdi, 3).unwrap();
    a.set_label(&mut skip).unwrap();
    a.call(f).unwrap();
    a.inc(rcx).unwrap();
    a.and(ecx, 0xfff).unwrap();
    a.cmp(rcx, 77).unwrap();
    a.jne(again).unwrap();
    a.jmp(again).unwrap();
    a.set_label(&mut f).unwrap();
    a.movzx(r8d, al).unwrap();
    a.sub(r9, r8).unwrap();
    a.ret().unwrap();
    let code = a.assemble(0x100000).unwrap();
    let mut cpu = Cpu::new(Ram::owned(8 << 20));
    let ram = cpu.ram_mut();
    ram.write(0x1000, &0x2007_u64.to_le_bytes());
    ram.write(0x2000, &0x87_u64.to_le_bytes());
    ram.write(0x100000, &code);
    let mut s = State::default();
    s.segments[1].access = 0xA09B;
    s.cr0 |= 1 << 31;
    s.cr3 = 0x1000;
    s.cr4 = 0x620;
    s.efer = 0x501;
    s.rip = 0x100000;
    s.general[4] = 0x300000;
    cpu.restore(&s).unwrap();
    let n = 400_000_000;
    let t = std::time::Instant::now();
    cpu.run(Goal::Instructions(n));
    let d = t.elapsed();
    println!(
        "{:.1} M/s {:.2} ns",
        n as f64 / d.as_secs_f64() / 1e6,
        d.as_nanos() as f64 / n as f64
    );
}
