//! What an exit costs: a bare `KVM_RUN`, each engine, and the whole loop with live inputs and a recorder that forgets.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use iced_x86::code_asm::{CodeAssembler, al};
use kvm_ioctls::Kvm;
use lockstep_tests::snippet;
use logging_channel::Entry;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};
use vmm::{
    devices::DevicesConfig,
    effect::Effect,
    engine::{AnyEngine, Engine, EngineKind, Goal, Reply},
    inputs::{InputError, Live, live::HostClock, recorder::Recorder},
    machine::{GuestMemory, Machine},
    session::replica::Replica,
};

/// Exits a measurement.
const EXITS: u64 = 20_000;
/// Measurements of each kind, in turn.
const ROUNDS: usize = 15;

/// `out 0x80, al` for ever: a port without a device.
fn endless_exits(a: &mut CodeAssembler) {
    let mut again = a.create_label();
    a.set_label(&mut again).unwrap();
    a.out(0x80, al).unwrap();
    a.jmp(again).unwrap();
}

fn memory() -> GuestMemory {
    snippet::memory(endless_exits, |a| a.nop().unwrap())
}

/// Prints the section.
pub fn print() {
    let memories: [GuestMemory; 5] = std::array::from_fn(|_| memory());
    let mut bare = Bare::new(&memories[0]);
    let mut kvm = booted(EngineKind::Kvm, &memories[1]);
    let mut kvm_looped = whole_loop(EngineKind::Kvm, &memories[2]);
    let mut soft = booted(EngineKind::Soft, &memories[3]);
    let mut soft_looped = whole_loop(EngineKind::Soft, &memories[4]);
    let mut times: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        times[0].push(nanoseconds(bare.run()));
        times[1].push(nanoseconds(engine_exits(&mut kvm)));
        times[2].push(nanoseconds(kvm_looped()));
        times[3].push(nanoseconds(engine_exits(&mut soft)));
        times[4].push(nanoseconds(soft_looped()));
    }
    println!("\nexits: cost of `out 0x80, al`, {EXITS} exits, median of {ROUNDS} rounds in turn");
    let (baseline, _) = super::median_and_maximum(times[0].clone());
    let names = [
        "bare KVM_RUN",
        "kvm: engine",
        "kvm: whole loop, recording",
        "soft: engine",
        "soft: whole loop, recording",
    ];
    for (name, times) in names.iter().zip(times) {
        let (median, _) = super::median_and_maximum(times);
        println!(
            "  {name:28} {:8.2} µs  {:5.2}",
            median / 1000.0,
            median / baseline
        );
    }
}

/// An exit's share of `time`.
fn nanoseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / EXITS as f64
}

fn booted(kind: EngineKind, memory: &GuestMemory) -> AnyEngine {
    let mut engine = AnyEngine::new(kind, memory).expect("an engine");
    engine.boot(&snippet::state()).expect("a legal state");
    engine
}

fn engine_exits(engine: &mut AnyEngine) -> Duration {
    let begun = Instant::now();
    for _ in 0..EXITS {
        engine.run(Goal::Exit).expect("the engine runs");
        engine.reply(Reply::None).expect("an exit is answered");
    }
    begun.elapsed()
}

/// Forgets entries; ends the session every [`EXITS`] digests' worth of exits.
struct Forgetful;

impl Recorder for Forgetful {
    fn record(&mut self, entry: Entry, _effect: Option<Effect>) -> Result<(), InputError> {
        std::hint::black_box(entry);
        Ok(())
    }
}

/// The loop that primary and backup run, stopped from outside after some exits.
fn whole_loop(kind: EngineKind, memory: &GuestMemory) -> impl FnMut() -> Duration {
    let engine = AnyEngine::new(kind, memory).expect("an engine");
    let devices = DevicesConfig {
        unix_time_s: 0,
        mac: Some([2, 0, 0, 0, 0, 1]),
        memory_bytes: 8 << 20,
        disks: vec![],
    };
    let machine =
        Machine::new(engine, memory.clone(), &devices, &snippet::state()).expect("a machine");
    let inputs = Live::new(
        HostClock::starting_at(0),
        Arc::default(),
        Box::new(Forgetful),
        1,
    );
    let mut replica = Replica::new(machine, inputs);
    move || {
        let begun = Instant::now();
        replica.run_exits(EXITS).expect("the guest runs");
        begun.elapsed()
    }
}

/// A vCPU without anything around it.
struct Bare {
    vcpu: kvm_ioctls::VcpuFd,
    _vm: kvm_ioctls::VmFd,
}

impl Bare {
    fn new(memory: &GuestMemory) -> Self {
        let kvm = Kvm::new().expect("KVM");
        let vm = kvm.create_vm().expect("a virtual machine");
        let region = memory.iter().next().expect("one region");
        let host = region
            .get_host_address(MemoryRegionAddress(0))
            .expect("memory is mapped");
        let slot = kvm_bindings::kvm_userspace_memory_region {
            memory_size: region.len(),
            userspace_addr: host as u64,
            ..Default::default()
        };
        // SAFETY: the caller keeps the memory for as long as the machine.
        unsafe { vm.set_user_memory_region(slot) }.expect("memory is accepted");
        let vcpu = vm.create_vcpu(0).expect("a vCPU");
        let state = snippet::state();
        let mut sregs = vcpu.get_sregs().expect("system registers");
        (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) =
            (state.cr0, state.cr3, state.cr4, state.efer);
        (sregs.cs.base, sregs.cs.limit, sregs.cs.selector) = (0, u32::MAX, state.code.selector);
        (sregs.cs.type_, sregs.cs.l, sregs.cs.db, sregs.cs.g) = (0xB, 1, 0, 1);
        vcpu.set_sregs(&sregs).expect("legal system registers");
        let mut regs = vcpu.get_regs().expect("registers");
        (regs.rip, regs.rsp, regs.rflags) = (state.rip, state.rsp, 2);
        vcpu.set_regs(&regs).expect("legal registers");
        Self { vcpu, _vm: vm }
    }

    fn run(&mut self) -> Duration {
        let begun = Instant::now();
        for _ in 0..EXITS {
            let exit = self.vcpu.run().expect("the guest runs");
            assert!(matches!(exit, kvm_ioctls::VcpuExit::IoOut(0x80, _)));
        }
        begun.elapsed()
    }
}
