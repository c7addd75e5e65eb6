//! Writes small ELF files for the tests of the loader.

use object::elf::{
    self, FileHeader32, FileHeader64, Ident, ProgramHeader32, ProgramHeader64, SectionHeader64,
    Sym64,
};
use object::pod::{bytes_of, bytes_of_slice};
use object::{LittleEndian as LE, U16, U32, U64};

/// Where the program headers stand in the file.
pub const PROGRAM_HEADERS: usize = size_of::<FileHeader64<LE>>();

/// An ELF file in the making. Every section gets a segment of its own.
#[derive(Clone, Default)]
pub struct TestElf {
    entry: u64,
    sections: Vec<TestSection>,
    symbols: Vec<TestSymbol>,
}

#[derive(Clone)]
struct TestSection {
    address: u64,
    bytes: Vec<u8>,
    /// Bytes of the segment in memory past those in the file.
    zeros: u64,
    flags: u32,
    /// Type of the segment.
    segment: u32,
}

#[derive(Clone)]
struct TestSymbol {
    name: String,
    kind: u8,
    section: u16,
    address: u64,
}

impl TestElf {
    /// The first section begins with the entry point.
    pub fn code(address: u64, bytes: &[u8]) -> Self {
        let elf = Self {
            entry: address,
            ..Self::default()
        };
        elf.section(address, bytes, 0, elf::SHF_ALLOC | elf::SHF_EXECINSTR)
    }

    /// One more executable section.
    pub fn more_code(self, address: u64, bytes: &[u8]) -> Self {
        self.section(address, bytes, 0, elf::SHF_ALLOC | elf::SHF_EXECINSTR)
    }

    /// A writable section with `zeros` more bytes in memory than in the file.
    pub fn data(self, address: u64, bytes: &[u8], zeros: u64) -> Self {
        self.section(address, bytes, zeros, elf::SHF_ALLOC | elf::SHF_WRITE)
    }

    /// A note of Xen's of type 18: the PVH entry point is at the address that `value` holds.
    pub fn pvh_note(mut self, value: &[u8]) -> Self {
        let mut note = Vec::new();
        for word in [4, value.len() as u32, 18] {
            note.extend_from_slice(&word.to_le_bytes());
        }
        note.extend_from_slice(b"Xen\0");
        note.extend_from_slice(value);
        self = self.section(0, &note, 0, 0);
        self.sections.last_mut().unwrap().segment = elf::PT_NOTE;
        self
    }

    /// A function that begins at `address`, in the section that was added last.
    pub fn function(self, name: &str, address: u64) -> Self {
        self.symbol(name, elf::STT_FUNC, address)
    }

    /// A variable in the section that was added last.
    pub fn object(self, name: &str, address: u64) -> Self {
        self.symbol(name, elf::STT_OBJECT, address)
    }

    fn section(mut self, address: u64, bytes: &[u8], zeros: u64, flags: u32) -> Self {
        self.sections.push(TestSection {
            address,
            bytes: bytes.to_vec(),
            zeros,
            flags,
            segment: elf::PT_LOAD,
        });
        self
    }

    fn symbol(mut self, name: &str, kind: u8, address: u64) -> Self {
        let section = u16::try_from(self.sections.len()).unwrap();
        self.symbols.push(TestSymbol {
            name: name.into(),
            kind,
            section,
            address,
        });
        self
    }

    /// Where in the built file the content of section `index` (from 0) stands.
    pub fn content_offset(&self, index: usize) -> usize {
        let headers = PROGRAM_HEADERS + self.sections.len() * size_of::<ProgramHeader64<LE>>();
        headers
            + self.sections[..index]
                .iter()
                .map(|section| section.bytes.len())
                .sum::<usize>()
    }

    /// The same as a 32-bit file, without sections and symbols.
    pub fn build_32(&self) -> Vec<u8> {
        let narrow = |value: u64| U32::new(LE, u32::try_from(value).unwrap());
        let headers = size_of::<FileHeader32<LE>>();
        let mut offset = headers + self.sections.len() * size_of::<ProgramHeader32<LE>>();
        let mut file = bytes_of(&self.file_header_32()).to_vec();
        for section in &self.sections {
            let size = section.bytes.len() as u64;
            file.extend_from_slice(bytes_of(&ProgramHeader32 {
                p_type: U32::new(LE, section.segment),
                p_offset: narrow(offset as u64),
                p_vaddr: narrow(section.address),
                p_paddr: narrow(section.address),
                p_filesz: narrow(size),
                p_memsz: narrow(size + section.zeros),
                p_flags: U32::new(LE, elf::PF_R | elf::PF_X),
                p_align: U32::new(LE, 1),
            }));
            offset += section.bytes.len();
        }
        for section in &self.sections {
            file.extend_from_slice(&section.bytes);
        }
        file
    }

