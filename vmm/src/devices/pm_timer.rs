//! The ACPI power-management timer (ACPI 6.5 §4.8.3.3): Linux's clocksource here.
//!
//! In: guest time. Out: a 32-bit register whose value counts at 3.579545 MHz and wraps at
//! 24 bits. It has no state: the value is a function of guest time. The wrap raises no
//! interrupt, for the machine has no SCI.

use super::time::periods_at;

/// Frequency of the timer, hertz (ACPI 6.5 §4.8.3.3).
pub const PM_TIMER_HZ: u64 = 3_579_545;
/// The value wraps here: TMR_VAL_EXT is 0.
const VALUE_MASK: u64 = 0x00FF_FFFF;

/// The register's value at `now_ns`.
#[must_use]
pub fn value(now_ns: u64) -> u32 {
    (periods_at(now_ns, PM_TIMER_HZ) & VALUE_MASK) as u32
}

/// Byte `index` (0 to 3) of the register at `now_ns`.
#[must_use]
pub fn read(index: u16, now_ns: u64) -> u8 {
    value(now_ns).to_le_bytes()[usize::from(index & 3)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::time::NS_PER_S;

    #[test]
    fn acpi_4_8_3_3_counts_at_its_frequency() {
        assert_eq!(value(0), 0);
        assert_eq!(value(279), 0);
        assert_eq!(value(280), 1);
        assert_eq!(u64::from(value(NS_PER_S)), PM_TIMER_HZ);
    }

    #[test]
    fn acpi_4_8_3_3_wraps_at_24_bits() {
        assert_eq!(value(5 * NS_PER_S), ((5 * PM_TIMER_HZ) % (1 << 24)) as u32);
        assert_eq!(read(3, u64::MAX), 0);
    }

    #[test]
    fn bytes_make_up_the_register() {
        let bytes = [0, 1, 2, 3].map(|index| read(index, 123_456_789));
        assert_eq!(u32::from_le_bytes(bytes), value(123_456_789));
    }
}
