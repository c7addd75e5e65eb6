//! Kernels that are ELF files: the checks before anything of one is loaded, and the loading.
//!
//! In: the bytes of the file. Out: its entry points, and segments that are known to lie inside the
//! file, above 1 MiB, inside guest memory and apart from each other. 32-bit files can be entered through PVH alone.

use std::ops::Range;

use crate::machine::GuestMemory;
use object::LittleEndian;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use vm_memory::{Bytes, GuestAddress};

use super::{BootError, HIGH_MEMORY_START};

const ENDIAN: LittleEndian = LittleEndian;
/// The note whose value is the address of the 32-bit entry point (Xen, `include/public/elfnote.h`).
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
const XEN: &[u8] = b"Xen";

/// A kernel file of the right kind, with its loadable segments.
pub struct Kernel {
    /// Whether the file, and with it the code at its own entry point, is 64-bit.
    pub is_64_bit: bool,
    entry: u64,
    pvh_entry: Option<u32>,
    /// `PT_LOAD` segments that occupy memory, by physical address.
    segments: Vec<Segment>,
}

struct Segment {
    address: u64,
    in_memory: u64,
    /// Where its bytes are in the file: not more than `in_memory`.
    in_file: Range<usize>,
}

impl Kernel {
    /// Reads the headers and checks all that can be checked without knowing the guest's memory.
    pub fn parse(image: &[u8]) -> Result<Self, BootError> {
        let kernel = if check_kind(image)? {
            Self::read::<FileHeader64<LittleEndian>>(image)?
        } else {
            Self::read::<FileHeader32<LittleEndian>>(image)?
        };
        kernel.check_segments()?;
        Ok(kernel)
    }

    fn read<Header: FileHeader<Endian = LittleEndian>>(image: &[u8]) -> Result<Self, BootError> {
        let header = Header::parse(image).map_err(malformed("ELF header"))?;
        let headers = header
            .program_headers(ENDIAN, image)
            .map_err(malformed("program headers"))?;
        let mut segments = Vec::new();
        for header in headers {
            if header.p_type(ENDIAN) == elf::PT_LOAD && header.p_memsz(ENDIAN).into() > 0 {
                segments.push(read_segment(header, image)?);
            }
        }
        segments.sort_by_key(|segment| segment.address);
        Ok(Self {
            is_64_bit: header.is_type_64(),
            entry: header.e_entry(ENDIAN).into(),
            pvh_entry: headers
                .iter()
                .find_map(|header| pvh_entry::<Header>(header, image)),
            segments,
        })
    }

    /// Where 64-bit execution begins, a physical address; or why it cannot.
    pub fn entry_64(&self) -> Result<u64, BootError> {
        if !self.is_64_bit {
            return Err(BootError::No64BitEntry);
        }
        self.check_entry(self.entry)?;
        Ok(self.entry)
    }

    /// Where 32-bit execution begins by the PVH protocol; or why it cannot.
    pub fn entry_pvh(&self) -> Result<u32, BootError> {
        let entry = self.pvh_entry.ok_or(BootError::NoPvhEntry)?;
        self.check_entry(entry.into())?;
        Ok(entry)
    }

    /// First address after the last segment, if all of them fit into memory that ends at `memory_end`.
    pub fn check_fits(&self, memory_end: u64) -> Result<u64, BootError> {
        let mut end = HIGH_MEMORY_START;
        for segment in &self.segments {
            match segment.address.checked_add(segment.in_memory) {
                Some(segment_end) if segment_end <= memory_end => end = segment_end,
                _ => {
                    return Err(BootError::SegmentOutOfRange {
                        address: segment.address,
                        size: segment.in_memory,
                        memory: memory_end,
                    });
                }
            }
        }
        Ok(end)
    }

