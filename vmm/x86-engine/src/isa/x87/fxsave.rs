//! FXSAVE and FXRSTOR, and the legacy region that XSAVE shares with them (SDM 1, 10.5 and 13.4.1).
//!
//! ```text
//!  0 FCW FSW FTW 0 FOP FIP FDP │ 24 MXCSR mask │ 32 ST(0) to ST(7), 16 bytes each │ 160 XMM0 to XMM15 │ 416 not touched │ 512
//!  └───────── x87 ────────────┘└── SSE ───────┘└──────────── x87 ────────────────┘└────── SSE ──────┘
//! ```

use iced_x86::Code;

use crate::{
    cpu::{CR0_EM, Core, Halt, Step, X87},
    decode::op::{Handler, Op},
    float80::Float80,
    memory::Access,
};

/// Bytes of the operand.
pub(super) const REGION: usize = 512;
/// Where XMM0 is.
pub(super) const XMM: usize = 160;
/// Which bits of MXCSR exist: DAZ does, AMD's misaligned mode does not.
const MXCSR_MASK: u32 = 0xFFFF;
const ALIGNMENT: u64 = 16;
/// #AC comes before: real processors look at this many bytes.
const UNIT: u64 = 4;

pub(super) fn select(code: Code) -> Option<Handler> {
    Some(match code {
        Code::Fxsave_m512byte => save::<Narrow>,
        Code::Fxsave64_m512byte => save::<Wide>,
        Code::Fxrstor_m512byte => restore::<Narrow>,
        Code::Fxrstor64_m512byte => restore::<Wide>,
        _ => return None,
    })
}

/// How the pointers are stored.
pub(super) trait Pointers {
    /// The bits of FIP and of FDP.
    const MASK: u64;
}

/// Without REX.W: 32 bits and a selector, which is always 0.
pub(super) struct Narrow;
/// With REX.W: 64 bits.
pub(super) struct Wide;

impl Pointers for Narrow {
    const MASK: u64 = 0xFFFF_FFFF;
}

impl Pointers for Wide {
    const MASK: u64 = u64::MAX;
}

/// The legacy region as bytes.
pub(super) type Region = [u8; REGION];

fn put(region: &mut Region, at: usize, bytes: &[u8]) {
    region[at..at + bytes.len()].copy_from_slice(bytes);
}

fn take<const N: usize>(region: &Region, at: usize) -> [u8; N] {
    *region[at..].first_chunk().expect("it lies in the region")
}

/// Where ST(`index`) is.
fn place(index: usize) -> usize {
    32 + 16 * index
}

/// Fills in the x87's parts.
pub(super) fn pack_x87<P: Pointers>(x87: &X87, region: &mut Region) {
    put(region, 0, &x87.control.to_le_bytes());
    put(region, 2, &x87.status.to_le_bytes());
    put(region, 4, &[x87.in_use]);
    // AMD's processors store the pointers of a pending exception only (AMD APM, FXSAVE).
    if x87.is_error_pending() {
        put(region, 6, &x87.last_opcode.to_le_bytes());
        put(region, 8, &(x87.last_instruction & P::MASK).to_le_bytes());
        put(region, 16, &(x87.last_data & P::MASK).to_le_bytes());
    }
    for index in 0..8 {
        put(region, place(index), &x87.register(index).to_bytes());
    }
}

/// Loads the x87 from its parts. Reserved bits are ignored; ES and B follow from the rest.
pub(super) fn unpack_x87<P: Pointers>(x87: &mut X87, region: &Region) {
    x87.set_control(u16::from_le_bytes(take(region, 0)));
    x87.set_status(u16::from_le_bytes(take(region, 2)));
    x87.last_opcode = u16::from_le_bytes(take(region, 6)) & 0x7FF;
    x87.last_instruction = pointer::<P>(take(region, 8));
    x87.last_data = pointer::<P>(take(region, 16));
    for index in 0..8 {
        x87.set_register(index, Float80::from_bytes(take(region, place(index))));
    }
    x87.in_use = region[4];
}

/// Of 64 bits processors keep as many as the widest linear addresses have, 57, and extend the sign.
fn pointer<P: Pointers>(bytes: [u8; 8]) -> u64 {
    let pointer = u64::from_le_bytes(bytes) & P::MASK;
    ((pointer << 7) as i64 >> 7) as u64
}

impl Core {
    /// #UD, not #NM, if CR0.EM is set, as for SSE.
    fn begin_fxsave(&mut self) -> Step {
        if self.cr0 & CR0_EM != 0 {
            return Err(self.invalid_opcode());
        }
        self.require_x87()
    }

    /// Outside of 64-bit mode there are eight XMM registers.
    pub(super) fn xmm_count(&self) -> usize {
        if self.is_64_bit() { 16 } else { 8 }
    }

    /// Fills in MXCSR and the XMM registers.
    pub(super) fn pack_sse(&mut self, region: &mut Region) {
        put(region, 24, &self.mxcsr.get().to_le_bytes());
        put(region, 28, &MXCSR_MASK.to_le_bytes());
        for (index, register) in self.xmm[..self.xmm_count()].iter().enumerate() {
            put(region, XMM + 16 * index, &register.to_le_bytes());
        }
    }

    /// Loads the XMM registers.
    pub(super) fn unpack_xmm(&mut self, region: &Region) {
        let count = self.xmm_count();
        for (index, register) in self.xmm[..count].iter_mut().enumerate() {
            *register = u128::from_le_bytes(take(region, XMM + 16 * index));
        }
    }

    /// The region's MXCSR; #GP if a reserved bit is set.
    pub(super) fn mxcsr_of(&mut self, region: &Region) -> Result<u32, Halt> {
        let mxcsr = u32::from_le_bytes(take(region, 24));
        if mxcsr & !MXCSR_MASK != 0 {
            return Err(self.general_protection());
        }
        Ok(mxcsr)
    }
}

/// FXSAVE. It does not wait, and it saves the SSE registers whatever CR4.OSFXSR says.
fn save<P: Pointers>(core: &mut Core, op: &Op) -> Step {
    core.begin_fxsave()?;
    let area = core.area(op, REGION as u64, UNIT, ALIGNMENT, Access::Write)?;
    let mut region = [0; REGION];
    pack_x87::<P>(&core.x87, &mut region);
    core.pack_sse(&mut region);
    let end = XMM + 16 * core.xmm_count();
    core.store_area(area, 0, &region[..end])
}

/// FXRSTOR. An exception that it makes pending waits for the next instruction that waits.
fn restore<P: Pointers>(core: &mut Core, op: &Op) -> Step {
    core.begin_fxsave()?;
    let area = core.area(op, REGION as u64, UNIT, ALIGNMENT, Access::Read)?;
    let mut region = [0; REGION];
    core.load_area(area, 0, &mut region)?;
    let mxcsr = core.mxcsr_of(&region)?;
    core.mxcsr.set(mxcsr);
    unpack_x87::<P>(&mut core.x87, &region);
    core.unpack_xmm(&region);
    Ok(())
}
