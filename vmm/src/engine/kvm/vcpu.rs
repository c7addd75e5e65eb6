//! One KVM vCPU: entries and raw exits as plain data.
//!
//! In: replies as bytes, debug settings. Out: [`RawExit`]. All `unsafe` access to the shared
//! `kvm_run` page stands here, and what another thread needs to make a run end ([`KickTarget`]).

use std::sync::{
    Once,
    atomic::{AtomicPtr, AtomicU8, AtomicU64, Ordering},
};

use std::cell::Cell;

use kvm_bindings::{
    KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR,
    KVM_EXIT_IO, KVM_EXIT_IO_IN, KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN,
    KVM_EXIT_X86_WRMSR, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP, Msrs,
    kvm_guest_debug, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_xsave,
};
use kvm_ioctls::{SyncReg, VcpuFd};

use crate::engine::EngineError;

/// KVM_INTERNAL_ERROR_EMULATION of the KVM API.
const SUBERROR_EMULATION: u32 = 1;

/// What `KVM_RUN` returned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawExit {
    /// `in` or `out`, perhaps repeated: element `i` lies at byte `i * width` of the data area.
    Port {
        port: u16,
        width: u8,
        count: u32,
        read: bool,
    },
    /// A load outside of memory.
    MmioRead { address: u64, width: u8 },
    /// A store outside of memory.
    MmioWrite {
        address: u64,
        width: u8,
        data: [u8; 8],
    },
    /// HLT.
    Halt,
    /// Triple fault.
    Shutdown,
    /// A single step or a breakpoint, at this linear address.
    Debug { pc: u64 },
    /// A write to a model-specific register that was filtered. It has not happened.
    MsrWrite { index: u32, value: u64 },
    /// A signal, or nothing at all: run again.
    Interrupted,
    /// The guest accepts interrupts, and that was asked for.
    InterruptWindow,
    /// KVM cannot emulate the instruction; its bytes.
    EmulationFailure { bytes: [u8; 15], length: u8 },
}

/// As many instruction breakpoints as the processor has (SDM 3B 18.2.1).
pub const BREAKPOINTS: usize = 4;

/// What stops the guest besides exits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Debugging {
    /// Stop after each instruction.
    pub step: bool,
    /// Stop before the instructions at these linear addresses.
    pub breakpoints: [Option<u64>; BREAKPOINTS],
}

/// A vCPU that runs, as whoever kicks it sees it.
#[derive(Debug, Default)]
pub struct KickTarget {
    /// `immediate_exit` of the shared page.
    immediate_exit: AtomicPtr<u8>,
    /// The thread that runs it.
    thread: AtomicU64,
}

impl KickTarget {
    /// Makes the entry that is under way, or the next, come back at once. Only while the vCPU runs on the thread that called [`Vcpu::aim_at`].
    pub fn kick(&self) {
        let immediate_exit = self.immediate_exit.load(Ordering::Relaxed);
        if immediate_exit.is_null() {
            return;
        }
        // SAFETY: the address lies in the vCPU's shared page, which is mapped as long as the vCPU lives: it is running, and does not
        // leave the run before this call is over (`super::kick`). The kernel reads the byte, whoever writes it does so atomically.
        unsafe { AtomicU8::from_ptr(immediate_exit) }.store(1, Ordering::SeqCst);
        // SAFETY: the thread lives, as it is running the vCPU; the signal has a handler.
        let sent = unsafe {
            libc::pthread_kill(
                self.thread.load(Ordering::Relaxed),
                vmm_sys_util::signal::SIGRTMIN(),
            )
        };
        assert_eq!(sent, 0, "a thread that runs can be signalled");
    }
}

/// Gives the signal that ends a run a handler, which does nothing: that it comes is enough.
fn handle_kicks() {
    extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    static HANDLED: Once = Once::new();
    HANDLED.call_once(|| {
        vmm_sys_util::signal::register_signal_handler(vmm_sys_util::signal::SIGRTMIN(), nothing)
            .expect("a real-time signal can be handled");
    });
}

/// A vCPU and its shared page.
pub struct Vcpu {
    fd: VcpuFd,
    debugging: Debugging,
    /// The registers were set since. KVM sets the trap flag, by which it steps, with the settings, and loses it then.
    step_lost: Cell<bool>,
    /// KVM leaves the registers in the shared page at each exit: two system calls less.
    keeps_registers: bool,
    /// What it left, as long as it is true.
    kept: Cell<Option<Kept>>,
}

