//! Names for guest addresses, from a kernel's `System.map` or the symbol table of its ELF file.
//!
//! In: text or an ELF image. Out: `name+0x12` for an address. What always holds: names are for people; nothing that a guest does depends on them.

use std::path::{Path, PathBuf};

use object::{Object, ObjectSymbol, SymbolKind};

/// A name is only given to an address that lies at most so far behind its symbol: further on, it is somebody else's memory.
const MAX_DISTANCE_BYTES: u64 = 1 << 20;

/// Symbols cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    /// The file cannot be read.
    #[error("Cannot read the symbols in {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The host's answer.
        source: std::io::Error,
    },
    /// A line that is not `ADDRESS TYPE NAME`.
    #[error("Line {line} of {path} is not one of a System.map: {text:?}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The line's beginning.
        text: String,
    },
}

/// Where functions begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// Sorted by address.
    functions: Vec<(u64, String)>,
}

impl Symbols {
    fn new(mut functions: Vec<(u64, String)>) -> Self {
        functions.sort_by_key(|(address, _)| *address);
        Self { functions }
    }

    /// Reads a `System.map`.
    ///
    /// # Errors
    /// See [`SymbolError`].
    pub fn read_system_map(path: &Path) -> Result<Self, SymbolError> {
        let text = std::fs::read_to_string(path).map_err(|source| SymbolError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut functions = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let Some((address, kind, name)) = map_line(line) else {
                return Err(SymbolError::Malformed {
                    path: path.to_owned(),
                    line: index + 1,
                    text: line.chars().take(60).collect(),
                });
            };
            // Text, also weak.
            if matches!(kind, "t" | "T" | "w" | "W") {
                functions.push((address, name.to_owned()));
            }
        }
        Ok(Self::new(functions))
    }

    /// The functions of an ELF image; none if it is another kind of file, or stripped.
    #[must_use]
    pub fn of_elf(image: &[u8]) -> Self {
        let Ok(file) = object::File::parse(image) else {
            return Self::default();
        };
        let functions = file.symbols().filter(|symbol| {
            // Assembly leaves its labels without type and size: they count as definitions nowhere.
            matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown)
                && symbol.section_index().is_some()
        });
        let named = functions.filter_map(|symbol| {
            let name = symbol.name().ok().filter(|name| !name.is_empty())?;
            Some((symbol.address(), name.to_owned()))
        });
        Self::new(named.collect())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// `name+0x12`, or `name` at its very beginning.
    #[must_use]
    pub fn name(&self, address: u64) -> Option<String> {
        let after = self
            .functions
            .partition_point(|(begin, _)| *begin <= address);
        let (begin, name) = self.functions.get(after.checked_sub(1)?)?;
        match address - begin {
            0 => Some(name.clone()),
            distance @ 1..=MAX_DISTANCE_BYTES => Some(format!("{name}+{distance:#x}")),
            _ => None,
        }
    }

    /// Every function with where it begins, in ascending order.
    pub fn functions(&self) -> impl Iterator<Item = (u64, &str)> {
        let functions = self.functions.iter();
        functions.map(|(address, name)| (*address, name.as_str()))
    }

    /// Where a function begins.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<u64> {
        let mut functions = self.functions.iter();
        functions
            .find(|(_, candidate)| candidate == name)
            .map(|(address, _)| *address)
    }
}

/// `ffffffff81000000 T _text`, with an optional `[module]` behind it.
fn map_line(line: &str) -> Option<(u64, &str, &str)> {
    let mut words = line.split_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    Some((address, words.next()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn map(text: &str) -> Result<Symbols, SymbolError> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("it is written");
        Symbols::read_system_map(file.path())
    }

    #[test]
    fn addresses_are_named_by_the_function_before_them() {
        let symbols =
            map("ffffffff81000100 t second\nffffffff81000000 T first\nffffffff81000080 d data\n")
                .expect("a map");
        let name = |address| symbols.name(address);
        assert_eq!(name(0xFFFF_FFFF_8100_0000).as_deref(), Some("first"));
        assert_eq!(name(0xFFFF_FFFF_8100_00FF).as_deref(), Some("first+0xff"));
        assert_eq!(name(0xFFFF_FFFF_8100_0110).as_deref(), Some("second+0x10"));
        assert_eq!(name(0xFFFF_FFFF_80FF_FFFF), None);
        assert_eq!(name(0xFFFF_FFFF_9000_0000), None, "too far away");
        assert_eq!(symbols.address("second"), Some(0xFFFF_FFFF_8100_0100));
    }

    #[test]
    fn what_is_no_map_is_refused_with_its_line() {
        let error = map("ffffffff81000000 T first\nhello\n").expect_err("no map");
        assert!(error.to_string().contains("Line 2 of"), "{error}");
        assert!(matches!(
            Symbols::read_system_map(Path::new("/nonexistent")),
            Err(SymbolError::Read { .. })
        ));
    }

    #[test]
    fn an_elf_file_names_its_own_functions() {
        let itself = std::fs::read("/proc/self/exe").expect("this very program");
        let symbols = Symbols::of_elf(&itself);
        assert!(!symbols.is_empty());
        assert!(Symbols::of_elf(b"no ELF file").is_empty());
    }
}
