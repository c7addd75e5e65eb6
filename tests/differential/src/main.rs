//! Feasibility.
use lockstep_differential::{case::*, kvm::RealCpu, layout::*, program};
fn main() -> anyhow::Result<()> {
    let mut cpu = RealCpu::new(program::assemble()?)?;
    let base = Case { code: vec![0x48,0xff,0xc0], code_at: CODE + 0x800, general: std::array::from_fn(|i| i as u64 * 0x1111), rflags: 0x202, float: Float::default(), patches: vec![] };
    let with = |code: &[u8]| Case { code: code.to_vec(), ..base.clone() };
    let show = |name: &str, r: &Outcome| eprintln!("{name}: vec {} err {:x} cr2 {:x} rip {:x} cs {:x} fl {:x} ss {:x} rax {:x} rsp {:x}", r.vector, r.error_code, r.fault_address, r.rip, r.cs, r.rflags, r.ss, r.general[0], r.general[4]);
    for (name, code) in [("inc", &[0x48u8,0xff,0xc0][..]), ("ud2", &[0x0f,0x0b]), ("int3", &[0xcc]), ("pf", &[0x8b,0x00]), ("ro", &[0xc7,4,0x25,0,0x20,0,0x20,1,0,0,0]), ("rd ro", &[0x8b,4,0x25,0,0x20,0,0x20]), ("sup", &[0x8b,4,0x25,0,0x30,0,0x20]), ("nx", &[0x68,0,0,0,0x20,0xc3]), ("ret", &[0xc3]), ("div", &[0xf7,0xf0]), ("int1", &[0xf1]), ("int80", &[0xcd,0x80]), ("int81", &[0xcd,0x81]), ("int 13", &[0xcd,13]), ("int4", &[0xcd,4]),("out", &[0xee]), ("movcs", &[0x8c,0xc8]), ("movss", &[0x8c,0xd0]), ("movds", &[0x8c,0xd8]), ("cr0", &[0x0f,0x20,0xc0]), ("cli", &[0xfa]), ("wrmsr", &[0x0f,0x30]), ("invlpg", &[0x0f,1,0x38]), ("swapgs", &[0x0f,1,0xf8]), ("rdpmc", &[0x0f,0x33]),("fs", &[0x64,0x8b,4,0x25,0,0,0,0]), ("gs", &[0x65,0x8b,4,0x25,0,0,0,0]), ("clts", &[0x0f,6]), ("kernel half", &[0x48,0xa1,0,0,0,0,0,0x88,0xff,0xff]), ("noncanon", &[0x48,0xa1,0,0,0,0,0,0x88,0xef,0xff]), ("ss noncanon", &[0x48,0xbc,0,0,0,0,0,0x88,0xef,0xff,0x50]), ("sysenter", &[0x0f,0x34]), ("lock nop", &[0xf0,0x90]), ("16 prefixes", &[0x66;16]), ("popcnt", &[0xf3,0x0f,0xb8,0xc0])] {
        let mut c = with(code);
        c.general[4] = DATA + 0x1000;
        match cpu.run(&[c]) { Ok(r) => show(name, &r[0]), Err(e) => { eprintln!("{name}: {e}"); cpu = RealCpu::new(program::assemble()?)?; } }
    }
    for (name, flags) in [("tf", 0x302u64), ("ac", 0x40202), ("nt", 0x4202), ("id", 0x200202), ("df", 0x602), ("rf", 0x10202), ("iopl", 0x3202), ("vm", 0x20202), ("vif", 0x180202), ("if0", 2), ("all arith", 0xad7)] {
        let mut c = with(&[0x48,0xff,0xc0]); c.rflags = flags; c.general[4] = DATA + 0x1000;
        match cpu.run(&[c]) { Ok(r) => show(name, &r[0]), Err(e) => { eprintln!("{name}: {e}"); cpu = RealCpu::new(program::assemble()?)?; } }
    }
    let mut c = with(&[0x8b,4,0x25,1,0,0,0x20]); c.rflags = 0x40202; show("ac", &cpu.run(&[c])?[0]);
    let t = std::time::Instant::now();
    for _ in 0..40 { cpu.run(&vec![base.clone(); 256])?; }
    eprintln!("{} us per case", t.elapsed().as_micros() as f64 / 10240.0);
    let pf = with(&[0x8b,0x00]);
    let t = std::time::Instant::now();
    for _ in 0..40 { cpu.run(&vec![pf.clone(); 256])?; }
    eprintln!("{} us per #pf case", t.elapsed().as_micros() as f64 / 10240.0);
    Ok(())
}