/// General and system registers at the last exit.
#[derive(Clone, Copy)]
struct Kept {
    regs: kvm_regs,
    sregs: kvm_sregs,
}

/// Names the failed call for an error.
pub fn failed(doing: &'static str) -> impl FnOnce(vmm_sys_util::errno::Error) -> EngineError {
    move |source| EngineError::Kvm { doing, source }
}

impl Vcpu {
    /// Takes over a new vCPU.
    pub fn new(fd: VcpuFd) -> Self {
        handle_kicks();
        Self {
            fd,
            debugging: Debugging::default(),
            step_lost: Cell::new(false),
            keeps_registers: false,
            kept: Cell::new(None),
        }
    }

    /// Has KVM leave the registers in the shared page: for whoever reads them at each exit. It must be able to (KVM_CAP_SYNC_REGS).
    pub fn keep_registers(&mut self) {
        self.fd.set_sync_valid_reg(SyncReg::Register);
        self.fd.set_sync_valid_reg(SyncReg::SystemRegister);
        self.keeps_registers = true;
    }

    /// The file descriptor, for the calls that need no care.
    pub fn fd(&self) -> &VcpuFd {
        // Whatever is done with it.
        self.kept.set(None);
        &self.fd
    }

    /// Enters the guest; comes back at the next raw exit.
    pub fn enter(&mut self) -> Result<RawExit, EngineError> {
        self.kept.set(None);
        let outcome = self.fd.run().map(|_| ());
        if self.keeps_registers {
            let kept = self.fd.sync_regs();
            self.kept.set(Some(Kept {
                regs: kept.regs,
                sregs: kept.sregs,
            }));
        }
        match outcome {
            Ok(()) => self.decode(),
            Err(error) if error.errno() == libc_eintr() || error.errno() == libc_eagain() => {
                Ok(RawExit::Interrupted)
            }
            Err(source) => Err(EngineError::Kvm {
                doing: "run the guest",
                source,
            }),
        }
    }

    /// Kicks are for this vCPU, on this thread.
    pub fn aim_at(&mut self, target: &KickTarget) {
        let immediate_exit = &raw mut self.fd.get_kvm_run().immediate_exit;
        target
            .immediate_exit
            .store(immediate_exit, Ordering::Relaxed);
        // SAFETY: it has no preconditions.
        let thread = unsafe { libc::pthread_self() };
        target.thread.store(thread, Ordering::Relaxed);
    }

    /// After a kick: entries last again.
    pub fn forget_kick(&mut self) {
        self.fd.set_kvm_immediate_exit(0);
    }

    /// Lets KVM finish the instruction of the last exit without running any further one. `Some` if that instruction exits once more.
    pub fn complete_exit(&mut self) -> Result<Option<RawExit>, EngineError> {
        self.fd.set_kvm_immediate_exit(1);
        let outcome = self.enter();
        self.fd.set_kvm_immediate_exit(0);
        Ok(match outcome? {
            RawExit::Interrupted => None,
            // With single-stepping on, KVM reports the completed instruction as a step.
            RawExit::Debug { .. } if self.debugging.step => None,
            again @ (RawExit::MmioRead { .. }
            | RawExit::MmioWrite { .. }
            | RawExit::Port { .. }) => Some(again),
            other => {
                return Err(EngineError::Unexpected(format!(
                    "{other:?} while completing an exit"
                )));
            }
        })
    }

