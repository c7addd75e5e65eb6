//! XSAVE and XRSTOR of the two state components that XCR0 can have here, x87 and SSE (SDM 1, 13.7 and 13.8).
//!
//! In: EDX:EAX, which components are wanted. The area is FXSAVE's legacy region and a header of 64 bytes, whose first eight, XSTATE_BV, say which
//! components are not in their initial state. Only the standard form is announced, so XCOMP_BV must be 0.

use iced_x86::Code;

use crate::{
    cpu::{CR0_TS, CR4_OSXSAVE, Core, Register, Step, X87},
    decode::op::{Handler, Op},
    exception::Exception,
    memory::Access,
    model::XSAVE_BYTES,
};

use super::fxsave::{Narrow, Pointers, REGION, Region, Wide, XMM, pack_x87, unpack_x87};

/// State component 0.
const COMPONENT_X87: u64 = 1 << 0;
/// State component 1.
const COMPONENT_SSE: u64 = 1 << 1;
const HEADER_BYTES: usize = 64;
const ALIGNMENT: u64 = 64;
/// As for FXSAVE.
const UNIT: u64 = 4;

const _: () = assert!(REGION + HEADER_BYTES == XSAVE_BYTES as usize);

pub(super) fn select(code: Code) -> Option<Handler> {
    Some(match code {
        Code::Xsave_mem => save::<Narrow>,
        Code::Xsave64_mem => save::<Wide>,
        Code::Xrstor_mem => restore::<Narrow>,
        Code::Xrstor64_mem => restore::<Wide>,
        _ => return None,
    })
}

impl Core {
    fn begin_xsave(&mut self) -> Step {
        if self.cr4 & CR4_OSXSAVE == 0 {
            return Err(self.invalid_opcode());
        }
        if self.cr0 & CR0_TS != 0 {
            return Err(self.raise(Exception::DEVICE_NOT_AVAILABLE));
        }
        Ok(())
    }

    /// The components that EDX:EAX asks for, of those that there are.
    fn requested_components(&self) -> u64 {
        let low: u32 = self.get(Register::Rax);
        let high: u32 = self.get(Register::Rdx);
        (u64::from(high) << 32 | u64::from(low)) & self.xcr0
    }

    /// The components that are not in their initial state. MXCSR does not count, nor do the pointers without a pending exception: a processor's
    /// own tracking may say "in use" more often, here it is a function of the state.
    fn components_in_use(&self) -> u64 {
        let x87 = X87 {
            last_instruction: 0,
            last_data: 0,
            last_opcode: 0,
            ..self.x87
        };
        let mut components = 0;
        if x87 != X87::INITIAL {
            components |= COMPONENT_X87;
        }
        if self.xmm.iter().any(|register| *register != 0) {
            components |= COMPONENT_SSE;
        }
        components
    }
}

/// XSAVE: requested components are stored also if they are in their initial state.
fn save<P: Pointers>(core: &mut Core, op: &Op) -> Step {
    core.begin_xsave()?;
    let area = core.area(op, XSAVE_BYTES.into(), UNIT, ALIGNMENT, Access::Write)?;
    let requested = core.requested_components();
    // The header is read before anything is stored, and stored last.
    let mut before = [0; 8];
    core.load_area(area, REGION, &mut before)?;
    let in_use = core.components_in_use();
    let components = u64::from_le_bytes(before) & !requested | in_use & requested;
    let mut region = [0; REGION];
    if requested & COMPONENT_X87 != 0 {
        pack_x87::<P>(&core.x87, &mut region);
        core.store_area(area, 0, &region[..24])?;
        core.store_area(area, 32, &region[32..XMM])?;
    }
    if requested & COMPONENT_SSE != 0 {
        core.pack_sse(&mut region);
        core.store_area(area, 24, &region[24..32])?;
        let end = XMM + 16 * core.xmm_count();
        core.store_area(area, XMM, &region[XMM..end])?;
    }
    core.store_area(area, REGION, &components.to_le_bytes())
}

/// XRSTOR: requested components that XSTATE_BV does not have get their initial state; MXCSR is loaded in either case (SDM 1, 13.8.1).
fn restore<P: Pointers>(core: &mut Core, op: &Op) -> Step {
    core.begin_xsave()?;
    let area = core.area(op, XSAVE_BYTES.into(), UNIT, ALIGNMENT, Access::Read)?;
    let requested = core.requested_components();
    let mut header = [0; 24];
    core.load_area(area, REGION, &mut header)?;
    let (present, reserved) = header.split_first_chunk::<8>().expect("24 bytes");
    let present = u64::from_le_bytes(*present);
    if present & !core.xcr0 != 0 || reserved.iter().any(|byte| *byte != 0) {
        return Err(core.general_protection());
    }
    let mut region: Region = [0; REGION];
    core.load_area(area, 0, &mut region)?;
    if requested & COMPONENT_SSE != 0 {
        let mxcsr = core.mxcsr_of(&region)?;
        core.mxcsr.set(mxcsr);
        if present & COMPONENT_SSE == 0 {
            region[XMM..].fill(0);
        }
        core.unpack_xmm(&region);
    }
    if requested & COMPONENT_X87 != 0 {
        if present & COMPONENT_X87 == 0 {
            core.x87 = X87::INITIAL;
        } else {
            unpack_x87::<P>(&mut core.x87, &region);
        }
    }
    Ok(())
}
