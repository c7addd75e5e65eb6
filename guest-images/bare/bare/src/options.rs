//! The kernel command line as options: words `key=value` between blanks, the last one wins.

/// A command line and the questions a guest asks it.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    line: &'a [u8],
}

impl<'a> Options<'a> {
    /// Options of one command line (without its terminating zero).
    #[must_use]
    pub const fn new(line: &'a [u8]) -> Self {
        Self { line }
    }

    /// The value of `key`, if it is given.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&'a [u8]> {
        self.line
            .split(u8::is_ascii_whitespace)
            .filter_map(|word| word.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
            .next_back()
    }

    /// The number `key` is set to; `default` where it is absent or no decimal number.
    #[must_use]
    pub fn number(&self, key: &str, default: u64) -> u64 {
        self.value(key).and_then(parse_number).unwrap_or(default)
    }

    /// The IPv4 address `key` is set to, with or without a `/prefix`.
    #[must_use]
    pub fn address(&self, key: &str) -> Option<[u8; 4]> {
        let value = self.value(key)?;
        let address = value.split(|&byte| byte == b'/').next()?;
        parse_address(address)
    }
}

fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn parse_address(text: &[u8]) -> Option<[u8; 4]> {
    let mut parts = text.split(|&byte| byte == b'.');
    let mut address = [0; 4];
    for byte in &mut address {
        *byte = u8::try_from(parse_number(parts.next()?)?).ok()?;
    }
    parts.next().is_none().then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_values_by_whole_keys() {
        let options = Options::new(b"console=ttyS0 xcount=7  count=12\tnet.ip=172.31.0.2");
        assert_eq!(options.number("count", 1), 12);
        assert_eq!(options.number("hz", 100), 100);
        assert_eq!(options.value("console"), Some(&b"ttyS0"[..]));
        assert_eq!(options.address("net.ip"), Some([172, 31, 0, 2]));
    }

    #[test]
    fn the_last_word_wins() {
        assert_eq!(Options::new(b"count=1 count=2").number("count", 9), 2);
    }

    #[test]
    fn nonsense_gives_the_default() {
        for line in [
            "count",
            "count=",
            "count=x",
            "count=-1",
            "count=99999999999999999999",
        ] {
            assert_eq!(
                Options::new(line.as_bytes()).number("count", 5),
                5,
                "{line}"
            );
        }
        for line in [
            "ip=1.2.3",
            "ip=1.2.3.4.5",
            "ip=1.2.3.256",
            "ip=1..3.4",
            "ip=",
        ] {
            assert_eq!(Options::new(line.as_bytes()).address("ip"), None, "{line}");
        }
        assert_eq!(
            Options::new(b"ip=10.0.0.1/24").address("ip"),
            Some([10, 0, 0, 1])
        );
    }

    proptest! {
        #[test]
        fn any_line_is_answered(line: Vec<u8>, number: u64) {
            let options = Options::new(&line);
            let _ = (options.number("a", number), options.address("b"));
            let line = format!("x=1 number={number}");
            prop_assert_eq!(Options::new(line.as_bytes()).number("number", 0), number);
        }
    }
}