    fn decode(&mut self) -> Result<RawExit, EngineError> {
        let run = self.fd.get_kvm_run();
        let payload = &run.__bindgen_anon_1;
        // SAFETY (each arm): KVM fills the member of the union that belongs to the exit reason.
        let exit = match run.exit_reason {
            KVM_EXIT_IO => {
                // SAFETY: see above.
                let io = unsafe { payload.io };
                let read = u32::from(io.direction) == KVM_EXIT_IO_IN;
                RawExit::Port {
                    port: io.port,
                    width: io.size,
                    count: io.count,
                    read,
                }
            }
            KVM_EXIT_MMIO => {
                // SAFETY: see above.
                let mmio = unsafe { payload.mmio };
                let (address, width) = (mmio.phys_addr, mmio.len as u8);
                if mmio.is_write != 0 {
                    RawExit::MmioWrite {
                        address,
                        width,
                        data: mmio.data,
                    }
                } else {
                    RawExit::MmioRead { address, width }
                }
            }
            KVM_EXIT_HLT => RawExit::Halt,
            KVM_EXIT_SHUTDOWN => RawExit::Shutdown,
            KVM_EXIT_DEBUG => {
                // SAFETY: see above.
                let pc = unsafe { payload.debug.arch.pc };
                RawExit::Debug { pc }
            }
            KVM_EXIT_X86_WRMSR => {
                // SAFETY: see above.
                let msr = unsafe { payload.msr };
                RawExit::MsrWrite {
                    index: msr.index,
                    value: msr.data,
                }
            }
            KVM_EXIT_INTR => RawExit::Interrupted,
            KVM_EXIT_IRQ_WINDOW_OPEN => RawExit::InterruptWindow,
            KVM_EXIT_INTERNAL_ERROR => {
                // SAFETY: see above.
                let internal = unsafe { payload.internal };
                if internal.suberror != SUBERROR_EMULATION {
                    return Err(EngineError::Unexpected(format!(
                        "KVM internal error {internal:?}"
                    )));
                }
                emulation_failure(&internal.data, internal.ndata)
            }
            KVM_EXIT_FAIL_ENTRY => {
                // SAFETY: see above.
                let reason = unsafe { payload.fail_entry.hardware_entry_failure_reason };
                return Err(EngineError::Unexpected(format!(
                    "the host refused to enter the guest (reason {reason:#x})"
                )));
            }
            other => return Err(EngineError::Unexpected(format!("exit reason {other}"))),
        };
        Ok(exit)
    }

    /// Element `index` of a port exit's data.
    pub fn port_element(&mut self, index: u32, width: u8) -> u32 {
        let mut bytes = [0; 4];
        bytes[..usize::from(width)].copy_from_slice(self.port_bytes(index, width));
        u32::from_le_bytes(bytes)
    }

    /// Sets element `index` of a port exit's data.
    pub fn set_port_element(&mut self, index: u32, width: u8, value: u32) {
        self.port_bytes(index, width)
            .copy_from_slice(&value.to_le_bytes()[..usize::from(width)]);
    }

    fn port_bytes(&mut self, index: u32, width: u8) -> &mut [u8] {
        let run = self.fd.get_kvm_run();
        // SAFETY: only called for a port exit, where KVM filled `io`.
        let io = unsafe { run.__bindgen_anon_1.io };
        assert!(
            index < io.count && width == io.size,
            "element {index} of {io:?}"
        );
        let offset = io.data_offset as usize + index as usize * usize::from(width);
        // SAFETY: KVM keeps `count * size` bytes at `data_offset` within the mapping that begins with `kvm_run` (KVM API,
        // 5. "The kvm_run structure"); the mapping lives as long as the vCPU.
        unsafe {
            std::slice::from_raw_parts_mut(
                std::ptr::from_mut(run).cast::<u8>().add(offset),
                usize::from(width),
            )
        }
    }

    /// Answers an MMIO load.
    pub fn set_mmio_data(&mut self, data: [u8; 8]) {
        self.fd.get_kvm_run().__bindgen_anon_1.mmio.data = data;
    }

    /// Whether KVM would take an interrupt, as of the last exit.
    pub fn ready_for_interrupt(&mut self) -> bool {
        self.fd.get_kvm_run().ready_for_interrupt_injection != 0
    }

    /// Whether KVM is to return where the guest accepts interrupts.
    pub fn request_interrupt_window(&mut self, request: bool) {
        self.fd.get_kvm_run().request_interrupt_window = request.into();
    }

    /// Queues an external interrupt.
    pub fn interrupt(&self, vector: u8) -> Result<(), EngineError> {
        interrupt_ioctl(&self.fd, u32::from(vector))
    }

    /// What else stops the guest.
    pub fn debugging(&self) -> Debugging {
        self.debugging
    }

    /// Chooses what else stops the guest.
    pub fn set_debugging(&mut self, debugging: Debugging) -> Result<(), EngineError> {
        let armed = !(debugging.step && self.step_lost.get());
        if debugging == self.debugging && armed {
            return Ok(());
        }
        let mut settings = kvm_guest_debug::default();
        if debugging.step {
            settings.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
        }
        for (index, address) in debugging.breakpoints.into_iter().enumerate() {
            let Some(address) = address else { continue };
            settings.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
            settings.arch.debugreg[index] = address;
            // DR7: Gn set, condition 0 "instruction execution", length 0, and GE (SDM 3B 18.2.4).
            settings.arch.debugreg[7] |= 0x200 | 2 << (index * 2);
        }
        self.fd
            .set_guest_debug(&settings)
            .map_err(failed("set breakpoints"))?;
        self.debugging = debugging;
        self.step_lost.set(false);
        Ok(())
    }

