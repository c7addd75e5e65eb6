//! The KVM engine's state as a value.
//!
//! In: a vCPU whose last exit is answered. Out: a [`KvmState`], and a vCPU in that state again, of this or of another virtual machine. What
//! always holds: two engines that were given the same state, on the same memory, do the same from there.
//!
//! | part | why |
//! |---|---|
//! | general, segment, table and control registers, EFER | the processor's |
//! | x87 and SSE registers | as KVM_GET_XSAVE has them: KVM_GET_FPU leaves MXCSR out. The CPU model has no XSAVE, hence no XCR0 |
//! | model-specific registers | those that the CPU model has and that hold what the guest wrote |
//! | debug registers | the guest's own; what lockstep itself debugs with is set anew at each entry |
//! | events | an exception or interrupt that is on its way into the guest, the shadow of STI and MOV SS |
//! | the engine's own | instructions since the exit, whether it takes interrupts, `kvm-pvm`'s repairs |
//!
//! The state that tells a halted processor from a running one (`KVM_GET_MP_STATE`) is none of it: without an interrupt controller in the kernel HLT is an
//! exit and the processor stays runnable (KVM API, 4.38).

use kvm_bindings::{
    Msrs, kvm_debugregs, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xsave,
};
use serde::{Deserialize, Serialize};

use super::{
    KvmEngine,
    count::SourceState,
    pvm::Pvm,
    vcpu::{Debugging, Vcpu, failed},
};
use crate::engine::{Engine, EngineError, Persist};

/// Version of [`KvmState`]. Any change of its fields or their meaning changes it.
pub const STATE_VERSION: u32 = 1;

/// No encoded [`KvmState`] is longer, bytes.
pub const ENCODED_STATE_BYTES: usize = 8192;

/// Model-specific registers that hold what the guest wrote (SDM 4, table 2-2). EFER, the bases of FS and GS and the APIC's are
/// among the system registers; the time-stamp counter is not the guest's to read.
const SAVED_MSRS: [u32; 9] = [
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0x277,       // PAT
    0xC000_0081, // STAR
    0xC000_0082, // LSTAR
    0xC000_0083, // CSTAR
    0xC000_0084, // FMASK
    0xC000_0102, // KERNEL_GS_BASE
];

/// Everything that a vCPU's future depends on, except memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvmState {
    version: u32,
    general: kvm_regs,
    system: kvm_sregs,
    /// The words of an XSAVE area (SDM 1 13.4).
    floating_point: Vec<u32>,
    model_specific: Vec<(u32, u64)>,
    debug: kvm_debugregs,
    events: kvm_vcpu_events,
    /// Present if a `kvm-pvm` host saved it.
    pvm: Option<Pvm>,
    source: SourceState,
}

impl KvmState {
    /// The state after an exit that is answered: nothing is counted since.
    pub(super) fn forget_instructions(&mut self) {
        self.source.exited();
    }
}

impl KvmEngine {
    /// Between an exit and the completion of its instruction KVM holds state that nobody can read: completes it, if the exit is answered.
    /// What registers show is a function of the position, then: whether somebody has looked at them before makes no difference.
    pub(super) fn settle(&mut self) -> Result<(), EngineError> {
        match self.unanswered {
            None => self.guest.complete(),
            Some(_) => Ok(()),
        }
    }

    /// Another virtual machine on the same memory: what KVM holds of an exit that is under way cannot be taken back.
    fn renew(&mut self) -> Result<(), EngineError> {
        let mut fresh = Self::new(self.slots.memory(), self.count)?;
        std::mem::swap(&mut fresh.guest.kicks, &mut self.guest.kicks);
        if self.slots.is_tracking() {
            fresh.track_dirty()?;
        }
        *self = fresh;
        Ok(())
    }
}

impl Persist for KvmEngine {
    type State = KvmState;