    /// Copies the segments of `image`, the file that this was parsed from or one with the same headers. They were found to fit.
    pub fn load(&self, memory: &GuestMemory, image: &[u8]) -> Result<(), BootError> {
        // What is in memory alone is zero already.
        for segment in &self.segments {
            memory
                .write_slice(
                    &image[segment.in_file.clone()],
                    GuestAddress(segment.address),
                )
                .map_err(|source| BootError::Write {
                    what: "the kernel",
                    source,
                })?;
        }
        Ok(())
    }

    fn check_segments(&self) -> Result<(), BootError> {
        if self.segments.is_empty() {
            return Err(BootError::NoSegments);
        }
        for pair in self.segments.windows(2) {
            let (first, second) = (pair[0].address, pair[1].address);
            if second - first < pair[0].in_memory {
                return Err(BootError::SegmentsOverlap { first, second });
            }
        }
        Ok(())
    }

    fn check_entry(&self, entry: u64) -> Result<(), BootError> {
        let inside = |segment: &Segment| {
            let offset = entry.checked_sub(segment.address);
            offset.is_some_and(|offset| offset < segment.in_file.len() as u64)
        };
        match self.segments.iter().any(inside) {
            true => Ok(()),
            false => Err(BootError::EntryOutside { entry }),
        }
    }
}

fn read_segment<Header: ProgramHeader<Endian = LittleEndian>>(
    header: &Header,
    image: &[u8],
) -> Result<Segment, BootError> {
    let address = header.p_paddr(ENDIAN).into();
    let (in_file, in_memory) = (
        header.p_filesz(ENDIAN).into(),
        header.p_memsz(ENDIAN).into(),
    );
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
    let start = usize::try_from(header.p_offset(ENDIAN).into()).ok();
    let length = usize::try_from(in_file).ok();
    let range = start
        .zip(length)
        .and_then(|(start, length)| Some(start..start.checked_add(length)?))
        .filter(|range| range.end <= image.len())
        .ok_or(BootError::Malformed {
            part: "segments",
            source: None,
        })?;
    Ok(Segment {
        address,
        in_memory,
        in_file: range,
    })
}

/// The PVH entry point, if it is in this segment's notes. Notes that cannot be read are none: they are for many readers.
fn pvh_entry<Header: FileHeader<Endian = LittleEndian>>(
    segment: &Header::ProgramHeader,
    image: &[u8],
) -> Option<u32> {
    let mut notes = segment.notes(ENDIAN, image).ok()??;
    while let Some(note) = notes.next().ok()? {
        if note.name() == XEN && note.n_type(ENDIAN) == XEN_ELFNOTE_PHYS32_ENTRY {
            // 32-bit files have 4 bytes here, 64-bit files 4 or 8.
            return match *note.desc() {
                [a, b, c, d] | [a, b, c, d, 0, 0, 0, 0] => Some(u32::from_le_bytes([a, b, c, d])),
                _ => None,
            };
        }
    }
    None
}

/// Whether the file is 64-bit. The first 20 bytes say what kind of file it is (System V ABI, "ELF Header").
fn check_kind(image: &[u8]) -> Result<bool, BootError> {
    if !image.starts_with(&elf::ELFMAG) {
        return Err(BootError::UnknownFormat {
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
    let (kind, machine) = (half_word(16), half_word(18));
    let found = if data != elf::ELFDATA2LSB {
        format!("not little-endian (data encoding {data})")
    } else if !matches!(
        (class, machine),
        (elf::ELFCLASS64, elf::EM_X86_64) | (elf::ELFCLASS32, elf::EM_386)
    ) {
        format!("for another processor (class {class}, machine {machine})")
    } else if kind != elf::ET_EXEC {
        format!("not linked to a fixed address (type {kind}; link it static and without PIE)")
    } else {
        return Ok(class == elf::ELFCLASS64);
    };
    Err(BootError::WrongKind { found })
}

fn guess(image: &[u8]) -> &'static str {
    match image {
        [] => "the file is empty",
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
