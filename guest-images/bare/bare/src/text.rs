//! Numbers as text, without the weight of `core::fmt`.

/// Digits of the largest `u64`.
const DECIMAL_MAX: usize = 20;

/// A number's decimal digits.
#[derive(Clone, Copy)]
pub struct Decimal {
    /// The digits and a newline.
    line: [u8; DECIMAL_MAX + 1],
    start: usize,
}

impl Decimal {
    /// The digits of 0.
    pub const ZERO: Self = Self {
        line: *b"00000000000000000000\n",
        start: DECIMAL_MAX - 1,
    };

    /// The digits of `number`.
    #[must_use]
    pub fn new(mut number: u64) -> Self {
        let mut decimal = Self::ZERO;
        for (index, digit) in decimal.line[..DECIMAL_MAX].iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            decimal.start = index;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        decimal
    }

    /// Counts one up: usually the change of one digit. After 20 nines comes 0.
    pub fn increment(&mut self) {
        for (index, digit) in self.line[..DECIMAL_MAX].iter_mut().enumerate().rev() {
            if *digit != b'9' {
                *digit += 1;
                self.start = self.start.min(index);
                return;
            }
            *digit = b'0';
        }
        self.start = DECIMAL_MAX - 1;
    }

    /// The digits, most significant first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.line.get(self.start..DECIMAL_MAX).unwrap_or_default()
    }

    /// The digits and a newline.
    #[must_use]
    pub fn as_line(&self) -> &[u8] {
        self.line.get(self.start..).unwrap_or_default()
    }
}

/// A number as 16 hexadecimal digits.
#[must_use]
pub fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (index, digit) in digits.iter_mut().enumerate() {
        let nibble = (number >> (60 - 4 * index)) as usize & 15;
        *digit = b"0123456789abcdef"[nibble];
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decimal_is_what_std_writes(number: u64, shift in 0_u32..64) {
            let number = number >> shift;
            let expected = number.to_string();
            let decimal = Decimal::new(number);
            prop_assert_eq!(decimal.as_bytes(), expected.as_bytes());
        }

        #[test]
        fn increment_is_addition(number: u64, shift in 0_u32..64) {
            let number = (number >> shift).min(u64::MAX - 1);
            let mut decimal = Decimal::new(number);
            decimal.increment();
            let expected = (number + 1).to_string();
            prop_assert_eq!(decimal.as_bytes(), expected.as_bytes());
        }

        #[test]
        fn hex_is_what_std_writes(number: u64) {
            let (digits, expected) = (hex(number), format!("{number:016x}"));
            prop_assert_eq!(digits.as_slice(), expected.as_bytes());
        }
    }

    #[test]
    fn carries_reach_the_next_digit() {
        let mut decimal = Decimal::new(998);
        for expected in ["999", "1000", "1001"] {
            decimal.increment();
            assert_eq!(decimal.as_bytes(), expected.as_bytes());
        }
    }
}
