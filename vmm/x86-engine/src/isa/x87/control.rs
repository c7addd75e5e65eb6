//! The instructions that control the x87 and do not compute.

use iced_x86::Code;

use crate::{
    cpu::{CR0_MP, CR0_TS, Core, Register, Step},
    decode::op::{Handler, Op},
    exception::Exception,
};

use super::{other, stack::C1};

pub(super) fn select(code: Code) -> Option<Handler> {
    Some(match code {
        Code::Wait => wait,
        Code::Fninit => initialise,
        Code::Fnclex => clear_exceptions,
        Code::Fnstcw_m2byte => store_control,
        Code::Fldcw_m2byte => load_control,
        Code::Fnstsw_m2byte => store_status,
        Code::Fnstsw_AX => store_status_to_accumulator,
        // Interrupt enable and disable of the 8087, protected mode of the 80287: no operations since.
        Code::Fneni | Code::Fndisi | Code::Fnsetpm => no_wait_no_operation,
        Code::Fnop => no_operation,
        Code::Ffree_sti => free,
        Code::Ffreep_sti => free_and_pop,
        Code::Fincstp => increment_top,
        Code::Fdecstp => decrement_top,
        _ => return None,
    })
}

/// FWAIT: here CR0.MP counts, and CR0.EM does not.
fn wait(core: &mut Core, _op: &Op) -> Step {
    if core.cr0 & (CR0_MP | CR0_TS) == CR0_MP | CR0_TS {
        return Err(core.raise(Exception::DEVICE_NOT_AVAILABLE));
    }
    core.require_no_x87_error()
}

fn initialise(core: &mut Core, _op: &Op) -> Step {
    core.require_x87()?;
    core.x87.initialise();
    Ok(())
}

fn clear_exceptions(core: &mut Core, _op: &Op) -> Step {
    core.require_x87()?;
    core.x87.clear_exceptions();
    Ok(())
}

fn store_control(core: &mut Core, op: &Op) -> Step {
    core.require_x87()?;
    core.store(op, core.x87.control)
}

fn load_control(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    let value = core.load(op)?;
    core.x87.set_control(value);
    Ok(())
}

fn store_status(core: &mut Core, op: &Op) -> Step {
    core.require_x87()?;
    core.store(op, core.x87.status)
}

fn store_status_to_accumulator(core: &mut Core, _op: &Op) -> Step {
    core.require_x87()?;
    core.put(Register::Rax, core.x87.status);
    Ok(())
}

fn no_wait_no_operation(core: &mut Core, _op: &Op) -> Step {
    core.require_x87()
}

fn no_operation(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    core.note_x87(op);
    Ok(())
}

/// FFREE. Processors clear C1, which the manual leaves undefined.
fn free(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    core.x87.free(other(op));
    core.x87.set_codes(C1, 0);
    core.note_x87(op);
    Ok(())
}

/// FFREEP, which Intel does not document.
fn free_and_pop(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    core.x87.free(other(op));
    core.x87.set_codes(C1, 0);
    core.x87.pop();
    core.note_x87(op);
    Ok(())
}

fn increment_top(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    core.x87.rotate_up();
    core.x87.set_codes(C1, 0);
    core.note_x87(op);
    Ok(())
}

fn decrement_top(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    core.x87.rotate_down();
    core.x87.set_codes(C1, 0);
    core.note_x87(op);
    Ok(())
}
