//! The real processor: a batch of cases in one KVM guest.
//!
//! In: cases. Out: their outcomes. User mode is native on every KVM host; supervisor mode runs only the handlers' few instructions.

use kvm_bindings::{
    KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_MMIO, kvm_dtable, kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    MemoryRegionAddress,
};

use crate::{
    case::{Case, INPUT_BYTES, OUTPUT_BYTES, Outcome},
    layout::{
        self, BATCH, CONTROL, CR0, CR4, EFER, FS_BASE, GS_BASE, INPUTS, MEMORY_BYTES, OUTPUTS,
        REGISTERS, RFLAGS, TASK, USER_CODE, USER_DATA,
    },
    program::{self, Program},
};

/// Why the real processor cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// No `/dev/kvm`, or it may not be opened.
    #[error("Cannot open /dev/kvm: run on a host with KVM, as a user who may use it")]
    Open(#[source] kvm_ioctls::Error),
    /// A call failed.
    #[error("Cannot {doing}")]
    Call {
        /// What was tried.
        doing: &'static str,
        /// The system's reason.
        source: kvm_ioctls::Error,
    },
    /// Guest memory could not be mapped or accessed.
    #[error("Cannot use {MEMORY_BYTES} bytes of guest memory: {0}")]
    Memory(String),
    /// The batch did not run through.
    #[error("The guest left the test program after {done} of {cases} cases: {how}")]
    Astray {
        /// Outcomes that are complete.
        done: usize,
        /// Cases of the batch.
        cases: usize,
        /// What happened.
        how: String,
    },
}

fn failed(doing: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |source| KvmError::Call { doing, source }
}

/// A guest that runs batches.
pub struct RealCpu {
    vcpu: VcpuFd,
    memory: GuestMemoryMmap,
    program: Program,
    _vm: VmFd,
    _kvm: Kvm,
}

