//! The `lockstep` command.
use std::sync::Arc;
use vmm::{effect::Effect, inputs::{*, live::*, recorder::*}, session::{replica::*, setup::*}};
use logging_channel::*;
struct Rec { n: std::collections::BTreeMap<&'static str, u64> }
impl Recorder for Rec {
    fn record(&mut self, e: Entry, effect: Option<Effect>) -> Result<(), InputError> {
        use std::io::Write;
        if std::env::var_os("TRACE").is_some() { eprintln!("{e:?}"); }
        let k = match e.event { Event::Time{..}=>"time", Event::Tick{..}=>"tick", Event::Interrupt{..}=>"int", Event::Output{..}=>"out", Event::Digest{..}=>"dig", Event::Step{..}=>"step", Event::Entropy{..}=>"ent", _=>"other"};
        *self.n.entry(k).or_default() += 1;
        if let Some(Effect::Print(b)) = effect { std::io::stdout().write_all(&b).unwrap(); std::io::stdout().flush().unwrap(); if b.windows(8).any(|w| w == b"lockstep") {eprintln!("-- {:?} {:?}", e.at, self.n);} }
        Ok(())
    }
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let config = MachineConfig { engine: EngineChoice::Kvm, kernel: a[1].clone().into(), initrd: a.get(2).filter(|s| !s.is_empty()).map(|s| s.into()), command_line: a.get(3).cloned().unwrap_or_default(), memory_bytes: 96<<20, mac: Some(MacAddress::DEFAULT) };
    let p = Prepared::new(&config).unwrap_or_else(|e| panic!("{e}"));
    eprintln!("{:?}", p.identity());
    let t = std::time::Instant::now();
    let m = p.boot(&logging_channel::identity::BootChoices { unix_time_s: 1_700_000_000, rng_seed: [7;32] }).unwrap_or_else(|e| panic!("{e}"));
    let live = Live::new(GuestClock::starting_at(0), Arc::default(), Box::new(Rec{n:Default::default()}), 1);
    let r = Replica::new(m, live).run();
    eprintln!("{r:?} after {:?}", t.elapsed());
}
