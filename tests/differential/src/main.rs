//! x
use lockstep_differential::*;
fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let count: u64 = args.get(1).map_or(1000, |s| s.parse().unwrap());
    let filter = args.get(2).cloned().unwrap_or_default();
    let generator = generate::Generator::new(1, |c| format!("{c:?}").starts_with(&filter));
    eprintln!("{} candidates", generator.candidates().len());
    let t = std::time::Instant::now();
    let cases: Vec<_> = (0..count).map(|n| generator.case(n)).collect();
    eprintln!(
        "{} us a case to generate",
        t.elapsed().as_micros() as f64 / count as f64
    );
    let mut real = kvm::RealCpu::new(program::assemble()?)?;
    let t = std::time::Instant::now();
    let mut outcomes = vec![];
    for batch in cases.chunks(64) {
        match real.run(batch) {
            Ok(o) => outcomes.extend(o),
            Err(e) => {
                eprintln!("batch: {e}");
                real = kvm::RealCpu::new(program::assemble()?)?;
                for c in batch {
                    match real.run(std::slice::from_ref(c)) {
                        Ok(o) => outcomes.extend(o),
                        Err(e) => {
                            eprintln!("{:x?} {e}", c);
                            return Ok(());
                        }
                    }
                }
            }
        }
    }
    eprintln!(
        "{} us a case on kvm",
        t.elapsed().as_micros() as f64 / count as f64
    );
    let mut v = std::collections::BTreeMap::new();
    for o in &outcomes {
        *v.entry(o.vector).or_insert(0) += 1;
    }
    eprintln!("{v:?}");
    Ok(())
}
