//! Cases as text: what a report prints and what a regression case is.
//!
//! Lines of `name = value`, and comments. What is not named has its usual value: zero, RFLAGS 0x202, the x87 as after FNINIT, memory pristine.
//!
//! ```text
//!  code = 48 0f bc c3            # bsf rax,rbx
//!  at = 0x10000800
//!  rbx = 0x10
//!  xmm0 = 0x3f800000
//!  st0 = 3fff:8000000000000000
//!  memory 0x20000400 = 00 01 …   # 64 bytes
//! ```

use std::fmt::Write;

use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};

use crate::{
    case::{Case, Float, PATCH_BYTES, Patch},
    compare::GENERAL_NAMES,
    layout::{CODE, RFLAGS},
};

/// What is wrong with a regression case's text.
#[derive(Debug, thiserror::Error)]
#[error("Line {line} is no part of a case: {text:?}")]
pub struct Unreadable {
    line: usize,
    text: String,
}

/// One line for each instruction.
#[must_use]
pub fn disassembly(case: &Case) -> Vec<String> {
    let mut formatter = NasmFormatter::new();
    let decoder = Decoder::with_ip(64, &case.code, case.code_at, DecoderOptions::NONE);
    decoder
        .into_iter()
        .map(|instruction| {
            let mut text = String::new();
            formatter.format(&instruction, &mut text);
            format!("{text}  ({:?})", instruction.code())
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

/// A case as text.
#[must_use]
pub fn write(case: &Case) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name} = {value}").expect("a string takes everything");
    };
    line("code", &hex(&case.code));
    line("at", &format!("{:#x}", case.code_at));
    line("rflags", &format!("{:#x}", case.rflags));
    for (name, value) in GENERAL_NAMES.iter().zip(&case.general) {
        if *value != 0 {
            line(name, &format!("{value:#x}"));
        }
    }
    let (float, usual) = (&case.float, Float::default());
    for (name, value, usual) in [
        ("mxcsr", float.mxcsr, usual.mxcsr),
        (
            "x87_control",
            u32::from(float.control),
            u32::from(usual.control),
        ),
        (
            "x87_status",
            u32::from(float.status),
            u32::from(usual.status),
        ),
        (
            "x87_in_use",
            u32::from(float.in_use),
            u32::from(usual.in_use),
        ),
    ] {
        if value != usual {
            line(name, &format!("{value:#x}"));
        }
    }
    for (index, value) in float
        .xmm
        .iter()
        .enumerate()
        .filter(|(_, value)| **value != 0)
    {
        line(&format!("xmm{index}"), &format!("{value:#x}"));
    }
    for (index, value) in float
        .st
        .iter()
        .enumerate()
        .filter(|(_, st)| **st != [0; 10])
    {
        line(&format!("st{index}"), &crate::compare::extended(value));
    }
    for patch in &case.patches {
        line(&format!("memory {:#x}", patch.at), &hex(&patch.bytes));
    }
    text
}

/// A case from text.
///
/// # Errors
/// If a line has another form.
pub fn read(text: &str) -> Result<Case, Unreadable> {
    let mut case = Case {
        code: Vec::new(),
        code_at: CODE + 0x800,
        general: [0; 16],
        rflags: RFLAGS,
        float: Float::default(),
        patches: Vec::new(),
    };
    for (index, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        let unreadable = || Unreadable {
            line: index + 1,
            text: line.to_owned(),
        };
        let (name, value) = content.split_once('=').ok_or_else(unreadable)?;
        set(&mut case, name.trim(), value.trim()).ok_or_else(unreadable)?;
    }
    Ok(case)
}

fn set(case: &mut Case, name: &str, value: &str) -> Option<()> {
    if let Some(register) = GENERAL_NAMES.iter().position(|general| *general == name) {
        case.general[register] = number(value)? as u64;
        return Some(());
    }
    if let Some(register) = numbered(name, "xmm", 16) {
        case.float.xmm[register] = number(value)?;
        return Some(());
    }
    match name {
        "code" => case.code = bytes(value)?,
        "at" => case.code_at = number(value)? as u64,
        "rflags" => case.rflags = number(value)? as u64,
        "mxcsr" => case.float.mxcsr = number(value)? as u32,
        "x87_control" => case.float.control = number(value)? as u16,
        "x87_status" => case.float.status = number(value)? as u16,
        "x87_in_use" => case.float.in_use = number(value)? as u8,
        _ => {
            if let Some(address) = name.strip_prefix("memory ") {
                let bytes: [u8; PATCH_BYTES] = bytes(value)?.try_into().ok()?;
                case.patches.push(Patch {
                    at: number(address)? as u64,
                    bytes,
                });
                return Some(());
            }
            let register = numbered(name, "st", 8)?;
            let (top, mantissa) = value.split_once(':')?;
            let top = u16::from_str_radix(top, 16).ok()?;
            let mantissa = u64::from_str_radix(mantissa, 16).ok()?;
            case.float.st[register][..8].copy_from_slice(&mantissa.to_le_bytes());
            case.float.st[register][8..].copy_from_slice(&top.to_le_bytes());
        }
    }
    Some(())
}

fn numbered(name: &str, prefix: &str, count: usize) -> Option<usize> {
    let number: usize = name.strip_prefix(prefix)?.parse().ok()?;
    (number < count).then_some(number)
}

fn number(text: &str) -> Option<u128> {
    u128::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Generator;

    #[test]
    fn what_is_written_can_be_read() {
        let generator = Generator::new(3, |_| true);
        for number in 0..500 {
            let case = generator.case(number);
            assert_eq!(read(&write(&case)).expect("a case"), case);
        }
    }

    #[test]
    fn a_line_that_says_nothing_is_refused() {
        assert!(read("code = 90\nrax").is_err());
        assert!(read("xmm16 = 0x0").is_err());
        assert!(read("memory 0x20000000 = 00").is_err());
    }
}