    fn save(&mut self) -> Result<KvmState, EngineError> {
        assert!(
            self.unanswered.is_none(),
            "exit {:?} was not answered",
            self.unanswered
        );
        self.settle()?;
        if self.guest.within_instruction() {
            return Err(EngineError::Unsavable(
                "an instruction with several exits is half done",
            ));
        }
        // A single step shows in RFLAGS.
        self.guest.vcpu.set_debugging(Debugging::default())?;
        let vcpu = &self.guest.vcpu;
        let fd = vcpu.fd();
        Ok(KvmState {
            version: STATE_VERSION,
            general: vcpu.regs()?,
            system: vcpu.sregs()?,
            floating_point: fd
                .get_xsave()
                .map_err(failed("read the floating-point registers"))?
                .region
                .to_vec(),
            model_specific: read_msrs(vcpu)?,
            debug: fd
                .get_debug_regs()
                .map_err(failed("read the debug registers"))?,
            events: fd
                .get_vcpu_events()
                .map_err(failed("read pending events"))?,
            pvm: self.guest.pvm.clone(),
            source: self
                .source
                .save()
                .ok_or(EngineError::Unsavable("a hardware counter counts"))?,
        })
    }

    fn restore(&mut self, state: &KvmState) -> Result<(), EngineError> {
        if state.version != STATE_VERSION {
            return Err(EngineError::ForeignState {
                what: format!("version {} of KVM's", state.version),
            });
        }
        if state.pvm.is_some() != self.guest.pvm.is_some() {
            return Err(EngineError::ForeignState {
                what: "that of another kind of KVM".to_owned(),
            });
        }
        if self.guest.is_incomplete() || self.unanswered.is_some() {
            self.renew()?;
        } else {
            self.slots.remap(&self.vm)?;
        }
        self.guest.vcpu.set_debugging(Debugging::default())?;
        let vcpu = &self.guest.vcpu;
        vcpu.set_sregs(&state.system)?;
        vcpu.set_regs(&state.general)?;
        let fd = vcpu.fd();
        set_floating_point(vcpu, &state.floating_point)?;
        write_msrs(vcpu, &state.model_specific)?;
        fd.set_debug_regs(&state.debug)
            .map_err(failed("set the debug registers"))?;
        // The last: setting registers throws a pending exception away.
        fd.set_vcpu_events(&state.events)
            .map_err(failed("set pending events"))?;
        self.guest.pvm.clone_from(&state.pvm);
        self.guest.hidden_exception = None;
        self.guest.shown = None;
        if !self.source.restore(&state.source) {
            return Err(EngineError::ForeignState {
                what: "one of another count of KVM's".to_owned(),
            });
        }
        Ok(())
    }
}

fn set_floating_point(vcpu: &Vcpu, words: &[u32]) -> Result<(), EngineError> {
    let mut area = kvm_xsave::default();
    let region = words.try_into().map_err(|_| EngineError::ForeignState {
        what: "one with other floating-point registers".to_owned(),
    })?;
    area.region = region;
    vcpu.set_xsave(&area)
}

fn entries(registers: impl Iterator<Item = (u32, u64)>) -> Msrs {
    let entries: Vec<_> = registers
        .map(|(index, data)| kvm_msr_entry {
            index,
            data,
            ..Default::default()
        })
        .collect();
    Msrs::from_entries(&entries).expect("fewer than KVM's limit")
}

fn read_msrs(vcpu: &Vcpu) -> Result<Vec<(u32, u64)>, EngineError> {
    let mut msrs = entries(SAVED_MSRS.iter().map(|index| (*index, 0)));
    let count = vcpu
        .fd()
        .get_msrs(&mut msrs)
        .map_err(failed("read the model-specific registers"))?;
    if count != SAVED_MSRS.len() {
        return Err(EngineError::Unexpected(format!(
            "KVM has no model-specific register {:#x}",
            SAVED_MSRS[count]
        )));
    }
    let value = |entry: &kvm_msr_entry| (entry.index, entry.data);
    Ok(msrs.as_slice().iter().map(value).collect())
}

fn write_msrs(vcpu: &Vcpu, registers: &[(u32, u64)]) -> Result<(), EngineError> {
    let known = |(index, _): &(u32, u64)| SAVED_MSRS.contains(index);
    if registers.len() != SAVED_MSRS.len() || !registers.iter().all(known) {
        return Err(EngineError::ForeignState {
            what: "one with other model-specific registers".to_owned(),
        });
    }
    let count = vcpu
        .fd()
        .set_msrs(&entries(registers.iter().copied()))
        .map_err(failed("set the model-specific registers"))?;
    match registers.get(count) {
        None => Ok(()),
        Some((index, value)) => Err(EngineError::Unexpected(format!(
            "KVM refuses {value:#x} in model-specific register {index:#x}"
        ))),
    }
}
