//! Guest user mode on kvm-pvm, where neither KVM's single step nor its breakpoints work: the processor does step there, and the trap goes
//! to the guest instead of to the VMM.
//!
//! So the guest is run, with the step asked for, under an interrupt descriptor table that ends before it begins. No exception can be delivered
//! through it, the attempt is a triple fault, and nothing was pushed anywhere: KVM returns with the guest where the exception came.
//!
//! ```text
//!  IDT limit 0, step ─┬─► shutdown ─┬─ something changed ────► the trap: the instruction is done
//!                     │             └─ nothing changed ──────► a fault: nothing is done. Run again with the guest's own table
//!                     ├─► debug exit: KVM emulated it ───────► done
//!                     └─► another exit ──────────────────────► the instruction's
//! ```

use iced_x86::{FlowControl, Instruction};

use kvm_bindings::kvm_regs;

use super::{Guest, Place, RFLAGS_RF, place};
use crate::engine::{
    EngineError,
    kvm::vcpu::{Debugging, RawExit, failed},
};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserStep {
    /// The instruction was executed.
    Done,
    /// It was not: it raises an exception.
    Raises,
    /// It exits.
    Exits(RawExit),
}

/// Steps over one instruction.
pub fn step(
    guest: &mut Guest,
    before: &Place,
    next: Option<&Instruction>,
) -> Result<UserStep, EngineError> {
    let Some(next) = next else {
        return Ok(UserStep::Raises);
    };
    let events = guest.vcpu.fd().get_vcpu_events();
    let events = events.map_err(failed("read pending events"))?;
    let debug = guest.vcpu.fd().get_debug_regs();
    let debug = debug.map_err(failed("read the debug registers"))?;
    set_limit(guest, 0)?;
    guest.vcpu.set_debugging(Debugging {
        step: true,
        ..Debugging::default()
    })?;
    let raw = loop {
        match guest.enter()? {
            RawExit::Interrupted => {}
            raw => break raw,
        }
    };
    set_limit(guest, before.sregs.idt.limit)?;
    let set = guest.vcpu.fd().set_debug_regs(&debug);
    set.map_err(failed("set the debug registers"))?;
    let set = guest.vcpu.fd().set_vcpu_events(&events);
    set.map_err(failed("set pending events"))?;
    match raw {
        RawExit::Debug { .. } => Ok(UserStep::Done),
        RawExit::Shutdown => {
            let now = place(guest)?;
            // A branch to itself that needs no memory cannot fault.
            let branch = matches!(
                next.flow_control(),
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
            );
            let without_rf = |regs: kvm_regs| kvm_regs {
                rflags: regs.rflags & !RFLAGS_RF,
                ..regs
            };
            if branch || without_rf(now.regs) != without_rf(before.regs) {
                return Ok(UserStep::Done);
            }
            // A fault sets RF.
            guest.vcpu.set_regs(&before.regs)?;
            Ok(UserStep::Raises)
        }
        exit => Ok(UserStep::Exits(exit)),
    }
}

fn set_limit(guest: &Guest, limit: u16) -> Result<(), EngineError> {
    let mut sregs = guest.vcpu.sregs()?;
    sregs.idt.limit = limit;
    guest.vcpu.set_sregs(&sregs)
}
