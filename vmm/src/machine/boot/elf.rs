//! Checks on the kernel's ELF file, before anything of it is loaded.
//!
//! In: the bytes of the file. Out: the entry point, and segments that are known to lie inside the
//! file, above 1 MiB, inside guest memory and apart from each other. `linux-loader` does the copying afterwards; it
//! checks little by itself.

use object::LittleEndian;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

use super::{BootError, HIGH_MEMORY_START};

type Header = FileHeader64<LittleEndian>;
type Segment = ProgramHeader64<LittleEndian>;
const ENDIAN: LittleEndian = LittleEndian;

/// A kernel file of the right kind, with its loadable segments.
pub struct Kernel<'a> {
    entry: u64,
    /// `PT_LOAD` segments that occupy memory, by physical address.
    segments: Vec<&'a Segment>,
}

impl<'a> Kernel<'a> {
    /// Reads the headers and checks all that can be checked without knowing the guest's memory.
    pub fn parse(image: &'a [u8]) -> Result<Self, BootError> {
        check_kind(image)?;
        let header = Header::parse(image).map_err(malformed("ELF header"))?;
        let mut segments: Vec<_> = header
            .program_headers(ENDIAN, image)
            .map_err(malformed("program headers"))?
            .iter()
            .filter(|segment| segment.p_type(ENDIAN) == elf::PT_LOAD && segment.p_memsz(ENDIAN) > 0)
            .collect();
        segments.sort_by_key(|segment| segment.p_paddr(ENDIAN));
        let kernel = Self {
            entry: header.e_entry(ENDIAN),
            segments,
        };
        kernel.check_segments(image)?;
        kernel.check_entry()?;
        Ok(kernel)
    }

    /// Where execution begins: a physical address.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// First address after the last segment, if all of them fit into memory that ends at `memory_end`.
    pub fn check_fits(&self, memory_end: u64) -> Result<u64, BootError> {
        let mut end = HIGH_MEMORY_START;
        for segment in &self.segments {
            let (address, size) = (segment.p_paddr(ENDIAN), segment.p_memsz(ENDIAN));
            match address.checked_add(size) {
                Some(segment_end) if segment_end <= memory_end => end = segment_end,
                _ => {
                    return Err(BootError::SegmentOutOfRange {
                        address,
                        size,
                        memory: memory_end,
                    });
                }
            }
        }
        Ok(end)
    }

    fn check_segments(&self, image: &[u8]) -> Result<(), BootError> {
        if self.segments.is_empty() {
            return Err(BootError::NoSegments);
        }
        for segment in &self.segments {
            check_segment(segment, image)?;
        }
        for pair in self.segments.windows(2) {
            let (first, second) = (pair[0].p_paddr(ENDIAN), pair[1].p_paddr(ENDIAN));
            if second - first < pair[0].p_memsz(ENDIAN) {
                return Err(BootError::SegmentsOverlap { first, second });
            }
        }
        Ok(())
    }

    fn check_entry(&self) -> Result<(), BootError> {
        let inside = |segment: &&Segment| {
            let offset = self.entry.checked_sub(segment.p_paddr(ENDIAN));
            offset.is_some_and(|offset| offset < segment.p_filesz(ENDIAN))
        };
        match self.segments.iter().any(inside) {
            true => Ok(()),
            false => Err(BootError::EntryOutside { entry: self.entry }),
        }
    }
}

fn check_segment(segment: &Segment, image: &[u8]) -> Result<(), BootError> {
    let address = segment.p_paddr(ENDIAN);
    let (in_file, in_memory) = (segment.p_filesz(ENDIAN), segment.p_memsz(ENDIAN));
    if in_file > in_memory {
        return Err(BootError::SegmentSize {
            address,
            in_file,
            in_memory,
        });
    }
    if address < HIGH_MEMORY_START {
        return Err(BootError::SegmentTooLow { address });
    }
    match segment.data(ENDIAN, image) {
        Ok(_) => Ok(()),
        Err(()) => Err(BootError::Malformed {
            part: "segments",
            source: None,
        }),
    }
}

/// The first 20 bytes say what kind of file it is (System V ABI, "ELF Header").
fn check_kind(image: &[u8]) -> Result<(), BootError> {
    if !image.starts_with(&elf::ELFMAG) {
        return Err(BootError::NotElf {
            found: guess(image),
        });
    }
    let class = image.get(4).copied().unwrap_or_default();
    let data = image.get(5).copied().unwrap_or_default();
    let half_word = |at: usize| {
        image
            .get(at..at + 2)
            .map_or(0, |word| u16::from_le_bytes([word[0], word[1]]))
    };
    let found = if class != elf::ELFCLASS64 {
        format!("not a 64-bit ELF file (class {class})")
    } else if data != elf::ELFDATA2LSB {
        format!("not little-endian (data encoding {data})")
    } else if half_word(18) != elf::EM_X86_64 {
        format!("for another processor (machine {})", half_word(18))
    } else if half_word(16) != elf::ET_EXEC {
        format!(
            "not linked to a fixed address (type {}; link it static and without PIE)",
            half_word(16)
        )
    } else {
        return Ok(());
    };
    Err(BootError::WrongKind { found })
}

fn guess(image: &[u8]) -> &'static str {
    match image {
        [] => "the file is empty",
        // boot.rst, "The Real-Mode Kernel Header": the magic number at 0x202.
        _ if image.get(0x202..0x206) == Some(b"HdrS") => "it is a bzImage",
        [0x1F, 0x8B, ..] => "it is compressed with gzip",
        _ => "its magic number is another",
    }
}

/// Says which part of the file could not be read.
pub fn malformed(part: &'static str) -> impl Fn(object::read::Error) -> BootError {
    move |source| BootError::Malformed {
        part,
        source: Some(source),
    }
}