    fn file_header_32(&self) -> FileHeader32<LE> {
        let header = self.file_header(0);
        FileHeader32 {
            e_ident: Ident {
                class: elf::ELFCLASS32,
                ..header.e_ident
            },
            e_type: header.e_type,
            e_machine: U16::new(LE, elf::EM_386),
            e_version: header.e_version,
            e_entry: U32::new(LE, u32::try_from(self.entry).unwrap()),
            e_phoff: U32::new(LE, size_of::<FileHeader32<LE>>() as u32),
            e_shoff: U32::new(LE, 0),
            e_flags: header.e_flags,
            e_ehsize: U16::new(LE, 52),
            e_phentsize: U16::new(LE, 32),
            e_phnum: header.e_phnum,
            e_shentsize: U16::new(LE, 40),
            e_shnum: U16::new(LE, 0),
            e_shstrndx: U16::new(LE, 0),
        }
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let symbols = self.content_offset(self.sections.len());
        let names: Vec<u8> = std::iter::once(0)
            .chain(
                self.symbols
                    .iter()
                    .flat_map(|s| [s.name.as_bytes(), b"\0"].concat()),
            )
            .collect();
        let table = self.symbol_table();
        let section_headers = symbols + bytes_of_slice(&table).len() + names.len();
        let mut file = bytes_of(&self.file_header(section_headers as u64)).to_vec();
        file.extend_from_slice(bytes_of_slice(&self.program_headers()));
        self.sections
            .iter()
            .for_each(|section| file.extend_from_slice(&section.bytes));
        file.extend_from_slice(bytes_of_slice(&table));
        file.extend_from_slice(&names);
        file.extend_from_slice(bytes_of_slice(&self.section_headers(
            symbols,
            table.len(),
            names.len(),
        )));
        file
    }

    fn file_header(&self, section_headers: u64) -> FileHeader64<LE> {
        let sections = u16::try_from(self.sections.len()).unwrap();
        FileHeader64 {
            e_ident: Ident {
                magic: elf::ELFMAG,
                class: elf::ELFCLASS64,
                data: elf::ELFDATA2LSB,
                version: elf::EV_CURRENT,
                os_abi: 0,
                abi_version: 0,
                padding: [0; 7],
            },
            e_type: U16::new(LE, elf::ET_EXEC),
            e_machine: U16::new(LE, elf::EM_X86_64),
            e_version: U32::new(LE, 1),
            e_entry: U64::new(LE, self.entry),
            e_phoff: U64::new(LE, PROGRAM_HEADERS as u64),
            e_shoff: U64::new(LE, section_headers),
            e_flags: U32::new(LE, 0),
            e_ehsize: U16::new(LE, 64),
            e_phentsize: U16::new(LE, 56),
            e_phnum: U16::new(LE, sections),
            e_shentsize: U16::new(LE, 64),
            // The null section, symbols and names.
            e_shnum: U16::new(LE, sections + 3),
            e_shstrndx: U16::new(LE, sections + 2),
        }
    }

    fn program_headers(&self) -> Vec<ProgramHeader64<LE>> {
        let header = |(index, section): (usize, &TestSection)| ProgramHeader64 {
            p_type: U32::new(LE, section.segment),
            p_flags: U32::new(LE, elf::PF_R | elf::PF_X),
            p_offset: U64::new(LE, self.content_offset(index) as u64),
            p_vaddr: U64::new(LE, section.address),
            p_paddr: U64::new(LE, section.address),
            p_filesz: U64::new(LE, section.bytes.len() as u64),
            p_memsz: U64::new(LE, section.bytes.len() as u64 + section.zeros),
            p_align: U64::new(LE, 1),
        };
        self.sections.iter().enumerate().map(header).collect()
    }

    fn symbol_table(&self) -> Vec<Sym64<LE>> {
        let mut name = 1;
        let mut table = vec![symbol(0, 0, 0, 0)];
        for entry in &self.symbols {
            table.push(symbol(name, entry.kind, entry.section, entry.address));
            name += u32::try_from(entry.name.len()).unwrap() + 1;
        }
        table
    }

    fn section_headers(
        &self,
        symbols: usize,
        count: usize,
        names: usize,
    ) -> Vec<SectionHeader64<LE>> {
        let names_index = u32::try_from(self.sections.len()).unwrap() + 2;
        let symbols_size = count * size_of::<Sym64<LE>>();
        let mut table = vec![section_header(elf::SHT_NULL, 0, 0, 0, 0)];
        for (index, section) in self.sections.iter().enumerate() {
            let offset = self.content_offset(index);
            table.push(section_header(
                elf::SHT_PROGBITS,
                section.flags,
                section.address,
                offset,
                section.bytes.len(),
            ));
        }
        let mut symbol_table = section_header(elf::SHT_SYMTAB, 0, 0, symbols, symbols_size);
        symbol_table.sh_link = U32::new(LE, names_index);
        symbol_table.sh_entsize = U64::new(LE, size_of::<Sym64<LE>>() as u64);
        table.push(symbol_table);
        table.push(section_header(
            elf::SHT_STRTAB,
            0,
            0,
            symbols + symbols_size,
            names,
        ));
        table
    }
}

fn symbol(name: u32, kind: u8, section: u16, address: u64) -> Sym64<LE> {
    Sym64 {
        st_name: U32::new(LE, name),
        st_info: elf::STB_GLOBAL << 4 | kind,
        st_other: 0,
        st_shndx: U16::new(LE, section),
        st_value: U64::new(LE, address),
        st_size: U64::new(LE, 0),
    }
}

fn section_header(
    kind: u32,
    flags: u32,
    address: u64,
    offset: usize,
    size: usize,
) -> SectionHeader64<LE> {
    SectionHeader64 {
        sh_name: U32::new(LE, 0),
        sh_type: U32::new(LE, kind),
        sh_flags: U64::new(LE, u64::from(flags)),
        sh_addr: U64::new(LE, address),
        sh_offset: U64::new(LE, offset as u64),
        sh_size: U64::new(LE, size as u64),
        sh_link: U32::new(LE, 0),
        sh_info: U32::new(LE, 0),
        sh_addralign: U64::new(LE, 1),
        sh_entsize: U64::new(LE, 0),
    }
}
