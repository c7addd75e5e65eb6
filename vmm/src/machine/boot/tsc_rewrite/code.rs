//! The executable sections of an ELF file, and the symbols in them.

use std::collections::BTreeMap;

use object::LittleEndian;
use object::elf::{self, FileHeader64, SectionHeader64, Sym64};
use object::read::elf::{FileHeader, SectionHeader, Sym, SymbolTable};

use super::super::BootError;
use super::super::elf::malformed;

type Header = FileHeader64<LittleEndian>;
const ENDIAN: LittleEndian = LittleEndian;

/// The executable sections of a file. They do not overlap.
pub struct Code<'a> {
    /// In the file's order.
    sections: Vec<Section<'a>>,
    /// Function and untyped symbols in these sections, sorted.
    symbols: Vec<Symbol<'a>>,
    table: SymbolTable<'a, Header>,
}

/// An executable section.
pub struct Section<'a> {
    /// In the section table.
    index: usize,
    /// Address at which it was linked. `address + bytes.len()` does not overflow.
    pub address: u64,
    file_offset: usize,
    /// Its content.
    pub bytes: &'a [u8],
}

#[derive(Clone, Copy)]
struct Symbol<'a> {
    /// Index of its section in the section table.
    section: usize,
    address: u64,
    symbol: &'a Sym64<LittleEndian>,
}

impl<'a> Code<'a> {
    /// Finds executable sections and their symbols.
    pub fn parse(image: &'a [u8]) -> Result<Self, BootError> {
        let header = Header::parse(image).map_err(malformed("ELF header"))?;
        let table = header
            .sections(ENDIAN, image)
            .map_err(malformed("section headers"))?;
        let mut sections = Vec::new();
        for (index, section) in table.enumerate() {
            if is_code(section) {
                sections.push(Section::parse(index.0, section, image)?);
            }
        }
        if sections.is_empty() {
            return Err(BootError::NoSections);
        }
        sections.sort_by_key(|section| section.file_offset);
        check_apart(&sections)?;
        let symbol_table = table
            .symbols(ENDIAN, image, elf::SHT_SYMTAB)
            .map_err(malformed("symbol table"))?;
        let symbols = code_symbols(&sections, &symbol_table);
        Ok(Self {
            sections,
            symbols,
            table: symbol_table,
        })
    }

    /// The executable sections, in the file's order.
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    /// Address of the last symbol of `section` at or before `address`.
    pub fn symbol_before(&self, section: &Section, address: u64) -> Option<u64> {
        self.last_symbol(section, address)
            .map(|symbol| symbol.address)
    }

    /// `address` in words: `symbol+0x12`.
    pub fn describe(&self, section: &Section, address: u64) -> String {
        let Some(symbol) = self.last_symbol(section, address) else {
            return format!(
                "no symbol before it in its section at {:#x}",
                section.address
            );
        };
        let name = symbol
            .symbol
            .name(ENDIAN, self.table.strings())
            .unwrap_or_default();
        format!(
            "{}+{:#x}",
            String::from_utf8_lossy(name),
            address - symbol.address
        )
    }

    fn last_symbol(&self, section: &Section, address: u64) -> Option<&Symbol<'a>> {
        let after = self
            .symbols
            .partition_point(|symbol| (symbol.section, symbol.address) <= (section.index, address));
        self.symbols[..after]
            .last()
            .filter(|symbol| symbol.section == section.index)
    }
}

impl<'a> Section<'a> {
    fn parse(
        index: usize,
        header: &SectionHeader64<LittleEndian>,
        image: &'a [u8],
    ) -> Result<Self, BootError> {
        const PART: &str = "executable sections";
        let bytes = header.data(ENDIAN, image).map_err(malformed(PART))?;
        let address = header.sh_addr(ENDIAN);
        let file_offset = usize::try_from(header.sh_offset(ENDIAN));
        match (file_offset, address.checked_add(bytes.len() as u64)) {
            (Ok(file_offset), Some(_)) => Ok(Self {
                index,
                address,
                file_offset,
                bytes,
            }),
            _ => Err(BootError::Malformed {
                part: PART,
                source: None,
            }),
        }
    }

    /// Where in the file the byte at `address` stands.
    pub fn file_offset_of(&self, address: u64) -> usize {
        self.file_offset + self.offset_of(address)
    }

    /// Where in [`Self::bytes`] the byte at `address` stands.
    pub fn offset_of(&self, address: u64) -> usize {
        usize::try_from(address - self.address).expect("an address inside the section")
    }
}

/// Whether the section is code that is loaded and present in the file.
fn is_code(section: &SectionHeader64<LittleEndian>) -> bool {
    let wanted = u64::from(elf::SHF_ALLOC | elf::SHF_EXECINSTR);
    section.sh_flags(ENDIAN) & wanted == wanted
        && section.sh_type(ENDIAN) != elf::SHT_NOBITS
        && section.sh_size(ENDIAN) > 0
}

/// Sections that share bytes would have to be judged together, and could make the work unbounded.
fn check_apart(sections: &[Section]) -> Result<(), BootError> {
    for pair in sections.windows(2) {
        if pair[0].file_offset + pair[0].bytes.len() > pair[1].file_offset {
            return Err(BootError::SectionsOverlap {
                first: pair[0].address,
                second: pair[1].address,
            });
        }
    }
    Ok(())
}

fn code_symbols<'a>(sections: &[Section], table: &SymbolTable<'a, Header>) -> Vec<Symbol<'a>> {
    let homes: BTreeMap<usize, &Section> = sections
        .iter()
        .map(|section| (section.index, section))
        .collect();
    let mut symbols: Vec<_> = table
        .iter()
        .filter(|symbol| matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_NOTYPE))
        .filter_map(|symbol| {
            let section = usize::from(symbol.st_shndx(ENDIAN));
            let address = symbol.st_value(ENDIAN);
            let offset = address.checked_sub(homes.get(&section)?.address)?;
            let inside = offset < homes[&section].bytes.len() as u64;
            inside.then_some(Symbol {
                section,
                address,
                symbol,
            })
        })
        .collect();
    symbols.sort_by_key(|symbol| (symbol.section, symbol.address));
    symbols
}