    /// The guest's flags, by which KVM steps, are others now.
    pub fn step_is_lost(&self) {
        self.step_lost.set(true);
    }

    /// General registers.
    pub fn regs(&self) -> Result<kvm_regs, EngineError> {
        match self.kept.get() {
            Some(kept) => Ok(kept.regs),
            None => self.fd.get_regs().map_err(failed("read the registers")),
        }
    }

    /// Sets the general registers.
    pub fn set_regs(&self, regs: &kvm_regs) -> Result<(), EngineError> {
        self.step_is_lost();
        self.kept.set(None);
        self.fd.set_regs(regs).map_err(failed("set the registers"))
    }

    /// Segment, table and control registers.
    pub fn sregs(&self) -> Result<kvm_sregs, EngineError> {
        match self.kept.get() {
            Some(kept) => Ok(kept.sregs),
            None => self
                .fd
                .get_sregs()
                .map_err(failed("read the system registers")),
        }
    }

    /// Sets segment, table and control registers.
    pub fn set_sregs(&self, sregs: &kvm_sregs) -> Result<(), EngineError> {
        self.kept.set(None);
        self.fd
            .set_sregs(sregs)
            .map_err(failed("set the system registers"))
    }

    /// Sets the x87 and SSE registers.
    pub fn set_xsave(&self, area: &kvm_xsave) -> Result<(), EngineError> {
        // SAFETY: KVM reads 4 KiB, which `area` has, unless a feature was enabled that needs more; none was.
        unsafe { self.fd.set_xsave(area) }.map_err(failed("set the floating-point registers"))
    }

    /// Reads model-specific registers.
    pub fn msrs<const N: usize>(&self, indices: [u32; N]) -> Result<[u64; N], EngineError> {
        let doing = "read model-specific registers";
        let entries = indices.map(|index| kvm_msr_entry {
            index,
            ..Default::default()
        });
        let mut msrs = Msrs::from_entries(&entries).expect("a few MSRs are below KVM's limit");
        let read = self.fd.get_msrs(&mut msrs).map_err(failed(doing))?;
        if read != N {
            return Err(failed(doing)(vmm_sys_util::errno::Error::new(
                rustix::io::Errno::INVAL.raw_os_error(),
            )));
        }
        Ok(std::array::from_fn(|index| msrs.as_slice()[index].data))
    }

    /// Does a write that was filtered; the guest does not notice.
    pub fn complete_msr_write(&mut self, index: u32, value: u64) -> Result<(), EngineError> {
        let doing = "write a model-specific register";
        let entry = kvm_msr_entry {
            index,
            data: value,
            ..Default::default()
        };
        let msrs = Msrs::from_entries(&[entry]).expect("one MSR is below KVM's limit");
        let written = self.fd.set_msrs(&msrs).map_err(failed(doing))?;
        // 1 raises #GP in the guest, as a bad value does.
        self.fd.get_kvm_run().__bindgen_anon_1.msr.error = u8::from(written != 1);
        Ok(())
    }
}

fn libc_eintr() -> i32 {
    rustix::io::Errno::INTR.raw_os_error()
}

fn libc_eagain() -> i32 {
    rustix::io::Errno::AGAIN.raw_os_error()
}

vmm_sys_util::ioctl_iow_nr!(
    KVM_INTERRUPT,
    kvm_bindings::KVMIO,
    0x86,
    kvm_bindings::kvm_interrupt
);

fn interrupt_ioctl(fd: &VcpuFd, irq: u32) -> Result<(), EngineError> {
    let interrupt = kvm_bindings::kvm_interrupt { irq };
    // SAFETY: `fd` is a vCPU and KVM only reads the structure.
    let result = unsafe { vmm_sys_util::ioctl::ioctl_with_ref(fd, KVM_INTERRUPT(), &interrupt) };
    if result < 0 {
        return Err(failed("inject an interrupt")(
            vmm_sys_util::errno::Error::last(),
        ));
    }
    Ok(())
}

/// `data` is: flags, then one byte of length and the instruction's bytes (KVM API, `KVM_EXIT_INTERNAL_ERROR`).
fn emulation_failure(data: &[u64; 16], ndata: u32) -> RawExit {
    let mut bytes = [0; 15];
    let mut length = 0;
    if ndata >= 3 && data[0] & 1 != 0 {
        let raw: Vec<u8> = data[1..4]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        length = raw[0].min(15);
        bytes.copy_from_slice(&raw[1..16]);
    }
    RawExit::EmulationFailure { bytes, length }
}