impl RealCpu {
    /// A guest with the test program.
    ///
    /// # Errors
    /// [`KvmError::Open`] without a usable `/dev/kvm`.
    pub fn new(program: Program) -> Result<Self, KvmError> {
        let kvm = Kvm::new().map_err(KvmError::Open)?;
        let vm = kvm
            .create_vm()
            .map_err(failed("create a virtual machine"))?;
        // Below 4 GiB and outside of memory, for hosts that need it.
        vm.set_tss_address(0xFFFB_D000)
            .map_err(failed("set the TSS address"))?;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES as usize)])
            .map_err(|error| KvmError::Memory(error.to_string()))?;
        for region in memory.iter() {
            let host = region
                .get_host_address(MemoryRegionAddress(0))
                .map_err(|error| KvmError::Memory(error.to_string()))?;
            let region = kvm_userspace_memory_region {
                slot: 0,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: host as u64,
                flags: 0,
            };
            // SAFETY: the memory lives in the same structure as the virtual machine, which is dropped with it.
            unsafe { vm.set_user_memory_region(region) }.map_err(failed("map guest memory"))?;
        }
        let vcpu = vm.create_vcpu(0).map_err(failed("create a vCPU"))?;
        let supported = kvm
            .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
            .map_err(failed("read the host's CPU model"))?;
        vcpu.set_cpuid2(&supported)
            .map_err(failed("set the CPU model"))?;
        let cpu = Self {
            vcpu,
            memory,
            program,
            _vm: vm,
            _kvm: kvm,
        };
        cpu.load()?;
        cpu.set_registers()?;
        Ok(cpu)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), KvmError> {
        self.memory
            .write_slice(bytes, GuestAddress(at))
            .map_err(|error| KvmError::Memory(error.to_string()))
    }

    fn load(&self) -> Result<(), KvmError> {
        for piece in layout::pieces().iter().chain(&self.program.pieces) {
            self.write(piece.at, &piece.bytes)?;
        }
        Ok(())
    }

    fn set_registers(&self) -> Result<(), KvmError> {
        let mut system = self
            .vcpu
            .get_sregs()
            .map_err(failed("read the system registers"))?;
        system.cs = user_segment(USER_CODE, 0xB, 0);
        let data = user_segment(USER_DATA, 0x3, 0);
        // Null selectors: that is what user mode sees of a host's own, where it sees them.
        let null = user_segment(0, 0x3, 0);
        (system.ds, system.es, system.ss) = (null, null, data);
        system.fs = user_segment(0, 0x3, FS_BASE);
        system.gs = user_segment(0, 0x3, GS_BASE);
        system.tr = kvm_segment {
            base: REGISTERS.tss.0,
            limit: u32::from(REGISTERS.tss.1),
            selector: TASK,
            type_: 0xB,
            present: 1,
            ..Default::default()
        };
        system.ldt = kvm_segment {
            unusable: 1,
            ..Default::default()
        };
        system.gdt = table(REGISTERS.gdt);
        system.idt = table(REGISTERS.idt);
        (system.cr0, system.cr3, system.cr4, system.efer) = (CR0, REGISTERS.cr3, CR4, EFER);
        self.vcpu
            .set_sregs(&system)
            .map_err(failed("set the system registers"))?;
        let mut general = self.vcpu.get_regs().map_err(failed("read the registers"))?;
        (general.rip, general.rflags) = (self.program.entry, RFLAGS);
        self.vcpu
            .set_regs(&general)
            .map_err(failed("set the registers"))
    }

    /// Runs a batch.
    ///
    /// # Errors
    /// If KVM fails, or a case did something that this harness does not bring back.
    ///
    /// # Panics
    /// If there are more than [`BATCH`] cases.
    pub fn run(&mut self, cases: &[Case]) -> Result<Vec<Outcome>, KvmError> {
        assert!(cases.len() <= BATCH, "a batch has {BATCH} cases");
        let inputs: Vec<u8> = cases.iter().flat_map(Case::input).collect();
        self.write(INPUTS, &inputs)?;
        self.write(CONTROL, &program::control(cases.len(), self.program.record))?;
        self.enter(cases.len())?;
        let mut outputs = vec![0; cases.len() * OUTPUT_BYTES];
        self.memory
            .read_slice(&mut outputs, GuestAddress(OUTPUTS))
            .map_err(|error| KvmError::Memory(error.to_string()))?;
        Ok(outputs
            .chunks_exact(OUTPUT_BYTES)
            .map(Outcome::from_output)
            .collect())
    }

    /// To the doorbell.
    fn enter(&mut self, cases: usize) -> Result<(), KvmError> {
        const EINTR: i32 = 4;
        const EAGAIN: i32 = 11;
        loop {
            match self.vcpu.run() {
                Ok(_) => {}
                Err(error) if matches!(error.errno(), EINTR | EAGAIN) => continue,
                Err(source) => return Err(failed("run the guest")(source)),
            }
            let run = self.vcpu.get_kvm_run();
            if run.exit_reason == KVM_EXIT_MMIO {
                // SAFETY: KVM filled the member that belongs to the exit reason.
                let mmio = unsafe { run.__bindgen_anon_1.mmio };
                if mmio.phys_addr == layout::DOORBELL {
                    return Ok(());
                }
            }
            let reason = run.exit_reason;
            let detail = if reason == KVM_EXIT_INTERNAL_ERROR {
                // SAFETY: as above.
                let internal = unsafe { run.__bindgen_anon_1.internal };
                format!("{internal:x?}")
            } else {
                String::new()
            };
            return Err(self.astray(cases, reason, &detail));
        }
    }

    fn astray(&self, cases: usize, reason: u32, detail: &str) -> KvmError {
        let registers = self.vcpu.get_regs();
        let cursor: u64 = self
            .memory
            .read_obj(GuestAddress(CONTROL + 16))
            .unwrap_or_default();
        let done = cursor.saturating_sub(layout::harness(OUTPUTS)) as usize / OUTPUT_BYTES;
        let sregs = self.vcpu.get_sregs().map(|s| (s.cs, s.ss, s.cr2));
        KvmError::Astray {
            done,
            cases,
            how: format!("exit reason {reason} {detail}, {registers:x?} {sregs:x?}"),
        }
    }
}

fn user_segment(selector: u16, kind: u8, base: u64) -> kvm_segment {
    let code = kind & 8 != 0;
    kvm_segment {
        selector,
        base,
        limit: u32::MAX,
        type_: kind,
        present: 1,
        dpl: 3,
        s: 1,
        l: u8::from(code),
        db: u8::from(!code),
        g: 1,
        ..Default::default()
    }
}

fn table((base, limit): (u64, u16)) -> kvm_dtable {
    kvm_dtable {
        base,
        limit,
        ..Default::default()
    }
}

const _: () = assert!(INPUTS + (BATCH * INPUT_BYTES) as u64 <= OUTPUTS);
const _: () = assert!(OUTPUTS + (BATCH * OUTPUT_BYTES) as u64 <= MEMORY_BYTES);
