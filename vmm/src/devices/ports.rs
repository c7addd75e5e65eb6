//! Which device answers at which I/O port.

use super::pic::Which;
use crate::machine::layout::{
    I8042_COMMAND_PORT, I8042_DATA_PORT, PIC_ELCR_PORT, PIC_MASTER_PORT, PIC_SLAVE_PORT, PIT_PORT,
    PIT_SPEAKER_PORT, PM_TIMER_PORT, RESET_PORT, RTC_PORT, SERIAL_PORT,
};

/// System control port A: fast A20 and fast reset.
const FAST_A20_PORT: u16 = 0x92;

/// A register of a device, one byte wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    PicCommand(Which),
    PicData(Which),
    Elcr(Which),
    Pit(u16),
    Speaker,
    RtcIndex,
    RtcData,
    I8042Data,
    I8042Command,
    FastA20,
    ResetControl,
    Serial(u16),
    PmTimer(u16),
}

/// The register at `port`; `None` where nothing answers.
pub(super) fn register_at(port: u16) -> Option<Register> {
    let in_block = |base: u16, length: u16| {
        let index = port.wrapping_sub(base);
        (index < length).then_some(index)
    };
    if let Some(index) = in_block(PIT_PORT, 4) {
        return Some(Register::Pit(index));
    }
    if let Some(index) = in_block(SERIAL_PORT, 8) {
        return Some(Register::Serial(index));
    }
    if let Some(index) = in_block(PM_TIMER_PORT, 4) {
        return Some(Register::PmTimer(index));
    }
    single_register_at(port)
}

fn single_register_at(port: u16) -> Option<Register> {
    const PIC_MASTER_DATA_PORT: u16 = PIC_MASTER_PORT + 1;
    const PIC_SLAVE_DATA_PORT: u16 = PIC_SLAVE_PORT + 1;
    const SLAVE_ELCR_PORT: u16 = PIC_ELCR_PORT + 1;
    const RTC_DATA_PORT: u16 = RTC_PORT + 1;
    Some(match port {
        PIC_MASTER_PORT => Register::PicCommand(Which::Master),
        PIC_MASTER_DATA_PORT => Register::PicData(Which::Master),
        PIC_SLAVE_PORT => Register::PicCommand(Which::Slave),
        PIC_SLAVE_DATA_PORT => Register::PicData(Which::Slave),
        PIC_ELCR_PORT => Register::Elcr(Which::Master),
        SLAVE_ELCR_PORT => Register::Elcr(Which::Slave),
        PIT_SPEAKER_PORT => Register::Speaker,
        RTC_PORT => Register::RtcIndex,
        RTC_DATA_PORT => Register::RtcData,
        I8042_DATA_PORT => Register::I8042Data,
        I8042_COMMAND_PORT => Register::I8042Command,
        FAST_A20_PORT => Register::FastA20,
        RESET_PORT => Register::ResetControl,
        _ => return None,
    })
}
