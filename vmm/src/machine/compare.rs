//! Two machines side by side: in what their states differ.
//!
//! In: two machines of the same memory size. Out: [`StateDifference`], or nothing. What always holds: nothing of either changes.

use std::fmt;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::{Machine, PAGE_BYTES};
use crate::engine::{Engine, EngineError, Registers};

/// Memory is compared in pieces of this size, bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// Differing pages that are named; the others are counted.
const NAMED_PAGES: usize = 8;

/// A register that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterDifference {
    /// Its name.
    pub name: &'static str,
    /// What the one machine has.
    pub expected: u64,
    /// What the other machine has.
    pub actual: u64,
}

/// A page of memory that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageDifference {
    /// Guest-physical address of the first byte that differs.
    pub address: u64,
    /// That byte in the one machine.
    pub expected: u8,
    /// That byte in the other machine.
    pub actual: u8,
    /// Bytes of the page that differ.
    pub bytes: usize,
}

/// In what two machines differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateDifference {
    /// General and control registers, in their order.
    pub registers: Vec<RegisterDifference>,
    /// Whether x87 or SSE registers differ.
    pub floating_point: bool,
    /// Whether the devices, or the guest's clock, differ.
    pub devices: bool,
    /// The first pages that differ, in ascending order.
    pub pages: Vec<PageDifference>,
    /// How many pages differ in all.
    pub page_count: usize,
}

impl StateDifference {
    /// In what `actual` differs from `expected`; `None` if in nothing.
    ///
    /// # Errors
    /// If an engine cannot tell its registers.
    ///
    /// # Panics
    /// If their memories are not of one size.
    pub fn between<E: Engine>(
        expected: &mut Machine<E>,
        actual: &mut Machine<E>,
    ) -> Result<Option<Self>, EngineError> {
        let mut difference = Self {
            registers: registers(&expected.engine.registers()?, &actual.engine.registers()?),
            floating_point: expected.engine.floating_point()? != actual.engine.floating_point()?,
            devices: expected.devices != actual.devices || expected.clock != actual.clock,
            ..Self::default()
        };
        difference.compare_memory(expected, actual);
        Ok((difference != Self::default()).then_some(difference))
    }

    fn compare_memory<E: Engine>(&mut self, expected: &Machine<E>, actual: &Machine<E>) {
        let size = expected.memory.last_addr().0 + 1;
        assert_eq!(
            size,
            actual.memory.last_addr().0 + 1,
            "memories of one size"
        );
        let mut chunks = [vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]];
        for address in (0..size).step_by(CHUNK_BYTES) {
            let bytes = (size - address).min(CHUNK_BYTES as u64) as usize;
            for (chunk, machine) in chunks.iter_mut().zip([expected, actual]) {
                chunk.truncate(bytes);
                machine
                    .memory
                    .read_slice(chunk, GuestAddress(address))
                    .expect("the range lies in guest memory");
            }
            let [one, other] = &chunks;
            if one != other {
                self.compare_pages(address, one, other);
            }
        }
    }

    fn compare_pages(&mut self, address: u64, expected: &[u8], actual: &[u8]) {
        let pages = expected.chunks(PAGE_BYTES).zip(actual.chunks(PAGE_BYTES));
        for (index, (one, other)) in pages.enumerate() {
            let differs = |at: &usize| one[*at] != other[*at];
            let Some(first) = (0..one.len()).find(differs) else {
                continue;
            };
            self.page_count += 1;
            if self.pages.len() < NAMED_PAGES {
                self.pages.push(PageDifference {
                    address: address + (index * PAGE_BYTES + first) as u64,
                    expected: one[first],
                    actual: other[first],
                    bytes: (0..one.len()).filter(differs).count(),
                });
            }
        }
    }
}

fn registers(expected: &Registers, actual: &Registers) -> Vec<RegisterDifference> {
    let pairs = expected.named().into_iter().zip(actual.named());
    let differing = pairs.filter(|(one, other)| one.1 != other.1);
    let named = differing.map(|((name, expected), (_, actual))| RegisterDifference {
        name,
        expected,
        actual,
    });
    named.collect()
}

/// A line for each difference.
impl fmt::Display for StateDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut line = |text: fmt::Arguments<'_>| {
            let written = write!(f, "{separator}{text}");
            separator = "\n";
            written
        };
        for RegisterDifference {
            name,
            expected,
            actual,
        } in &self.registers
        {
            line(format_args!(
                "{name}: expected {expected:#x}, got {actual:#x}"
            ))?;
        }
        if self.floating_point {
            line(format_args!("x87 or SSE registers"))?;
        }
        if self.devices {
            line(format_args!("devices, or the guest's clock"))?;
        }
        for page in &self.pages {
            line(format_args!(
                "memory at {:#x}: expected {:#04x}, got {:#04x}, {} bytes of its page",
                page.address, page.expected, page.actual, page.bytes
            ))?;
        }
        let others = self.page_count - self.pages.len();
        if others > 0 {
            line(format_args!("and {others} more pages of memory"))?;
        }
        Ok(())
    }
}
